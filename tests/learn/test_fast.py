"""The fast learner is the plain one: the same numbers after a hundred updates, in every setting."""

import copy
from pathlib import Path

import pytest
import torch

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import TermSpec
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot
from dsac_robot.learn.checkpoint import load, save_atomically
from dsac_robot.learn.dsac_t import Batch, DsacT, DsacTConfig
from dsac_robot.learn.fast import FastDsacT
from dsac_robot.learn.networks import Features
from dsac_robot.learn.policy import make, make_plain_learner

PLAIN = (TermSpec("x", (17,), ""),)


def built(engine: type[DsacT], specs: tuple[TermSpec, ...], actions: int, **settings: object) -> DsacT:
    torch.manual_seed(3)
    config = DsacTConfig(**({"hidden": (64, 48, 32)} | settings))  # type: ignore[arg-type]
    return engine(Features(specs, ActionMap((-1.0, -1.0), (1.0, 1.0))), actions, config)


def batch_of(inputs: int, actions: int, seed: int, count: int = 64) -> Batch:
    g = torch.Generator().manual_seed(seed)
    observation, following = torch.rand(2, count, inputs, generator=g)
    action = 2.0 * torch.rand(count, actions, generator=g) - 1.0
    done = (torch.rand(count, generator=g) < 0.1).float()
    steps = torch.randint(1, 4, (count,), generator=g).float()
    return Batch(observation, action, torch.randn(count, generator=g), following, done, steps)


def train(made: DsacT, inputs: int, actions: int, updates: int = 100) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(4)
    return [made.update(batch_of(inputs, actions, seed)) for seed in range(updates)]


def largest_difference(one: DsacT, other: DsacT) -> float:
    pairs = [(one.log_alpha, other.log_alpha), (one.sigma_mean, other.sigma_mean)]
    pairs += [(one.sigma_square, other.sigma_square)]
    for part in ("critics", "actor", "target_critics", "target_actor"):
        pairs += zip(getattr(one, part).parameters(), getattr(other, part).parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


SETTINGS = [
    {},
    {"hidden": (256, 256, 256)},
    {"twin": False},
    {"expected_value": False},
    {"variance_adjusted": False},
    {"policy_delay": 1, "hidden": (32,)},
    {"gamma": 0.9, "tau": 0.1, "critic_lr": 1e-3, "actor_lr": 1e-3, "log_alpha_init": -2.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_fast_learner_equals_the_plain_one_after_100_updates(settings: dict[str, object]) -> None:
    plain, fast = built(DsacT, PLAIN, 6, **settings), built(FastDsacT, PLAIN, 6, **settings)
    untrained = copy.deepcopy(plain)
    told = [train(made, 17, 6) for made in (plain, fast)]
    assert largest_difference(plain, fast) < 1e-5 < largest_difference(plain, untrained)
    for one, other in zip(*told, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-4)


def test_it_does_so_through_the_features_of_the_robots_own_observation(
    robot: Robot, specs: tuple[TermSpec, ...]
) -> None:
    plain, fast = built(DsacT, specs, 2), built(FastDsacT, specs, 2)
    inputs = plain.actor.features.inputs
    for made in (plain, fast):
        train(made, inputs, 2)
    assert largest_difference(plain, fast) < 1e-5


def test_both_draw_the_same_random_numbers() -> None:
    streams = []
    for engine in (DsacT, FastDsacT):
        train(built(engine, PLAIN, 6), 17, 6, updates=5)
        streams.append(torch.get_rng_state())
    assert torch.equal(*streams)


def test_a_checkpoint_of_one_engine_continues_on_the_other() -> None:
    plain, fast = built(DsacT, PLAIN, 6), built(FastDsacT, PLAIN, 6)
    train(plain, 17, 6, updates=20)
    train(fast, 17, 6, updates=3)  # has buffers and copies of its own by now
    fast.load_state_dict(copy.deepcopy(plain.state_dict()))
    for made in (plain, fast):
        train(made, 17, 6, updates=20)
    assert largest_difference(plain, fast) < 1e-5


def test_a_checkpoint_of_the_fast_engine_continues_on_the_plain_one_from_the_disk(tmp_path: Path) -> None:
    plain, fast = built(DsacT, PLAIN, 6), built(FastDsacT, PLAIN, 6)
    train(fast, 17, 6, updates=20)
    save_atomically(fast.state_dict(), tmp_path / "checkpoint.pt")
    plain.load_state_dict(load(tmp_path / "checkpoint.pt"))
    steps = [state["step"] for state in plain.critic_optimizer.state_dict()["state"].values()]
    assert [float(step) for step in steps] == [20.0] * len(steps)
    for made in (plain, fast):
        train(made, 17, 6, updates=20)
    assert largest_difference(plain, fast) < 1e-5


def test_a_batch_of_another_size_makes_the_buffers_anew() -> None:
    plain, fast = built(DsacT, PLAIN, 6), built(FastDsacT, PLAIN, 6)
    for made in (plain, fast):
        torch.manual_seed(0)
        for seed, count in enumerate((64, 64, 32, 32, 64, 64)):
            made.update(batch_of(17, 6, seed, count))
    assert largest_difference(plain, fast) < 1e-5


def test_bf16_follows_fp32_at_its_own_precision_and_keeps_its_parameters_in_fp32() -> None:
    plain, fast = built(DsacT, PLAIN, 6), built(FastDsacT, PLAIN, 6, precision="bf16")
    told = [train(made, 17, 6) for made in (plain, fast)]
    assert 1e-5 < largest_difference(plain, fast) < 3e-3  # 100 steps of 1e-4
    assert all(p.dtype == torch.float32 for p in fast.critics.parameters())
    for name in ("q", "sigma", "y_q"):
        torch.testing.assert_close(told[0][-1][name], told[1][-1][name], rtol=0.02, atol=0.05)


def test_the_engine_is_chosen_by_the_settings_and_a_plain_one_in_bf16_is_refused() -> None:
    assert type(make_plain_learner(3, 2, DsacTConfig())) is FastDsacT
    assert type(make_plain_learner(3, 2, DsacTConfig(engine="plain"))) is DsacT
    features = Features(PLAIN, ActionMap((-1.0, -1.0), (1.0, 1.0)))
    with pytest.raises(ParameterError, match="bf16 needs engine fast"):
        make(features, 2, DsacTConfig(engine="plain", precision="bf16"))
