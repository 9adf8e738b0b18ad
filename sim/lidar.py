"""A planar lidar among cylinders, in closed form: the pose's rays against circles, exact to rounding."""

from __future__ import annotations

import math

import numpy as np

from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import Floats, Floats32


def cast(lidar: Lidar, pose: tuple[float, float, float], cylinders_m: Floats) -> Floats:
    """True distance along each beam from the lidar of a robot at ``pose`` (x, y, yaw), +inf where nothing is met.

    ``cylinders_m`` is (N, 3): x, y, radius. A sensor inside a cylinder sees 0 everywhere. # (B,)
    """
    x, y, yaw = pose
    c, s = math.cos(yaw), math.sin(yaw)
    sensor_x, sensor_y = x + c * lidar.x_m - s * lidar.y_m, y + s * lidar.x_m + c * lidar.y_m
    distances = np.full(lidar.beams, np.inf)
    dx, dy = cylinders_m[:, 0] - sensor_x, cylinders_m[:, 1] - sensor_y
    radius = cylinders_m[:, 2]
    gap = np.hypot(dx, dy)
    if np.any(gap <= radius):
        return np.zeros(lidar.beams)
    near = gap - radius < lidar.range_max_m
    dx, dy, radius, gap = dx[near], dy[near], radius[near], gap[near]
    step = lidar.angle_increment_rad
    # bearing of each centre after the first beam, in [0, 2 pi), and the beams within its half width
    bearing = np.mod(np.arctan2(dy, dx) - (yaw + lidar.yaw_rad + lidar.angle_min_rad), 2.0 * math.pi)
    half = np.arcsin(radius / gap)
    turn = 2.0 * math.pi
    over, under = bearing + half >= turn, bearing < half  # such a cylinder also meets the first, or the last, beams
    bearing = np.concatenate([bearing, bearing[over] - turn, bearing[under] + turn])
    half, gap, radius = (np.concatenate([a, a[over], a[under]]) for a in (half, gap, radius))
    first = np.maximum(np.ceil((bearing - half) / step), 0.0).astype(np.int64)
    last = np.minimum(np.floor((bearing + half) / step), lidar.beams - 1).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    owner = np.repeat(np.arange(len(count)), count)
    beam = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + first[owner]
    off = beam * step - bearing[owner]
    along = gap[owner] * np.cos(off)
    aside = gap[owner] * np.sin(off)
    reach = along - np.sqrt(np.maximum(radius[owner] ** 2 - aside**2, 0.0))
    np.minimum.at(distances, beam, reach)
    return distances


def measure(lidar: Lidar, distances_m: Floats, rng: np.random.Generator, noise: bool = True) -> Floats32:
    """What the sensor reports (REP-117): range noise, -inf below the minimum range, +inf beyond the maximum, NaN for
    a beam that dropped out. # (B,) -> (B,) float32"""
    ranges = distances_m + (rng.normal(0.0, lidar.noise_std_m, lidar.beams) if noise else 0.0)
    beyond = (distances_m > lidar.range_max_m) | (ranges > lidar.range_max_m)
    ranges = np.where((ranges < lidar.range_min_m) | (ranges <= 0.0), -np.inf, ranges)
    ranges = np.where(beyond, np.inf, ranges)
    if noise and lidar.dropout > 0.0:
        ranges = np.where(rng.random(lidar.beams) < lidar.dropout, np.nan, ranges)
    return ranges.astype(np.float32)
