"""A planar lidar among cylinders and walls, in closed form: rays against circles and boxes, exact to rounding."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import Floats, Floats32
from sim.worlds_base import wall_corners

NO_WALLS = np.zeros((0, 5))
TURN = 2.0 * math.pi
Indices = npt.NDArray[np.int64]


def cast(lidar: Lidar, pose: tuple[float, float, float], cylinders_m: Floats, walls_m: Floats = NO_WALLS) -> Floats:
    """True distance along each beam from the lidar of a robot at ``pose`` (x, y, yaw), +inf where nothing is met.

    ``cylinders_m`` is (N, 3): x, y, radius; ``walls_m`` is (M, 5) as ``World.walls_m``. A sensor inside one of them
    sees 0 everywhere. # (B,)
    """
    x, y, yaw = pose
    c, s = math.cos(yaw), math.sin(yaw)
    sensor = x + c * lidar.x_m - s * lidar.y_m, y + s * lidar.x_m + c * lidar.y_m
    first_rad = yaw + lidar.yaw_rad + lidar.angle_min_rad  # bearing of the first beam in the world
    distances = np.full(lidar.beams, np.inf)
    inside = _meet_cylinders(distances, lidar, sensor, first_rad, cylinders_m)
    if not inside and len(walls_m):
        inside = _meet_walls(distances, lidar, sensor, first_rad, walls_m)
    return np.zeros(lidar.beams) if inside else distances


def _meet_cylinders(
    distances: Floats, lidar: Lidar, sensor: tuple[float, float], first_rad: float, cylinders_m: Floats
) -> bool:
    """Shorten the beams that meet cylinders; True where the sensor is inside one."""
    dx, dy, radius = cylinders_m[:, 0] - sensor[0], cylinders_m[:, 1] - sensor[1], cylinders_m[:, 2]
    gap = np.sqrt(dx * dx + dy * dy)
    surface = gap - radius
    if np.any(surface <= 0.0):
        return True
    if np.any(surface >= lidar.range_max_m):
        near = np.flatnonzero(surface < lidar.range_max_m)
        dx, dy, radius, gap = dx[near], dy[near], radius[near], gap[near]
    bearing = np.mod(np.arctan2(dy, dx) - first_rad, TURN)
    half = np.arcsin(radius / gap)
    owner, beam, off = _beams_between(lidar, bearing, half, half)
    away = gap[owner]
    aside = away * np.sin(off)
    inside = np.maximum((radius * radius)[owner] - aside * aside, 0.0)
    reach = np.sqrt(away * away - aside * aside) - np.sqrt(inside)  # off is never beyond a right angle
    np.minimum.at(distances, beam, reach)
    return False


def _meet_walls(
    distances: Floats, lidar: Lidar, sensor: tuple[float, float], first_rad: float, walls_m: Floats
) -> bool:
    """Shorten the beams that meet walls; True where the sensor is inside one."""
    dx, dy = walls_m[:, 0] - sensor[0], walls_m[:, 1] - sensor[1]
    cos, sin = np.cos(walls_m[:, 4]), np.sin(walls_m[:, 4])
    centre = np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=1)  # seen from the sensor, along the wall's axes
    outside = np.abs(centre) - walls_m[:, 2:4]
    if np.any(np.all(outside <= 0.0, axis=1)):
        return True
    near = np.hypot(*np.maximum(outside, 0.0).T) < lidar.range_max_m
    walls, centre, dx, dy = walls_m[near], centre[near], dx[near], dy[near]
    # A box is convex and the sensor outside of it: its corners span less than half a turn around any of them.
    corners = wall_corners(walls) - sensor  # (M, 4, 2)
    to_corners = np.arctan2(corners[..., 1], corners[..., 0])
    middle = to_corners[:, :1]
    spread = np.mod(to_corners - middle + math.pi, TURN) - math.pi
    bearing = np.mod(middle[:, 0] - first_rad, TURN)
    owner, beam, off = _beams_between(lidar, bearing, -spread.min(axis=1), spread.max(axis=1))
    ray = off + (middle[:, 0] - walls[:, 4])[owner]  # heading of the beam along the wall's axes
    # Between its outermost corners each beam meets the box, where it has passed the nearer face of both axes.
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = [
            (centre[owner, axis] - np.copysign(walls[owner, 2 + axis], towards)) / towards
            for axis, towards in enumerate((np.cos(ray), np.sin(ray)))
        ]
    np.minimum.at(distances, beam, np.fmax(*reach))  # 0 / 0 is a beam in a face: the other axis counts
    return False


def _beams_between(lidar: Lidar, bearing: Floats, before: Floats, after: Floats) -> tuple[Indices, Indices, Floats]:
    """Pairs of a thing and a beam that may meet it, and the beam's angle from the thing's bearing.

    ``bearing`` is the thing's angle after the first beam, in [0, 2 pi); it reaches ``before`` and ``after`` from there.
    # (N,) -> (P,), (P,), (P,)
    """
    step = lidar.angle_increment_rad
    over, under = np.flatnonzero(bearing + after >= TURN), np.flatnonzero(bearing < before)
    thing = np.concatenate([np.arange(len(bearing)), over, under])  # such a thing also meets the first, or last, beams
    bearing = np.concatenate([bearing, bearing[over] - TURN, bearing[under] + TURN])
    first = np.maximum(np.ceil((bearing - before[thing]) / step), 0.0).astype(np.int64)
    last = np.minimum(np.floor((bearing + after[thing]) / step), lidar.beams - 1).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    ends = np.cumsum(count)
    owner = np.repeat(np.arange(len(count)), count)
    beam = np.arange(len(owner)) + (first - ends + count)[owner]
    return thing[owner], beam, beam * step - bearing[owner]


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
