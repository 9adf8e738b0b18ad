"""Model predictive path integral control (Williams et al. 2017): sampled command sequences, weighted by exp(-cost / λ).

In numpy: torch lives in dsac_robot/learn only (tests/test_architecture.py); docs/barn.md says what else was weighed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsac_robot.core.lidar import Mask
from dsac_robot.core.params import param
from dsac_robot.core.values import Floats
from sim.peers.situation import Situation, ahead


@dataclass(frozen=True)
class MppiParams:
    """Sources: Williams et al. 2017; nav2_mppi_controller's README for orders of magnitude (time_steps 56 of 0.05 s,
    batch_size 1000, vx_std 0.2, wz_std 0.4, temperature 0.3 for 0.5 m/s); values for 2 m/s are chosen."""

    samples: int = param(400, unit="", low=10, high=100000, help="sequences tried in a tick")
    steps: int = param(18, unit="", low=2, high=200, help="of a sequence")
    step_s: float = param(0.1, unit="s", low=0.01, high=1.0, help="of it")
    speed_std_mps: float = param(0.5, unit="m/s", low=0.01, high=5.0, help="noise on speeds")
    yaw_rate_std_radps: float = param(0.9, unit="rad/s", low=0.01, high=10.0, help="noise on yaw rates")
    least_noise: float = param(0.1, unit="", low=0.0, high=1.0, help="the samples' noise is so much of it, up to all")
    held_steps: int = param(3, unit="", low=1, high=50, help="so many steps share one draw of noise")
    temperature: float = param(0.15, unit="m", low=1e-4, high=100.0, help="λ, in cost to go")
    margin_m: float = param(0.03, unit="m", low=0.0, high=0.5, help="nearer to an obstacle counts as collision")
    margin_growth_s: float = param(0.05, unit="s", low=0.0, high=0.5, help="and so much more per m/s")
    collision_weight: float = param(100.0, unit="m", low=0.0, high=1e6, help="cost of a collision, more the earlier")
    near_m: float = param(0.15, unit="m", low=0.0, high=0.6, help="below this clearance a step becomes dearer")
    near_weight: float = param(0.5, unit="m", low=0.0, high=100.0, help="cost of a step at zero clearance")
    ahead_m: float = param(0.3, unit="m", low=0.0, high=2.0, help="the way is scored so far ahead of a pose")
    reverse_weight: float = param(3.0, unit="s", low=0.0, high=100.0, help="cost per metre per second backwards")
    seed: int = param(0, unit="", low=0, high=2**31 - 1, help="of the noise; the same in every run")


class Mppi:
    """The planner. It remembers the last plan."""

    def __init__(self, params: MppiParams = MppiParams()) -> None:
        self._params = params
        self.reset()

    def reset(self) -> None:
        """Start from rest, and the noise from its seed."""
        self._rng = np.random.default_rng(self._params.seed)
        self._mean: Floats = np.zeros((self._params.steps, 2))

    def choose(self, now: Situation) -> tuple[float, float]:
        """The first twist of the improved plan; rest where every sequence collides at once."""
        params, limits = self._params, now.body.robot.limits
        draws = -(-params.steps // params.held_steps)
        noise = self._rng.normal(size=(params.samples, draws, 2)).repeat(params.held_steps, axis=1)
        noise = noise[:, : params.steps] * (params.speed_std_mps, params.yaw_rate_std_radps)
        noise *= np.linspace(params.least_noise, 1.0, params.samples)[:, None, None]
        noise[0] = 0.0  # the last plan itself
        noise[1] = -self._mean  # rest
        low = (limits.speed_mps_min, -limits.yaw_rate_radps_max)
        asked = np.clip(self._mean + noise, low, (limits.speed_mps_max, limits.yaw_rate_radps_max))
        twists, poses = self._roll(now, asked)
        cost, free = self._cost(now, twists, poses)
        weights = np.exp(-(cost - cost.min()) / params.temperature)
        weights /= weights.sum()
        plan = np.tensordot(weights, asked, axes=1)
        mean_cost, _ = self._cost(now, *self._roll(now, plan[None]))
        if mean_cost[0] > cost.min() + params.temperature:  # between two ways round an obstacle: take one of them
            plan = asked[cost.argmin()]
        self._mean = np.concatenate([plan[1:], plan[-1:]])
        if not free.any():
            return 0.0, 0.0
        return float(plan[0, 0]), float(plan[0, 1])

    def _roll(self, now: Situation, asked: Floats) -> tuple[Floats, Floats]:
        """What the base does: twists within its accelerations, and poses. # (K, T, 2) -> (K, T, 2), (K, T, 3)"""
        params, limits = self._params, now.body.robot.limits
        most = np.array([limits.accel_mps2_max, limits.yaw_accel_radps2_max]) * params.step_s
        twists = np.empty_like(asked)
        last = np.broadcast_to([now.speed_mps, now.yaw_rate_radps], asked[:, 0].shape)
        for step in range(params.steps):
            last = last + np.clip(asked[:, step] - last, -most, most)
            twists[:, step] = last
        turned = np.cumsum(twists[..., 1], axis=1) * params.step_s
        heading = now.pose[2] + turned - 0.5 * twists[..., 1] * params.step_s  # in the middle of each step
        x = now.pose[0] + np.cumsum(twists[..., 0] * np.cos(heading), axis=1) * params.step_s
        y = now.pose[1] + np.cumsum(twists[..., 0] * np.sin(heading), axis=1) * params.step_s
        return twists, np.stack([x, y, now.pose[2] + turned], axis=-1)

    def _cost(self, now: Situation, twists: Floats, poses: Floats) -> tuple[Floats, Mask]:
        """Cost of each sequence in metres to go, and whether its first steps are free. # -> (K,), (K,)"""
        params = self._params
        clearance = now.clearance_m(poses)
        margin = now.margin_m(params.margin_m, params.margin_growth_s, twists[..., 0])
        hit = np.logical_or.accumulate(clearance <= margin, axis=1)
        cost = params.collision_weight * hit.mean(axis=1)
        near = np.maximum(0.0, 1.0 - clearance / max(params.near_m, 1e-9))
        cost = cost + params.near_weight * near.mean(axis=1) * params.steps
        way = now.way.at(ahead(poses, params.ahead_m))
        cost = cost + way[:, -1] + 0.3 * way.mean(axis=1)
        cost = cost + params.reverse_weight * np.maximum(0.0, -twists[..., 0]).sum(axis=1) * params.step_s
        return cost, np.asarray(~hit[:, : params.held_steps].any(axis=1))
