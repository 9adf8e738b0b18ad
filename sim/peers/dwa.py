"""The dynamic window approach (Fox, Burgard and Thrun 1997), scored as ROS's dwa_local_planner does: by the cost to go
at the end of each arc, closeness to obstacles along it, and speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsac_robot.core.params import param
from sim.peers.situation import Situation, ahead, arcs


@dataclass(frozen=True)
class DwaParams:
    """Sources: dwa_local_planner (sim_time 1.7, vx_samples 3, vth_samples 20 are its defaults), Fox et al. 1997.
    That the margin grows with speed is dwa_local_planner's scaling of the footprint."""

    window_s: float = param(0.2, unit="s", low=0.02, high=1.0, help="twists that can be reached in this time")
    sim_time_s: float = param(1.0, unit="s", low=0.1, high=5.0, help="length of the arcs, before braking is added")
    steps: int = param(15, unit="", low=2, high=200, help="poses that are checked on an arc")
    speeds: int = param(11, unit="", low=2, high=100, help="sampled speeds")
    yaw_rates: int = param(31, unit="", low=3, high=200, help="sampled yaw rates")
    reverse_mps: float = param(0.2, unit="m/s", low=0.0, high=2.0, help="fastest sampled reverse speed")
    margin_m: float = param(0.02, unit="m", low=0.0, high=0.5, help="arcs that come nearer to an obstacle are refused")
    margin_growth_s: float = param(0.05, unit="s", low=0.0, high=0.5, help="and so much more per m/s")
    near_m: float = param(0.15, unit="m", low=0.0, high=0.6, help="below this clearance an arc becomes dearer")
    near_weight: float = param(1.0, unit="m", low=0.0, high=100.0, help="surcharge in cost to go at zero clearance")
    ahead_m: float = param(0.3, unit="m", low=0.0, high=2.0, help="the way is scored so far ahead of an arc's end")
    reverse_weight: float = param(0.5, unit="m", low=0.0, high=100.0, help="surcharge of going backwards")
    turn_weight: float = param(0.02, unit="m s", low=0.0, high=10.0, help="surcharge per rad/s of changed yaw rate")


class Dwa:
    """The planner."""

    def __init__(self, params: DwaParams = DwaParams()) -> None:
        self._params = params

    def reset(self) -> None:
        """Nothing is remembered."""

    def choose(self, now: Situation) -> tuple[float, float]:
        """The twist of the window whose arc costs least; rest where every arc is refused."""
        params, limits = self._params, now.body.robot.limits
        speed_step = limits.accel_mps2_max * params.window_s
        turn_step = limits.yaw_accel_radps2_max * params.window_s
        slowest = max(limits.speed_mps_min, -params.reverse_mps)
        low = min(max(now.speed_mps - speed_step, slowest), limits.speed_mps_max)
        high = min(now.speed_mps + speed_step, limits.speed_mps_max)
        most = limits.yaw_rate_radps_max
        speeds = np.linspace(low, max(low, high), params.speeds)
        rates = np.linspace(
            max(now.yaw_rate_radps - turn_step, -most), min(now.yaw_rate_radps + turn_step, most), params.yaw_rates
        )
        speed, rate = (part.ravel() for part in np.meshgrid(speeds, rates, indexing="ij"))
        brake_s = np.abs(speed) / (2.0 * limits.brake_mps2)  # at full speed so long is as far as braking takes
        parts = np.arange(1, params.steps + 1) / params.steps
        whole_s = params.sim_time_s + float(brake_s.max())
        poses = arcs(now.pose, speed, rate, parts * whole_s)
        clearance = now.clearance_m(poses)
        admissible = clearance.min(axis=1) > now.margin_m(params.margin_m, params.margin_growth_s, speed)
        if not admissible.any():
            return 0.0, 0.0
        closest = clearance.min(axis=1)
        cost = now.way.at(ahead(poses[:, -1], params.ahead_m))
        cost = cost + params.near_weight * np.maximum(0.0, 1.0 - closest / max(params.near_m, 1e-9))
        cost = cost + params.reverse_weight * (speed < 0.0)
        cost = cost + params.turn_weight * np.abs(rate - now.yaw_rate_radps)
        best = int(np.where(admissible, cost, np.inf).argmin())
        return float(speed[best]), float(rate[best])
