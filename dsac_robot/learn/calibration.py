"""Two small problems whose answers are known: is sigma the spread of the return, and does the reward scale matter?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from dsac_robot.learn.dsac_t import Batch, DsacTConfig
from dsac_robot.learn.policy import make_plain_learner

BATCH = 256


@dataclass(frozen=True)
class Spread:
    """Means over the last updates of the mean and standard deviation of the value distribution."""

    sigma: float
    q: float


def one_step_sigma(noise: float, updates: int, average: int, seed: int = 0, **settings: Any) -> Spread:
    """Learn one-step episodes with reward ~ N(5, ``noise``) whatever the state and action. A calibrated learner's
    sigma is ``noise``. Averages are over the last ``average`` updates."""
    torch.manual_seed(seed)
    made = make_plain_learner(1, 1, DsacTConfig(**({"policy_delay": 100} | settings)))  # the actor has no say here
    g = torch.Generator().manual_seed(seed + 1)
    ones = torch.ones(BATCH)
    sigma = q = 0.0
    for update in range(updates):
        x, following = 2.0 * torch.rand(2, BATCH, 1, generator=g) - 1.0
        action = 2.0 * torch.rand(BATCH, 1, generator=g) - 1.0
        reward = 5.0 + noise * torch.randn(BATCH, generator=g)
        metrics = made.update(Batch(x, action, reward, following, ones, ones))
        if update >= updates - average:
            sigma += float(metrics["sigma"]) / average
            q += float(metrics["q"]) / average
    return Spread(sigma, q)


def reach_score(scale: float, seed: int, updates: int, **settings: Any) -> float:
    """Score of the learned mode on "reach" with rewards times ``scale``: 1 is perfect, 0 is standing still.

    A point in [-1, 1]^2 moves by 0.2 of the action a step and is to go to a goal in the same square. The reward is 10
    times the distance gained less 0.05 of the distance left: at scale 1 about two units a step, as MuJoCo's tasks give.
    Episodes have 20 steps, truncated. Transitions start anywhere; half of the actions are the actor's own, the others
    random.
    """
    torch.manual_seed(seed)
    made = make_plain_learner(4, 2, DsacTConfig(**(_REACH_SETTINGS | settings)))
    for _ in range(updates):
        state = 2.0 * torch.rand(BATCH, 4) - 1.0
        action = 2.0 * torch.rand(BATCH, 2) - 1.0
        with torch.no_grad():
            action[: BATCH // 2] = made.actor.sample(state[: BATCH // 2])[0]
        following, reward = _reach(state, action)
        made.update(Batch(state, action, scale * reward, following, torch.zeros(BATCH), torch.ones(BATCH)))
    state = 2.0 * torch.rand(500, 4, generator=torch.Generator().manual_seed(seed)) - 1.0
    first = _distance(state)
    left = torch.zeros(500)
    with torch.no_grad():
        for _ in range(20):
            state, _ = _reach(state, made.actor.mode(state))
            left += _distance(state) / 20.0
    return float(1.0 - left.mean() / first.mean()) / _REACH_BEST


def _reach(state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    following = torch.cat([(state[:, :2] + 0.2 * action).clamp(-1.0, 1.0), state[:, 2:]], dim=1)
    return following, 10.0 * (_distance(state) - 1.05 * _distance(following))


def _distance(state: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(state[:, :2] - state[:, 2:], dim=1)


# The temperature has to follow the scale over four decades in few updates: hence its rate.
_REACH_SETTINGS: dict[str, Any] = {
    "hidden": (64, 64),
    "critic_lr": 2e-3,
    "actor_lr": 2e-3,
    "alpha_lr": 2e-2,
    "gamma": 0.8,
    "tau": 0.02,
    "policy_delay": 1,
    "log_alpha_init": -1.0,
}
_REACH_BEST = 0.8875  # what going straight at full speed along each axis gains of the mean distance over 20 steps
