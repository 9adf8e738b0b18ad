"""What a range means, and where returns are: the one place that reads REP-117."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsac_robot.core.memo import by_identity
from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import Floats, Floats32, Scan

Mask = npt.NDArray[np.bool_]


def free_distance(ranges_m: Floats32, lidar: Lidar) -> tuple[Floats32, Mask]:
    """Distance that each beam shows to be free, and whether the beam is valid (REP-117).

    +inf and anything beyond ``range_max_m`` are no return: free to ``range_max_m``. -inf and ranges between 0 and
    ``range_min_m`` are too close: 0. NaN and negative ranges are invalid; exactly 0 is as ``zero_means`` says.
    Invalid beams have distance 0. # (B,) float32 -> (B,) float32, (B,) bool
    """
    ranges = np.asarray(ranges_m, np.float32)
    with np.errstate(invalid="ignore"):
        valid = (ranges > 0.0) | (ranges == -np.inf)
        free = np.where(ranges >= lidar.range_min_m, np.minimum(ranges, np.float32(lidar.range_max_m)), np.float32(0.0))
    if lidar.zero_means == "no_return":
        zero = ranges == 0.0
        free = np.where(zero, np.float32(lidar.range_max_m), free)
        valid = valid | zero
    return np.where(valid, free, np.float32(0.0)).astype(np.float32), valid


@by_identity(8)  # observation, reward and cost of a tick look at the same scan
def free_of(scan: Scan, lidar: Lidar) -> tuple[Floats32, Mask]:
    """``free_distance`` of a scan. Not to be written to. # (B,), (B,)"""
    return free_distance(scan.ranges_m, lidar)


@by_identity(8)
def beam_directions(lidar: Lidar) -> Floats:
    """Unit vectors of the beams in the base frame. # (B, 2)"""
    bearing = lidar.angles_rad + lidar.yaw_rad
    return np.stack([np.cos(bearing), np.sin(bearing)], axis=1)


def returns_in_base(ranges_m: Floats32, lidar: Lidar) -> Floats:
    """Points of the base frame where the lidar met something (too-close beams: at the sensor), in the order of the
    beams. # (B,) -> (N, 2)"""
    return returns_of(*free_distance(ranges_m, lidar), lidar)


def returns_of(free_m: Floats32, valid: Mask, lidar: Lidar, spread_m: float = np.inf) -> Floats:
    """``returns_in_base`` from what ``free_distance`` gives. ``spread_m`` leaves out the returns that are farther away
    than the nearest by more than that. # (B,), (B,) -> (N, 2)"""
    beams = np.flatnonzero(valid & (free_m < lidar.range_max_m))
    distance = free_m.take(beams)
    if len(beams) and spread_m < lidar.range_max_m:
        near = distance <= distance.min() + spread_m
        beams, distance = beams[near], distance[near]
    directions = beam_directions(lidar).take(beams, axis=0)
    return np.array([lidar.x_m, lidar.y_m]) + directions * distance[:, None].astype(np.float64)


def nearest_m(scan: Scan, lidar: Lidar) -> float:
    """The shortest free distance of a valid beam; +inf where there is none."""
    nearest = float(np.fmin.reduce(scan.ranges_m))  # of what is not NaN
    if nearest >= lidar.range_min_m > 0.0:
        return min(nearest, lidar.range_max_m)
    free, valid = free_of(scan, lidar)
    return float(np.min(free, where=valid, initial=np.inf))


def nearest_returns(scan: Scan, lidar: Lidar, spread_m: float) -> Floats:
    """``returns_in_base`` without what is farther away than the nearest by more than ``spread_m``. # (N, 2)"""
    nearest = float(np.fmin.reduce(scan.ranges_m))
    if not 0.0 < lidar.range_min_m <= nearest < lidar.range_max_m - spread_m:
        return returns_of(*free_of(scan, lidar), lidar, spread_m)
    # No beam is too close, negative or beyond the range here: what is not NaN is a return.
    beams = np.flatnonzero(scan.ranges_m <= np.float32(nearest + spread_m))
    distance = scan.ranges_m.take(beams)[:, None].astype(np.float64)
    return beam_directions(lidar).take(beams, axis=0) * distance + (lidar.x_m, lidar.y_m)
