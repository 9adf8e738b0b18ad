"""How long a robot cannot touch anything: contacts are looked for, step by step, only where there can be any."""

from __future__ import annotations

import math

import numpy as np

from dsac_robot.core.geometry import half_planes
from dsac_robot.core.values import Floats
from sim.robot_model import TIME_STEP_S
from sim.wall_gap import WallGap
from sim.worlds import World

CLEAR_STEPS_MAX = 20
GAIN_MPS = 0.9  # in so many steps no point of the body gains more on average: 18 m/s^2 all the time; tyres give 16
CIRCLE_STEPS = 10  # where the circle around the footprint is clear for so long, its edges are not looked at
NEAR_M = 1.5  # cylinders within this distance of the robot's reach are kept at hand


class Proximity:
    """A footprint among the walls, the standing and the moving cylinders of a world."""

    def __init__(self, footprint_m: Floats, world: World) -> None:
        normals, offsets = half_planes(footprint_m)
        self._normals, self._offsets = normals, offsets[:, None]
        self._wall_gap = WallGap(footprint_m, world.walls_m)
        self._mover_speed_mps = max((mover.speed_mps_max for mover in world.movers), default=0.0)
        self._reach_m = float(np.hypot(*footprint_m.T).max())
        self._near = self._near_of = np.zeros((0, 3))
        self._near_from_m, self._near_reach_m = (0.0, 0.0), -1.0

    def clear_steps(self, pose: tuple[float, float, float], velocity: Floats, standing: Floats, moving: Floats) -> int:
        """At least so many steps of the physics pass before the body can touch anything.

        ``velocity`` is that of MuJoCo's free joint. ``standing`` is not to be changed in place: a new array is what
        tells that cylinders have changed. # (6,), (N, 3), (M, 3)
        """
        x, y, yaw = pose
        vx, vy, _, _, _, turn = velocity.tolist()
        step_m = (math.hypot(vx, vy) + abs(turn) * self._reach_m + GAIN_MPS + self._mover_speed_mps) * TIME_STEP_S
        near, free_m = self._cylinders_near(x, y, standing)
        dx, dy, radius = near[0] - x, near[1] - y, near[2]
        gap_m = float((np.sqrt(dx * dx + dy * dy) - radius).min(initial=free_m + self._reach_m)) - self._reach_m
        if gap_m < CIRCLE_STEPS * step_m:  # the circle around the footprint may touch: look at its edges
            c, s = math.cos(yaw), math.sin(yaw)
            forward, left = c * dx + s * dy, c * dy - s * dx
            beyond = self._normals[:, :1] * forward + self._normals[:, 1:] * left - self._offsets  # (V, N)
            gap_m = float((beyond.max(axis=0) - radius).min(initial=free_m))  # a lower bound
        gap_m = min(gap_m, self._wall_gap(x, y, yaw))
        if len(moving):
            away = np.hypot(moving[:, 0] - x, moving[:, 1] - y) - moving[:, 2]
            gap_m = min(gap_m, float(away.min()) - self._reach_m)
        return max(0, min(CLEAR_STEPS_MAX, int(gap_m / step_m)))

    def _cylinders_near(self, x_m: float, y_m: float, standing: Floats) -> tuple[Floats, float]:
        """Cylinders around a position, and how far from the footprint all others are at least. # (3, N)"""
        moved = math.hypot(x_m - self._near_from_m[0], y_m - self._near_from_m[1])
        if self._near_of is not standing or moved > self._near_reach_m:
            gap = np.hypot(standing[:, 0] - x_m, standing[:, 1] - y_m) - standing[:, 2]
            self._near, self._near_of = np.ascontiguousarray(standing[gap < NEAR_M + self._reach_m].T), standing
            self._near_from_m, self._near_reach_m, moved = (x_m, y_m), 0.5 * NEAR_M, 0.0
        return self._near, NEAR_M - moved
