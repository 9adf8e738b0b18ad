"""Networks: densities against torch's own, features of any raw observation, two critics in one."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import TermSpec
from dsac_robot.core.robot import Robot
from dsac_robot.learn.networks import LOG_STD_MAX, LOG_STD_MIN, Actor, Features, TwinCritics

PLAIN = Features((TermSpec("x", (3,), ""),), ActionMap((-1.0, -1.0), (1.0, 1.0)))


def constant_actor(mean: list[float], log_std: list[float]) -> Actor:
    """An actor with the same distribution everywhere."""
    made = Actor(PLAIN, len(mean), ())
    with torch.no_grad():
        made.net[-1].weight.zero_()
        made.net[-1].bias.copy_(torch.tensor(mean + log_std))
    return made


def test_log_prob_is_that_of_torchs_tanh_transformed_normal() -> None:
    torch.manual_seed(0)
    made = constant_actor([0.3, -0.8], [-0.7, 0.2])
    action, log_prob = made.sample(torch.zeros(500, 3))
    normal = Normal(torch.tensor([0.3, -0.8]).double(), torch.tensor([-0.7, 0.2]).double().exp())
    reference = Independent(TransformedDistribution(normal, [TanhTransform()]), 1)
    inside = action.abs().amax(dim=1) < 0.99  # beyond, atanh of a float32 has too few digits to compare with
    assert inside.sum() > 400
    torch.testing.assert_close(
        log_prob[inside].double(), reference.log_prob(action[inside].double()), rtol=1e-3, atol=1e-3
    )


def test_the_density_integrates_to_one() -> None:
    torch.manual_seed(1)
    action, log_prob = constant_actor([0.4], [-0.5]).sample(torch.zeros(200_000, 3))
    order = torch.argsort(action[:, 0])
    a, p = action[order, 0].double(), log_prob[order].double().exp()
    area = torch.trapezoid(p, a)  # over the range that was sampled
    assert area.item() == pytest.approx(1.0, abs=1e-3)


def test_log_prob_stays_exact_where_tanh_rounds_to_one() -> None:
    made = constant_actor([15.0], [-20.0])
    torch.manual_seed(2)
    action, log_prob = made.sample(torch.zeros(4, 3))
    assert torch.equal(action, torch.ones(4, 1))
    torch.manual_seed(2)
    noise = torch.randn(4, 1)[:, 0].double()
    slope = math.log(4.0) - 2.0 * 15.0 - 2.0 * math.log1p(math.exp(-30.0))  # log(1 - tanh(15)^2)
    expected = -0.5 * noise**2 + 20.0 - 0.5 * math.log(2.0 * math.pi) - slope
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-5, atol=1e-4)


def test_the_standard_deviation_is_held_within_its_bounds_and_the_mode_within_the_action_range() -> None:
    for raw, held in ((-99.0, LOG_STD_MIN), (99.0, LOG_STD_MAX)):
        _, log_std = constant_actor([50.0], [raw])(torch.zeros(1, 3))
        assert log_std.item() == held
    assert constant_actor([50.0], [0.0]).mode(torch.zeros(1, 3)).item() <= 1.0


def test_sampling_is_reproducible_from_the_seed_and_reparameterised() -> None:
    made = constant_actor([0.1, 0.2], [-1.0, -1.0])
    torch.manual_seed(3)
    first = made.sample(torch.zeros(5, 3))
    torch.manual_seed(3)
    second = made.sample(torch.zeros(5, 3))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    first[0].sum().backward()
    assert made.net[-1].bias.grad.abs().min() > 0.0  # of both means and both deviations


def test_features_are_finite_and_of_order_one_for_whatever_the_robot_may_sense(
    robot: Robot, specs: tuple[TermSpec, ...]
) -> None:
    features = Features(specs, ActionMap.of(robot.limits))
    sizes = [math.prod(spec.shape) for spec in specs]
    assert [spec.name for spec in specs] == ["scan_sectors", "goal_in_base", "twist", "last_command"]
    assert (features.inputs, features.outputs) == (sum(sizes), sum(sizes) + 1)
    torch.manual_seed(4)
    ranges = torch.cat([torch.zeros(1, sizes[0]), torch.full((1, sizes[0]), 10.0), 10.0 * torch.rand(20, sizes[0])])
    goals = torch.cat([torch.zeros(1, 2), torch.tensor([[100.0, -100.0]]), 20.0 * torch.rand(20, 2) - 10.0])
    twists = 4.0 * torch.rand(22, 4) - 2.0
    found = features(torch.cat([ranges, goals, twists], dim=1))
    assert found.shape == (22, features.outputs)
    assert torch.isfinite(found).all() and found.abs().max() < 6.0


def test_features_keep_the_gradient_finite_at_the_goal(robot: Robot, specs: tuple[TermSpec, ...]) -> None:
    features = Features(specs, ActionMap.of(robot.limits))
    observation = torch.zeros(1, features.inputs, requires_grad=True)
    features(observation).sum().backward()
    assert torch.isfinite(observation.grad).all()


def test_the_twin_critics_are_two_separate_networks() -> None:
    torch.manual_seed(6)
    critics = TwinCritics(PLAIN, 2, (16, 8))
    observation, action = torch.randn(7, 3), torch.rand(7, 2)
    q, sigma = critics(observation, action)
    assert q.shape == sigma.shape == (2, 7) and (sigma > 0.0).all()
    for i in range(2):
        hidden = torch.cat([observation, action], dim=1)
        for k, (weight, bias) in enumerate(zip(critics.weights, critics.biases, strict=True)):
            hidden = hidden @ weight[i] + bias[i]
            hidden = nn.functional.gelu(hidden) if k < 2 else hidden
        torch.testing.assert_close(q[i], hidden[:, 0])
        torch.testing.assert_close(sigma[i], nn.functional.softplus(hidden[:, 1]))
    q[0].sum().backward()
    assert all(p.grad[0].abs().sum() > 0 and p.grad[1].abs().sum() == 0 for p in critics.weights)
