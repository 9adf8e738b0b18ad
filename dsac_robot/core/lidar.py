"""What a range means, and where returns are: the one place that reads REP-117."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsac_robot.core.compiled import compiled
from dsac_robot.core.memo import by_identity
from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import Floats, Floats32, Indices, Scan

Mask = npt.NDArray[np.bool_]


def free_distance(ranges_m: Floats32, lidar: Lidar) -> tuple[Floats32, Mask]:
    """Distance that each beam shows to be free, and whether the beam is valid (REP-117).

    +inf and anything beyond ``range_max_m`` are no return: free to ``range_max_m``. -inf and ranges between 0 and
    ``range_min_m`` are too close: 0. NaN and negative ranges are invalid; exactly 0 is as ``zero_means`` says.
    Invalid beams have distance 0. # (B,) float32 -> (B,) float32, (B,) bool

    Raises ValueError for another number of ranges than the lidar has beams.
    """
    ranges = as_sent(ranges_m)
    if ranges.shape != (lidar.beams,):
        raise ValueError(f"{ranges.shape} ranges; the robot's lidar has {lidar.beams} beams")
    free, valid = np.empty(len(ranges), np.float32), np.empty(len(ranges), np.bool_)
    _read(ranges, *bounds_m(lidar), lidar.zero_means == "no_return", free, valid)
    return free, valid


def as_sent(ranges_m: Floats32) -> Floats32:
    """The ranges as a node receives them: read-only."""
    ranges = np.ascontiguousarray(ranges_m, np.float32)
    if ranges.flags.writeable:
        ranges = ranges.view()
        ranges.flags.writeable = False
    return ranges


@by_identity(8)
def bounds_m(lidar: Lidar) -> tuple[np.float32, np.float32]:
    """The lidar's least and greatest range, in the type of the ranges."""
    return np.float32(lidar.range_min_m), np.float32(lidar.range_max_m)


@compiled
def _read(
    ranges: Floats32, least: np.float32, most: np.float32, zero_is_free: bool, free: Floats32, valid: Mask
) -> None:
    for i in range(len(ranges)):
        here = ranges[i]
        free[i], valid[i] = np.float32(0.0), here > 0.0 or here == -np.inf
        if here >= least and valid[i]:
            free[i] = min(here, most)
        elif here == 0.0 and zero_is_free:
            free[i], valid[i] = most, True


@compiled
def fill_sectors(
    ranges: Floats32, starts: Indices, least: np.float32, most: np.float32, table: Floats32, row: int, rows: Indices,
    out: Floats32,
) -> int:  # fmt: skip
    """Write the least range of each sector, at most ``most``, to a row of the table, and then the ``rows`` to ``out``;
    how many ranges are NaN or less than ``least``. # (B,), (S + 1,), (R, S), (F,), (F, S)

    Raises ValueError where the sectors do not end with the ranges.
    """
    if starts[-1] != len(ranges):
        raise ValueError("the scan has another number of ranges than the robot's lidar has beams")
    odd = 0
    for sector in range(table.shape[1]):
        found = most
        for i in range(starts[sector], starts[sector + 1]):
            here = ranges[i]
            odd += not here >= least
            found = here if here < found else found
        table[row, sector] = found
    for k in range(len(rows)):
        for sector in range(table.shape[1]):
            out[k, sector] = table[rows[k], sector]
    return odd


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
    points, where = np.empty((len(free_m), 2)), (lidar.x_m, lidar.y_m)
    spread = np.float32(min(spread_m, lidar.range_max_m))
    return points[: _place(free_m, valid, bounds_m(lidar)[1], spread, beam_directions(lidar), where, points)]


@compiled
def _place(
    free_m: Floats32, valid: Mask, most: np.float32, spread: np.float32, directions: Floats, where: tuple[float, float],
    points: Floats,
) -> int:  # fmt: skip
    """Write the returns to ``points``; how many they are. # (B,), (B,), (B, 2), (B, 2)"""
    nearest, count = most, 0
    for i in range(len(free_m)):
        if valid[i] and free_m[i] < nearest:
            nearest = free_m[i]
    for i in range(len(free_m)):
        if valid[i] and free_m[i] < most and free_m[i] <= nearest + spread:
            points[count, 0] = where[0] + directions[i, 0] * free_m[i]
            points[count, 1] = where[1] + directions[i, 1] * free_m[i]
            count += 1
    return count


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
