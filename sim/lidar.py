"""A planar lidar among cylinders and walls, in closed form: rays against circles and boxes, exact to rounding."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from dsac_robot.core.compiled import compiled
from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import Floats, Floats32
from sim.worlds_base import Point

NO_WALLS = np.zeros((0, 5))


@lru_cache(maxsize=8)
def _fan(lidar: Lidar) -> Floats:
    """Directions of the beams, seen along the first one. # (B, 2)"""
    off = np.arange(lidar.beams) * lidar.angle_increment_rad
    return np.column_stack([np.cos(off), np.sin(off)])


def cast(lidar: Lidar, pose: tuple[float, float, float], cylinders_m: Floats, walls_m: Floats = NO_WALLS) -> Floats:
    """True distance along each beam from the lidar of a robot at ``pose`` (x, y, yaw), +inf where nothing is met.

    ``cylinders_m`` is (N, 3): x, y, radius; ``walls_m`` is (M, 5) as ``World.walls_m``. What is beyond the lidar's
    range may be left out. A sensor inside one of them sees 0 everywhere. # (B,)
    """
    x, y, yaw = pose
    c, s = math.cos(yaw), math.sin(yaw)
    eye = x + c * lidar.x_m - s * lidar.y_m, y + s * lidar.x_m + c * lidar.y_m
    first = yaw + lidar.yaw_rad + lidar.angle_min_rad
    distances = np.full(lidar.beams, np.inf)
    fan = _fan(lidar), lidar.angle_increment_rad, lidar.range_max_m
    if meet_cylinders(distances, eye, first, *fan, cylinders_m) or meet_walls(distances, eye, first, *fan, walls_m):
        distances[:] = 0.0
    return distances


@compiled
def meet_cylinders(
    distances: Floats, eye: Point, first: float, fan: Floats, increment: float, range_m: float, cylinders: Floats
) -> bool:
    """Shorten the beams that meet cylinders; True where the eye is inside one. ``first``: bearing of the first beam.
    # (B,), (B, 2), (N, 3)"""
    c, s = math.cos(first), math.sin(first)
    for n in range(len(cylinders)):
        dx, dy, radius = cylinders[n, 0] - eye[0], cylinders[n, 1] - eye[1], cylinders[n, 2]
        squared = dx * dx + dy * dy
        gap = math.sqrt(squared)
        if gap <= radius:
            return True
        if gap - radius >= range_m:
            continue
        ahead, left = c * dx + s * dy, c * dy - s * dx
        half = math.asin(radius / gap)
        low = (math.atan2(left, ahead) - half) % math.tau
        for turn in (0.0, math.tau):  # a thing across the first beam is met by the last ones of a full turn as well
            begin = max(math.ceil((low - turn) / increment), 0)
            end = min(math.floor((low - turn + 2.0 * half) / increment), len(distances) - 1)
            for i in range(begin, end + 1):
                # Along the beam to where it is nearest to the axis, and back to the surface.
                along = ahead * fan[i, 0] + left * fan[i, 1]
                back = max(along * along - (squared - radius * radius), 0.0)
                distances[i] = min(distances[i], along - math.sqrt(back))
    return False


@compiled
def meet_walls(
    distances: Floats, eye: Point, first: float, fan: Floats, increment: float, range_m: float, walls: Floats
) -> bool:
    """Shorten the beams that meet walls; True where the eye is inside one. # (B,), (B, 2), (M, 5)"""
    for m in range(len(walls)):
        c, s, dx, dy = math.cos(walls[m, 4]), math.sin(walls[m, 4]), walls[m, 0] - eye[0], walls[m, 1] - eye[1]
        x, y = c * dx + s * dy, c * dy - s * dx  # the middle, seen from the eye along the wall's axes
        length, width = walls[m, 2], walls[m, 3]
        if abs(x) <= length and abs(y) <= width:
            return True
        if math.hypot(max(abs(x) - length, 0.0), max(abs(y) - width, 0.0)) >= range_m:
            continue
        ahead = first - walls[m, 4]  # bearing of the first beam, from the wall's axis
        corner = math.atan2(y + width, x + length)
        before, after = 0.0, 0.0  # a box is convex and the eye outside: its corners span less than half a turn
        for u, v in ((x - length, y + width), (x - length, y - width), (x + length, y - width)):
            spread = (math.atan2(v, u) - corner + math.pi) % math.tau - math.pi
            before, after = min(before, spread), max(after, spread)
        low = (corner + before - ahead) % math.tau
        ca, sa = math.cos(ahead), math.sin(ahead)
        for turn in (0.0, math.tau):
            begin = max(math.ceil((low - turn) / increment), 0)
            end = min(math.floor((low - turn + after - before) / increment), len(distances) - 1)
            for i in range(begin, end + 1):
                # Between its outermost corners a beam meets the box where it has passed the nearer face of both axes.
                along, across = ca * fan[i, 0] - sa * fan[i, 1], sa * fan[i, 0] + ca * fan[i, 1]
                by_length = (x - math.copysign(length, along)) / along if along != 0.0 else -math.inf
                by_width = (y - math.copysign(width, across)) / across if across != 0.0 else -math.inf
                distances[i] = min(distances[i], max(by_length, by_width))
    return False


def measure(lidar: Lidar, distances_m: Floats, rng: np.random.Generator, noise: bool = True) -> Floats32:
    """What the sensor reports (REP-117): range noise, -inf below the minimum range, +inf beyond the maximum, NaN for
    a beam that dropped out. # (B,) -> (B,) float32"""
    ranges = distances_m + rng.normal(0.0, lidar.noise_std_m, lidar.beams) if noise else distances_m.copy()
    beyond = (distances_m > lidar.range_max_m) | (ranges > lidar.range_max_m)
    nearest = ranges.min()
    if nearest < lidar.range_min_m or nearest <= 0.0:
        ranges[(ranges < lidar.range_min_m) | (ranges <= 0.0)] = -np.inf
    ranges[beyond] = np.inf
    if noise and lidar.dropout > 0.0:
        ranges = np.where(rng.random(lidar.beams) < lidar.dropout, np.nan, ranges)
    return ranges.astype(np.float32)
