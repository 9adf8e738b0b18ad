"""Evaluation: whole episodes with the mode of the policy, on starts of its own, without touching the training."""

import csv
import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dsac_robot.learn.dsac_t import DsacT, DsacTConfig
from dsac_robot.learn.evaluation import Evaluator
from dsac_robot.learn.policy import make_plain_learner
from dsac_robot.learn.replay import Replay
from dsac_robot.learn.seeds import Stream, seed_of
from dsac_robot.learn.trainer import Trainer, TrainerConfig
from sim.gym_env import GymParams, make_gym_env
from sim.vector import ProcessVectorEnv

FACTORY = functools.partial(make_gym_env, GymParams("tests.tiny_env:Reach-v0"))
CONFIG = TrainerConfig(
    updates=25, environments=2, batch=8, warmup_steps=20, replay=1000, eval_updates=10, eval_episodes=3, seed=4
)


def learner(seed: int = 0) -> DsacT:
    torch.manual_seed(seed)
    return make_plain_learner(2, 1, DsacTConfig(hidden=(16,), actor_lr=0.01))


def train(out: Path, config: TrainerConfig = CONFIG) -> Trainer:
    envs = ProcessVectorEnv([FACTORY] * config.environments)
    made = learner(config.seed)
    evaluator = Evaluator(FACTORY, config.eval_episodes, config.seed) if config.eval_updates else None
    try:
        trainer = Trainer(made, envs, Replay(config.replay, 2, 1, config.seed), config, out, evaluator)
        assert trainer.run()
    finally:
        envs.close()
    return trainer


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_an_evaluation_is_the_mode_of_the_policy_played_by_hand() -> None:
    actor = learner().actor
    result = Evaluator(FACTORY, 3, seed=7)(actor)
    returns = []
    for episode in range(3):
        env = FACTORY()
        observation, _ = env.reset(seed=seed_of(7, Stream.EVALUATION) + episode)
        total, over = 0.0, False
        while not over:
            with torch.no_grad():
                action = actor.mode(torch.from_numpy(observation[None]))[0].numpy()
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    np.testing.assert_allclose(result.returns, returns, rtol=1e-5)
    assert len(set(returns)) == 3  # three different starts
    assert result.lengths.tolist() == [10, 10, 10] and result.costs.tolist() == [10, 10, 10]
    told = result.summary()
    assert told["return"] == np.mean(result.returns) and told["return_max"] == result.returns.max()
    assert told["success"] + told["timeouts"] == 1.0 and set(result.outcomes) <= {"success", "timeout"}


def test_the_same_policy_gets_the_same_result_again_and_other_seeds_get_other_starts() -> None:
    actor = learner().actor
    evaluator = Evaluator(FACTORY, 2, seed=7)
    first, again = evaluator(actor), evaluator(actor)
    np.testing.assert_array_equal(first.returns, again.returns)
    assert not np.array_equal(first.returns, Evaluator(FACTORY, 2, seed=8)(actor).returns)


def test_evaluations_are_logged_at_the_start_every_n_updates_and_at_the_end(tmp_path: Path) -> None:
    train(tmp_path)
    table, episodes = rows(tmp_path / "eval.csv"), rows(tmp_path / "eval_episodes.csv")
    assert [row["updates"] for row in table] == ["0", "10", "20", "25"]
    assert [row["steps"] for row in table] == ["0", "40", "60", "70"]
    assert [row["updates"] for row in episodes] == ["0"] * 3 + ["10"] * 3 + ["20"] * 3 + ["25"] * 3
    last = [float(row["return"]) for row in episodes[-3:]]
    assert float(table[-1]["return"]) == np.mean(last) and float(table[-1]["return_min"]) == min(last)
    assert len({row["return"] for row in table}) > 1  # the policy changed


def test_evaluating_does_not_change_what_is_learned(tmp_path: Path) -> None:
    with_evaluation = train(tmp_path / "with")
    without = train(tmp_path / "without", replace(CONFIG, eval_updates=0))
    for one, other in zip(
        with_evaluation.learner.critics.parameters(), without.learner.critics.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert not (tmp_path / "without/eval.csv").exists()


def test_runs_with_neighbouring_seeds_and_the_parts_of_a_run_share_no_seed() -> None:
    seeds = {
        seed_of(seed, stream, part) + i
        for seed in range(20)
        for stream in Stream
        for part in (0, 1000)
        for i in range(16)
    }
    assert len(seeds) == 20 * len(Stream) * 2 * 16
    assert min(seeds) >= 0 and max(seeds) < 2**31 - 1
