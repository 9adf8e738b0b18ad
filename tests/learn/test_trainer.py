"""The training loop on the real environment: stored transitions, checkpoints that resume, checks for finite numbers."""

import csv
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dsac_robot.core.observation import ObservationLayout
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.learn.dsac_t import DsacTConfig
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


def trainer(envs: ProcessVectorEnv, robot: Robot, out: Path, config: TrainerConfig = CONFIG, seed: int = 0) -> Trainer:
    torch.manual_seed(seed)
    learner = make_learner(robot, ObservationLayout(), DsacTConfig(hidden=(16,)))
    replay = Replay(1000, envs.observation_space.shape[0], 2, seed)
    return Trainer(learner, envs, replay, config, out)


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


def test_numbers_that_are_not_finite_stop_the_run_and_keep_the_last_good_state(
    envs: ProcessVectorEnv, robot: Robot, tmp_path: Path
) -> None:
    made = trainer(envs, robot, tmp_path, replace(CONFIG, updates=101))
    made.learner.updates = 98
    made.save()
    with torch.no_grad():
        made.learner.critics.weights[0].fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"q.*not finite at update 100.*checkpoint\.pt"):
        made.run()
    restored = trainer(envs, robot, tmp_path)
    restored.load()
    assert all(torch.isfinite(p).all() for p in restored.learner.critics.parameters())


def test_nothing_to_resume_is_said_with_the_next_step(envs: ProcessVectorEnv, robot: Robot, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="start without --resume"):
        trainer(envs, robot, tmp_path).load()
