"""How far a robot's outline is from the walls of a world, at least."""

from __future__ import annotations

import math

import numpy as np

from dsac_robot.core.geometry import half_planes
from dsac_robot.core.values import Floats
from sim.worlds_base import wall_corners


class WallGap:
    """A lower bound of the distance between a convex outline at a pose and every wall, by separating axes.

    # footprint (V, 2), walls (M, 5)
    """

    def __init__(self, footprint_m: Floats, walls_m: Floats) -> None:
        self._footprint = footprint_m
        self._normals, offsets = half_planes(footprint_m)
        self._offsets = offsets[:, None]
        self._corners = wall_corners(walls_m)
        self._walls = walls_m
        self._axes = np.stack([np.cos(walls_m[:, 4]), np.sin(walls_m[:, 4])], axis=1)  # (M, 2)

    def __call__(self, x_m: float, y_m: float, yaw_rad: float) -> float:
        """The bound for the nearest wall; +inf without walls, at most 0 on contact."""
        if len(self._walls) == 0:
            return math.inf
        c, s = math.cos(yaw_rad), math.sin(yaw_rad)
        relative = self._corners - (x_m, y_m)  # (M, 4, 2)
        in_base = relative @ np.array([[c, -s], [s, c]])
        by_footprint = (in_base @ self._normals.T - self._offsets.T).min(axis=1).max(axis=1)  # (M,)
        outline = self._footprint @ np.array([[c, s], [-s, c]]) + (x_m, y_m)  # (V, 2)
        away = outline[None] - self._walls[:, None, :2]  # (M, V, 2)
        along = np.sum(away * self._axes[:, None], axis=2)  # (M, V)
        across = away[..., 1] * self._axes[:, None, 0] - away[..., 0] * self._axes[:, None, 1]
        gaps = [
            np.maximum(side.min(axis=1), (-side).min(axis=1)) - half
            for side, half in ((along, self._walls[:, 2]), (across, self._walls[:, 3]))
        ]
        return float(np.maximum(by_footprint, np.maximum(*gaps)).min())
