"""DSAC-T: its numbers against the paper's equations worked out by hand, and sigma on a problem whose noise is known."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import TermSpec
from dsac_robot.learn.calibration import one_step_sigma, reach_score
from dsac_robot.learn.dsac_t import Batch, DsacT, DsacTConfig
from dsac_robot.learn.networks import Features

NO_ENTROPY = -100.0  # log alpha: alpha is 0 in float32


def learner(hidden: tuple[int, ...] = (8,), inputs: int = 1, action_dim: int = 1, **settings: Any) -> DsacT:
    """A learner over raw inputs (no feature rule applies to them)."""
    torch.manual_seed(0)
    features = Features((TermSpec("x", (inputs,), ""),), ActionMap((-1.0, -1.0), (1.0, 1.0)))
    return DsacT(features, action_dim, DsacTConfig(hidden=hidden, **settings))


def set_values(made: DsacT, slopes: tuple[float, float], sigmas: tuple[float, float]) -> None:
    """Give the target critics (without hidden layers) the values Q_i = slope_i * x and constant sigma_i."""
    with torch.no_grad():
        made.target_critics.weights[0].zero_()
        made.target_critics.biases[0].zero_()
        for i in range(2):
            made.target_critics.weights[0][i, 0, 0] = slopes[i]
            made.target_critics.biases[0][i, 0, 1] = math.log(math.expm1(sigmas[i]))  # softplus gives sigma


def batch_of(count: int, seed: int = 1, done: float = 0.0, action_dim: int = 1) -> Batch:
    g = torch.Generator().manual_seed(seed)
    x, following = torch.randn(2, count, 1, generator=g)
    action = 2.0 * torch.rand(count, action_dim, generator=g) - 1.0
    return Batch(x, action, torch.randn(count, generator=g), following, torch.full((count,), done), torch.ones(count))


def test_the_critics_gradient_is_the_papers_worked_out_by_hand() -> None:
    made = learner()
    made.sigma_mean = torch.tensor([0.2, 0.5])  # b = 0.6 and 1.5
    made.sigma_square = torch.tensor([0.5, 1.0])  # omega + 0.1 = 0.6 and 1.1
    q = torch.tensor([[1.0, -1.0], [0.0, 1.0]], requires_grad=True)
    sigma = torch.tensor([[0.5, 1.0], [2.0, 0.1]], requires_grad=True)
    made.critic_loss(q, sigma, y_q=torch.tensor([2.0, -1.5]), y_z=torch.tensor([4.0, -1.25])).backward()
    # First entry: y_z = 4 is clipped to 1 + 0.6. Mean: -0.6 / 2 * (2 - 1) / (0.25 + 0.1).
    # Sigma: -0.6 / 2 * (0.6^2 - 0.25) / (0.125 + 0.1). The others likewise; the last is clipped from below.
    expected_q = [[-0.8571428571, 0.1363636364], [-0.2682926829, 12.5]]
    expected_sigma = [[-0.1466666667, 0.2556818182], [0.1188271605, -12.1980198]]
    torch.testing.assert_close(q.grad, torch.tensor(expected_q), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sigma.grad, torch.tensor(expected_sigma), rtol=1e-5, atol=1e-6)


def critic_gradient(**settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """That of the test above, under other settings."""
    made = learner(**settings)
    count = made.critics.count
    made.sigma_mean, made.sigma_square = torch.tensor([0.2, 0.5])[:count], torch.tensor([0.5, 1.0])[:count]
    q, sigma = torch.tensor([[1.0, -1.0], [0.0, 1.0]])[:count], torch.tensor([[0.5, 1.0], [2.0, 0.1]])[:count]
    return made.critic_gradient(q, sigma, torch.tensor([2.0, -1.5]), torch.tensor([4.0, -1.25]))


def test_without_expected_value_substitution_the_mean_follows_the_sampled_target() -> None:
    d_q, d_sigma = critic_gradient(expected_value=False)
    # -0.6 / 2 * (4 - 1) / 0.35 and -0.6 / 2 * (-1.25 + 1) / 1.1; -1.1 / 2 * 4 / 4.1 and 1.1 / 2 * 2.25 / 0.11
    expected = [[-2.5714285714, 0.0681818182], [-0.5365853659, 11.25]]
    torch.testing.assert_close(d_q, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert torch.equal(d_sigma, critic_gradient()[1])  # nothing else changes


def test_without_variance_based_adjustment_bound_and_scale_are_constants() -> None:
    d_q, d_sigma = critic_gradient(variance_adjusted=False, clip_bound=2.0)
    # Scale 1. First entry: y_z - Q = 3 is clipped to 2: -1 / 2 * (4 - 0.25) / 0.225. Below: clipped to 2 and to -2.
    expected_q = [[-0.5 * 1.0 / 0.35, 0.5 * 0.5 / 1.1], [-0.5 * 2.0 / 4.1, 0.5 * 2.5 / 0.11]]
    expected_sigma = [[-0.5 * 3.75 / 0.225, 0.5 * 0.9375 / 1.1], [0.0, -0.5 * 3.99 / 0.101]]
    torch.testing.assert_close(d_q, torch.tensor(expected_q), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(d_sigma, torch.tensor(expected_sigma), rtol=1e-5, atol=1e-6)


def test_without_twins_there_is_one_critic_and_it_is_the_target_and_what_the_actor_climbs() -> None:
    made = learner(hidden=(), twin=False, log_alpha_init=NO_ENTROPY, gamma=0.9, actor_lr=0.02, critic_lr=1e-7)
    assert made.critics.count == 1 and made.sigma_mean.shape == (1,)
    with torch.no_grad():
        made.target_critics.weights[0].zero_()
        made.target_critics.weights[0][0, 0, 0] = 1.0
        made.critics.weights[0].zero_()
        made.critics.weights[0][0, 1, 0] = 4.0  # Q = 4 a
    batch = batch_of(16)
    bias = made.target_critics.biases[0][0, 0, 0]
    torch.testing.assert_close(made.targets(batch)[0], batch.reward + 0.9 * (batch.next_observation[:, 0] + bias))
    before = made.actor.mode(torch.zeros(1, 1)).item()
    for update in range(20):
        made.update(batch_of(32, update))
    assert made.actor.mode(torch.zeros(1, 1)).item() > before + 0.1


def test_over_n_steps_the_value_behind_them_is_discounted_n_times() -> None:
    made = learner(hidden=(), log_alpha_init=NO_ENTROPY, gamma=0.9)
    set_values(made, slopes=(1.0, 1.0), sigmas=(0.5, 0.5))
    batch = replace(batch_of(3), steps=torch.tensor([1.0, 2.0, 5.0]))
    expected = batch.reward + torch.tensor([0.9, 0.81, 0.59049]) * batch.next_observation[:, 0]
    torch.testing.assert_close(made.targets(batch)[0], expected)


def test_the_moving_averages_start_at_the_first_batch_and_then_follow_at_their_rate() -> None:
    made = learner(tau=0.25)
    mean, square = torch.zeros(2), torch.zeros(2)
    for update in range(4):
        batch = batch_of(16, seed=update)
        with torch.no_grad():
            sigma = made.critics(batch.observation, batch.action)[1]
        rate = 0.25 if update else 1.0
        mean = mean + rate * (sigma.mean(dim=1) - mean)
        square = square + rate * ((sigma**2).mean(dim=1) - square)
        made.update(batch)
        torch.testing.assert_close(made.sigma_mean, mean)
        torch.testing.assert_close(made.sigma_square, square)


def test_targets_come_from_the_critic_with_the_lower_mean_sample_by_sample() -> None:
    made = learner(hidden=(), log_alpha_init=NO_ENTROPY, gamma=0.9)
    set_values(made, slopes=(1.0, -1.0), sigmas=(0.5, 2.0))
    count = 20_000
    batch = batch_of(count)
    y_q, y_z = made.targets(batch)
    x = batch.next_observation[:, 0]
    torch.testing.assert_close(y_q, batch.reward - 0.9 * x.abs(), rtol=1e-5, atol=1e-5)
    noise = (y_z - y_q) / 0.9
    assert noise[x < 0].std().item() == pytest.approx(0.5, rel=0.03)  # critic 0 has the lower mean here
    assert noise[x > 0].std().item() == pytest.approx(2.0, rel=0.03)
    for side, sigma in ((x < 0, 0.5), (x > 0, 2.0)):  # 27 in 10,000 normal draws lie beyond 3 sigma
        assert noise[side].abs().max().item() == pytest.approx(3.0 * sigma, rel=1e-4)


def test_both_targets_subtract_the_entropy_term_of_the_target_actor() -> None:
    made = learner(log_alpha_init=math.log(0.3), gamma=0.9)
    batch = batch_of(32)
    torch.manual_seed(7)
    y_q, y_z = made.targets(batch)
    torch.manual_seed(7)
    with torch.no_grad():
        action, log_prob = made.target_actor.sample(batch.next_observation)
        q, sigma = made.target_critics(batch.next_observation, action)
        noise = torch.randn(32).clamp(-3.0, 3.0)
    lower = torch.where(q[0] <= q[1], 0, 1)
    q_min, sigma_min = q[lower, torch.arange(32)], sigma[lower, torch.arange(32)]
    torch.testing.assert_close(y_q, batch.reward + 0.9 * (q_min - 0.3 * log_prob))
    torch.testing.assert_close(y_z, batch.reward + 0.9 * (q_min + sigma_min * noise - 0.3 * log_prob))


def test_a_terminated_episode_ends_the_value_and_a_truncated_one_bootstraps() -> None:
    made = learner(hidden=(), log_alpha_init=NO_ENTROPY, gamma=0.9)
    set_values(made, slopes=(1.0, -1.0), sigmas=(0.5, 0.5))
    ended = batch_of(8, done=1.0)
    y_q, y_z = made.targets(ended)
    assert torch.equal(y_q, ended.reward) and torch.equal(y_z, ended.reward)
    assert (made.targets(batch_of(8, done=0.0))[0] < ended.reward).all()  # the next value is -|x|


def test_actor_temperature_and_targets_wait_for_every_second_update() -> None:
    made = learner(tau=0.1)
    actor, targets = copy.deepcopy(made.actor.state_dict()), copy.deepcopy(made.target_critics.state_dict())
    alpha, critics = made.log_alpha.item(), copy.deepcopy(made.critics.state_dict())

    def same(now: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(now[name], before[name]) for name in before)

    made.update(batch_of(16, 1))
    assert same(made.actor.state_dict(), actor) and same(made.target_critics.state_dict(), targets)
    assert made.log_alpha.item() == alpha and not same(made.critics.state_dict(), critics)
    made.update(batch_of(16, 2))
    assert not same(made.actor.state_dict(), actor) and made.log_alpha.item() != alpha
    for target, source, before in (
        (made.target_critics, made.critics, targets),
        (made.target_actor, made.actor, actor),
    ):
        for name, value in target.state_dict().items():
            if name in dict(target.named_parameters()):
                expected = before[name] + 0.1 * (source.state_dict()[name] - before[name])
                torch.testing.assert_close(value, expected)


def test_the_actor_climbs_the_lower_mean_and_leaves_the_critics_alone() -> None:
    made = learner(hidden=(), log_alpha_init=NO_ENTROPY, actor_lr=0.02, critic_lr=1e-7)
    with torch.no_grad():
        made.critics.weights[0].zero_()
        made.critics.weights[0][0, 1, 0] = -1.0  # Q_0 = -a: the lower one everywhere
        made.critics.weights[0][1, 1, 0] = 4.0  # Q_1 = 4 a + 5
        made.critics.biases[0][1, 0, 0] = 5.0
    before = made.actor.mode(torch.zeros(1, 1)).item()
    for update in range(60):
        made.update(batch_of(32, update))
    assert made.actor.mode(torch.zeros(1, 1)).item() < before - 0.2
    assert all(p.requires_grad for p in made.critics.parameters())
    assert not any(p.requires_grad for p in made.target_critics.parameters())


@pytest.mark.parametrize(("log_std", "rises"), [(-5.0, True), (0.4, False)])
def test_the_temperature_moves_so_that_entropy_nears_minus_the_number_of_actions(log_std: float, rises: bool) -> None:
    made = learner(hidden=(), action_dim=2)
    assert made.target_entropy == -2.0
    with torch.no_grad():
        made.actor.net[-1].weight.zero_()
        made.actor.net[-1].bias.copy_(torch.tensor([0.0, 0.0, log_std, log_std]))
    before = made.log_alpha.item()
    for update in range(4):
        metrics = made.update(batch_of(64, update, action_dim=2))
    assert (metrics["entropy"].item() < -2.0) is rises
    assert (made.log_alpha.item() > before) is rises


def test_a_restored_learner_makes_the_very_update_that_would_have_followed() -> None:
    made = learner()
    for update in range(5):
        made.update(batch_of(16, update))
    other = learner(log_alpha_init=0.0)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    for update in range(5, 8):
        for one in (made, other):
            torch.manual_seed(update)
            one.update(batch_of(16, update))
    one, two = made.state_dict(), other.state_dict()
    assert one["updates"] == two["updates"] == 8
    for name in ("sigma_mean", "sigma_square", "log_alpha"):
        assert torch.equal(one[name], two[name])
    for name in ("critics", "actor", "target_critics", "target_actor"):
        for key, value in one[name].items():
            assert torch.equal(value, two[name][key]), (name, key)


@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0, 100.0])
def test_sigma_is_the_standard_deviation_of_the_return_at_every_reward_scale(noise: float) -> None:
    """The short form of `dsac-robot bench learner --sigma`. The reference code's loss would settle at 0.685 of it."""
    found = one_step_sigma(noise, updates=1500, average=500, hidden=(16,), critic_lr=5e-3)
    assert found.sigma == pytest.approx(noise, rel=0.05)
    assert found.q == pytest.approx(5.0, abs=0.1 * max(1.0, noise))


@pytest.mark.slow
def test_what_is_learned_does_not_depend_on_the_reward_scale_unless_refinement_3_is_off() -> None:
    """The short form of `dsac-robot bench learner --scales`: a target to hit, seen by a small learner."""
    scores = {scale: reach_score(scale, seed=0, updates=400) for scale in (0.1, 1.0, 10.0)}
    assert scores[1.0] > 0.8
    assert min(scores.values()) > 0.9 * scores[1.0], scores
    assert reach_score(10.0, seed=0, updates=400, variance_adjusted=False) < 0.6 * scores[1.0]
