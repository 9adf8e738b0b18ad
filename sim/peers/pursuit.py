"""Regulated pure pursuit (Coulter 1992; Macenski et al. 2023) on the path that is planned on the rolling map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.params import param
from dsac_robot.core.values import Floats
from sim.peers.situation import Situation, arcs

PATH_M = 3.0
SMOOTH = 7  # cells of the path that are averaged


@dataclass(frozen=True)
class PursuitParams:
    """Sources: nav2_regulated_pure_pursuit_controller's parameters; values for 2 m/s among clutter are chosen."""

    lookahead_s: float = param(0.5, unit="s", low=0.05, high=5.0, help="look-ahead distance over speed")
    lookahead_m_min: float = param(0.35, unit="m", low=0.05, high=5.0, help="least look-ahead distance")
    lookahead_m_max: float = param(1.0, unit="m", low=0.05, high=5.0, help="greatest look-ahead distance")
    turn_rad: float = param(0.9, unit="rad", low=0.1, high=3.2, help="farther off the path the robot turns in place")
    lateral_mps2: float = param(1.5, unit="m/s^2", low=0.1, high=20.0, help="speed is limited to this in curves")
    speed_m: float = param(0.35, unit="m", low=0.01, high=0.6, help="below this clearance speed falls in proportion")
    speed_mps_min: float = param(0.3, unit="m/s", low=0.01, high=2.0, help="but not below")
    margin_m: float = param(0.02, unit="m", low=0.0, high=0.5, help="clearance that must be left until at rest")
    margin_growth_s: float = param(0.03, unit="s", low=0.0, high=0.5, help="and so much more per m/s")
    steps: int = param(10, unit="", low=2, high=100, help="poses that are checked on the way")


class Pursuit:
    """The planner."""

    def __init__(self, params: PursuitParams = PursuitParams()) -> None:
        self._params = params

    def reset(self) -> None:
        """Nothing is remembered."""

    def choose(self, now: Situation) -> tuple[float, float]:
        """Along the arc to the look-ahead point, as fast as its curve, what is beside and what is ahead allow."""
        params, limits = self._params, now.body.robot.limits
        path = _smoothed(now.way.path(now.pose[:2], PATH_M))
        reach = float(np.clip(now.speed_mps * params.lookahead_s, params.lookahead_m_min, params.lookahead_m_max))
        gaps = np.hypot(*(path - np.array(now.pose[:2])).T)
        beyond = np.flatnonzero(gaps >= reach)
        target = path[beyond[0]] if len(beyond) else path[-1]
        dx, dy = target - np.array(now.pose[:2])
        distance = math.hypot(dx, dy)
        bearing = math.remainder(math.atan2(dy, dx) - now.pose[2], math.tau)
        if distance < 1e-6:
            return 0.0, 0.0
        if abs(bearing) > params.turn_rad:
            rate = math.copysign(min(limits.yaw_rate_radps_max, 2.0 * abs(bearing)), bearing)
            return self._free_speed(now, 0.0, 0.0, rate)
        curvature = 2.0 * math.sin(bearing) / distance
        speed = limits.speed_mps_max
        if abs(curvature) > 1e-6:
            speed = min(
                speed, math.sqrt(params.lateral_mps2 / abs(curvature)), limits.yaw_rate_radps_max / abs(curvature)
            )
        beside = float(
            now.clearance_m(arcs(now.pose, np.array([0.5]), np.array([0.5 * curvature]), np.array([0.0, 1.0]))).min()
        )
        speed = min(speed, max(params.speed_mps_min, limits.speed_mps_max * beside / params.speed_m))
        return self._free_speed(now, speed, curvature, speed * curvature)

    def _free_speed(self, now: Situation, speed: float, curvature: float, rate: float) -> tuple[float, float]:
        """The highest part of the speed from which the robot can stop on this arc before it meets something."""
        params, brake = self._params, now.body.robot.limits.brake_mps2
        parts = np.arange(1, params.steps + 1) / params.steps
        for part in (1.0, 0.75, 0.5, 0.3, 0.15):
            tried = speed * part
            until_s = 0.3 + tried / (2.0 * brake)
            turning = rate if speed == 0.0 else tried * curvature
            poses = arcs(now.pose, np.array([tried]), np.array([turning]), parts * until_s)
            margin = now.margin_m(params.margin_m, params.margin_growth_s, np.array(tried))
            if float(now.clearance_m(poses).min()) > margin:
                return tried, turning
        return 0.0, 0.0


def _smoothed(path: Floats) -> Floats:
    """A moving average that keeps both ends. # (P, 2)"""
    if len(path) < SMOOTH:
        return path
    half = SMOOTH // 2
    padded = np.concatenate([np.repeat(path[:1], half, axis=0), path, np.repeat(path[-1:], half, axis=0)])
    return np.stack([np.convolve(padded[:, axis], np.full(SMOOTH, 1.0 / SMOOTH), "valid") for axis in (0, 1)], axis=1)
