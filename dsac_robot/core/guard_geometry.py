"""Where the robot's outline meets points along a roll-out, and where points are after the robot has moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.geometry import half_planes
from dsac_robot.core.values import NS, Floats, Odom

Pose = tuple[float, float, float]  # x m, y m, yaw rad


@dataclass(frozen=True, eq=False)
class Outline:
    """A convex footprint by supporting half-planes: its edges and one through each vertex, across the corner.

    The largest n · p - d is never above the true distance, so that a check with it is on the safe side; the planes
    across the corners keep the error below 8 % where an edge alone would give 41 % (right angles).
    """

    planes: Floats  # (P, 3): normal x, normal y, offset
    boundary: Floats  # (Q, 2) points on the outline
    radius_m: float

    @classmethod
    def of(cls, footprint: Floats, spacing_m: float = 0.05) -> Outline:
        """The outline of a convex counter-clockwise footprint. # (V, 2)"""
        normals, offsets = half_planes(footprint)
        across = normals + np.roll(normals, 1, axis=0)  # vertex i lies between edges i - 1 and i
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        boundary = []
        for start, end in zip(footprint, np.roll(footprint, -1, axis=0), strict=True):
            parts = max(1, math.ceil(float(np.hypot(*(end - start))) / spacing_m))
            boundary.append(start + (end - start) * (np.arange(parts) / parts)[:, None])
        return cls(
            np.concatenate(
                [np.column_stack([normals, offsets]), np.column_stack([across, np.sum(across * footprint, axis=1)])]
            ),
            np.concatenate(boundary),
            float(np.hypot(*footprint.T).max()),
        )


def pose_of(odom: Odom) -> Pose:
    """The odometry's pose."""
    return odom.x_m, odom.y_m, odom.yaw_rad


def to_frame(points: Floats, pose: Pose) -> Floats:
    """Points of the base frame at ``pose`` in the frame that ``pose`` is given in. # (N, 2) -> (N, 2)"""
    c, s = math.cos(pose[2]), math.sin(pose[2])
    return np.asarray(points @ np.array([[c, s], [-s, c]]) + np.array(pose[:2]))


def from_frame(points: Floats, pose: Pose) -> Floats:
    """The inverse of ``to_frame``. # (N, 2) -> (N, 2)"""
    c, s = math.cos(pose[2]), math.sin(pose[2])
    return np.asarray((points - np.array(pose[:2])) @ np.array([[c, -s], [s, c]]))


def pose_at(odoms: tuple[Odom, ...], stamp_ns: int) -> Pose:
    """The pose at a time: between the two samples around it, or carried on with the twist of the nearest one."""
    later = next((i for i, odom in enumerate(odoms) if odom.stamp_ns >= stamp_ns), None)
    if later is None or later == 0:
        near = odoms[0] if later == 0 else odoms[-1]
        dt = (stamp_ns - near.stamp_ns) / NS
        x, y, yaw = pose_of(near)
        middle = yaw + 0.5 * dt * near.yaw_rate_radps
        step = dt * near.speed_mps
        return x + step * math.cos(middle), y + step * math.sin(middle), yaw + dt * near.yaw_rate_radps
    a, b = odoms[later - 1], odoms[later]
    part = (stamp_ns - a.stamp_ns) / (b.stamp_ns - a.stamp_ns)
    turn = math.remainder(b.yaw_rad - a.yaw_rad, 2.0 * math.pi)
    return a.x_m + part * (b.x_m - a.x_m), a.y_m + part * (b.y_m - a.y_m), a.yaw_rad + part * turn
