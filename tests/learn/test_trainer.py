"""The training loop on the real environment: stored transitions, checkpoints that resume, checks for finite numbers."""

import csv
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsac_robot.core.observation import ObservationLayout
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.learn import checkpoint
from dsac_robot.learn.dsac_t import DsacTConfig
from dsac_robot.learn.health import Unhealthy
from dsac_robot.learn.policy import make_learner
from dsac_robot.learn.replay import Replay
from dsac_robot.learn.trainer import Trainer, TrainerConfig
from sim.navigate import NavigateEnv, NavigateEnvParams
from sim.vector import ProcessVectorEnv

CONFIG = TrainerConfig(updates=8, environments=2, batch=8, warmup_steps=20, snapshot_updates=100)


@pytest.fixture(scope="module")
def envs() -> Iterator[ProcessVectorEnv]:
    """Two environments in a worker process, with episodes of 0.8 s."""
    factory = functools.partial(NavigateEnv, load_robot("jackal"), params=NavigateEnvParams(time_limit_s=0.8))
    made = ProcessVectorEnv([factory, factory])
    yield made
    made.close()


def trainer(
    envs: ProcessVectorEnv,
    robot: Robot,
    out: Path,
    config: TrainerConfig = CONFIG,
    seed: int = 0,
    learner: DsacTConfig = DsacTConfig(hidden=(16,)),
) -> Trainer:
    torch.manual_seed(seed)
    out.mkdir(exist_ok=True)
    replay = Replay(1000, envs.observation_space.shape[0], 2, seed)
    return Trainer(make_learner(robot, ObservationLayout(), learner), envs, replay, config, out)


def parameters(made: Trainer) -> list[torch.Tensor]:
    learner = made.learner
    modules = (learner.critics, learner.actor, learner.target_critics, learner.target_actor)
    moments = [m for o in (learner.critic_optimizer, learner.actor_optimizer) for m in o.state_dict()["state"].values()]
    return [
        *(p for module in modules for p in module.parameters()),
        *(value for moment in moments for value in moment.values()),
        learner.log_alpha,
        learner.sigma_mean,
        learner.sigma_square,
    ]


def test_a_run_trains_logs_and_saves_and_a_resumed_one_goes_on_from_there(
    envs: ProcessVectorEnv, robot: Robot, tmp_path: Path
) -> None:
    first = trainer(envs, robot, tmp_path)
    first.run()
    assert first.learner.updates == 8 and first.steps == 20 + 2 * 8
    assert np.isfinite(first.replay.state_dict()["rows"]).all()
    assert first.replay.size == first.steps and not first.replay.column("done").any()  # truncated by time
    action = first.replay.column("action")
    assert np.abs(action).max() <= 1.0 and action.std() > 0.3
    with open(tmp_path / "progress.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[-1]["updates"] == "8" and rows[-1]["steps"] == "36.0" and float(rows[-1]["timeouts"]) == 1.0
    assert list(tmp_path.glob("events.out.tfevents.*"))

    second = trainer(envs, robot, tmp_path, replace(CONFIG, updates=12), seed=1)
    second.load()
    assert (second.learner.updates, second.steps, second.replay.size) == (8, 36, 36)
    for one, other in zip(parameters(first), parameters(second), strict=True):
        assert torch.equal(one, other)
    second.run()
    assert (second.learner.updates, second.steps) == (12, 44)


def test_the_last_observation_of_an_episode_is_stored_not_the_first_of_the_next(
    envs: ProcessVectorEnv, robot: Robot, tmp_path: Path
) -> None:
    made = trainer(envs, robot, tmp_path, replace(CONFIG, updates=1, warmup_steps=40))
    made.run()
    before, after = made.replay.column("observation"), made.replay.column("next_observation")
    # The stack's second frame is the first of a tick ago, in every transition: no new world in between.
    np.testing.assert_array_equal(after[:, 36:72], before[:, :36])
    chained = (after[:-2] == before[2:]).all(axis=1)  # two environments take turns
    assert chained.any() and not chained.all()


def same(one: Any, other: Any, where: str = "state") -> None:
    """Equal to the last bit, in whatever is nested."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, np.ndarray):
        assert one.tobytes() == other.tobytes(), where
    else:
        assert one == other, where


@pytest.mark.parametrize(("engine", "precision"), [("plain", "fp32"), ("fast", "fp32"), ("fast", "bf16")])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_last_bit(
    envs: ProcessVectorEnv, robot: Robot, tmp_path: Path, engine: str, precision: str
) -> None:
    """Networks, optimisers, replay, averages, all random streams, and the environments in the middle of an episode."""
    settings = DsacTConfig(hidden=(16,), n_step=3, engine=engine, precision=precision)
    config = replace(CONFIG, updates=17)  # 0.8 s are 8 steps: saved in the middle of an episode
    whole = trainer(envs, robot, tmp_path / "whole", replace(config, updates=34), learner=settings)
    whole.run()
    first = trainer(envs, robot, tmp_path / "parts", config, learner=settings)
    first.run()
    second = trainer(envs, robot, tmp_path / "parts", replace(config, updates=34), seed=5, learner=settings)
    second.load()
    second.run()
    saved = [checkpoint.load(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts")]
    assert len(saved[0]["environments"][0]["actions"]) > 0 and saved[0]["n_step"][0]
    same(*saved)


def test_with_another_number_of_environments_new_episodes_begin(
    envs: ProcessVectorEnv, robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = trainer(envs, robot, tmp_path)
    first.run()
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    checkpoint.save_atomically(saved | {"environments": saved["environments"][:1]}, tmp_path / "checkpoint.pt")
    second = trainer(envs, robot, tmp_path, replace(CONFIG, updates=10))
    second.load()
    assert "2 environments, 1 when it was saved: new episodes begin" in capsys.readouterr().err
    second.run()
    assert second.learner.updates == 10


def test_numbers_that_are_not_finite_stop_the_run_and_keep_the_last_good_state(
    envs: ProcessVectorEnv, robot: Robot, tmp_path: Path
) -> None:
    made = trainer(envs, robot, tmp_path, replace(CONFIG, updates=101))
    made.learner.updates = 98
    made.save()
    with torch.no_grad():
        made.learner.critics.weights[0][0, 0, 0] = float("nan")
    with pytest.raises(Unhealthy, match=r"q = nan.* at update 99; not finite: .*critics\.weights\.0.*checkpoint\.pt"):
        made.run()
    with pytest.raises(Unhealthy, match=r"not saved: .*critics\.weights\.0"):
        made.save()
    restored = trainer(envs, robot, tmp_path)
    restored.load()
    assert all(torch.isfinite(p).all() for p in restored.learner.critics.parameters())
    assert restored.learner.updates == 98


def test_a_collapse_is_told_and_noted_and_the_run_goes_on(
    envs: ProcessVectorEnv, robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(envs, robot, tmp_path, replace(CONFIG, updates=102))
    made.learner.updates = 98
    with torch.no_grad():
        made.learner.log_alpha.fill_(-20.0)
    made.run()
    assert made.learner.updates == 102
    assert "ALERT: alpha" in capsys.readouterr().err
    with open(tmp_path / "alerts.csv", encoding="utf-8") as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == ["alpha"]


def test_nothing_to_resume_is_said_with_the_next_step(envs: ProcessVectorEnv, robot: Robot, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="start without --resume"):
        trainer(envs, robot, tmp_path).load()
