"""How far lidar scans say that the robot came, against how far its odometer says: the wheel radius's only witness.

Pairs of scans some decimetres of straight drive apart are registered by iterated closest points with a symmetric
point-to-line distance (Rusinkiewicz 2019, "A symmetric objective function for ICP"), each scan smoothed over
``SMOOTH_M``. Driven wheels slip in proportion to the change of speed, which is fitted beside the factor. A pair counts
only if its own geometry fixes the direction of travel: plain walls on both sides do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import NS, Floats, Odom, Scan
from dsac_robot.data.identify_motion import Estimate, NotExcitedError, bootstrap, estimate

PAIR_M = 0.5  # of odometer between the scans of a pair
PAIR_TURN_RAD_MAX = 0.6
PAIR_S_MAX = 4.0
PAIRS_MIN, PAIRS_MAX = 10, 120
AGREE_MIN = 0.75  # of the registered pairs
TURNS_RAD_MIN = 1.0  # of all pairs together, for what scans say of odometry's heading
SMOOTH_M = 0.12
LINE_MAX = 0.3  # across over along: flatter neighbourhoods count as lines
QUERIES = 240
GATE_M = 0.2
RESIDUAL_M = 0.02  # larger residuals lose weight (Cauchy)
STD_M_MAX = 0.01  # a pair is used where the scans fix the distance so well
ITERATIONS = 15


@dataclass(frozen=True)
class ScanDistances:
    """True over odometer distance, and the pairs of scans that say so."""

    factor: Estimate
    slip_s: Estimate  # the robot comes so much farther (less, if negative) than its wheels for each m/s it speeds up
    turn_factor: Estimate | None  # true turn over that of odometry's heading; None where the pairs hardly turn
    odometer_m: Floats  # (P,)
    scans_m: Floats  # (P,) without that slip
    rejected: int


@dataclass(frozen=True)
class _Cloud:
    """Smoothed points of a scan in the base frame, with the normals of the lines they lie on."""

    points_m: Floats  # (N, 2)
    normals: Floats  # (N, 2)


def scan_distances(scans: Sequence[Scan], odoms: Sequence[Odom], lidar: Lidar) -> ScanDistances:
    """The factor between what the scans and what the odometer say, both ordered by stamp.

    Raises NotExcitedError where there are too few scans, too little straight drive, or surroundings that do not show
    how far it went.
    """
    pairs = _pairs(scans, odoms)
    if len(pairs) < PAIRS_MIN:
        raise NotExcitedError(
            f"wheel radius: {len(pairs)} stretches of {PAIR_M} m nearly straight drive with scans, it takes "
            f"{PAIRS_MIN}: record straight stretches with the scan topic, or give --distance"
        )
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, PAIRS_MAX).astype(int))]
    rows = _registered(chosen, odoms, lidar)
    if len(rows) < PAIRS_MIN:
        raise NotExcitedError(
            f"wheel radius: in {len(rows)} of {len(chosen)} stretches the scans fix how far it went, it takes "
            f"{PAIRS_MIN}: drive where something stands ahead or behind (no bare corridor), or give --distance"
        )
    columns = rows[:, :2]
    keep = _without_outliers(rows[:, 2] - columns @ np.linalg.lstsq(columns, rows[:, 2], rcond=None)[0])
    if keep.mean() < AGREE_MIN:
        raise NotExcitedError(
            f"wheel radius: {np.sum(~keep)} of {len(rows)} stretches contradict the others: do many equal things "
            "stand in a row, or people walk about? Drive elsewhere, or give --distance"
        )
    rows = rows[keep]
    columns, by_scans, turns, scan_turns = rows[:, :2], rows[:, 2], rows[:, 3], rows[:, 4]
    linear = np.linalg.lstsq(columns, by_scans, rcond=None)[0]
    pair = np.arange(len(rows))
    draws = bootstrap(columns, by_scans - columns @ linear, pair)
    factor, slip = (estimate(value, draws[:, i]) for i, value in enumerate(linear))
    turn_factor = None
    if float(np.abs(turns).sum()) > TURNS_RAD_MIN:
        scale = float(turns @ scan_turns / (turns @ turns))
        turn_factor = estimate(scale, bootstrap(turns[:, None], scan_turns - scale * turns, pair)[:, 0])
    without_slip = by_scans - slip.value * columns[:, 1]
    return ScanDistances(factor, slip, turn_factor, columns[:, 0], without_slip, len(chosen) - len(rows))


def _registered(pairs: Sequence[tuple[Scan, Scan, Floats]], odoms: Sequence[Odom], lidar: Lidar) -> Floats:
    """Of each pair whose scans fix it: distance by odometer, speed gained on the way, distance by scans, turn by
    odometry, turn by scans. # (P, 5)"""
    clouds: dict[int, _Cloud] = {}
    times, speeds = _seconds(odoms), np.array([odom.speed_mps for odom in odoms])
    rows = []
    for first, second, guess in pairs:
        for scan in (first, second):
            if scan.stamp_ns not in clouds:
                clouds[scan.stamp_ns] = _cloud(scan, lidar)
        motion = _register(clouds[first.stamp_ns], clouds[second.stamp_ns], guess)
        if motion is not None:
            before, after = np.interp(_seconds((first, second)), times, speeds)
            gained = math.copysign(1.0, guess[0]) * (after - before)
            rows.append((math.hypot(guess[0], guess[1]), gained, motion[0], guess[2], motion[1]))
    return np.array(rows, np.float64).reshape(-1, 5)


def _seconds(samples: Sequence[Scan | Odom]) -> Floats:
    """Stamps in seconds. # (N,)"""
    return np.array([sample.stamp_ns for sample in samples], np.float64) / NS


def _without_outliers(residuals: Floats) -> npt.NDArray[np.bool_]:
    """Which residuals are within five robust standard deviations of their median. # (P,) -> (P,)"""
    off = np.abs(residuals - np.median(residuals))
    return np.asarray(off <= max(5.0 * 1.4826 * float(np.median(off)), 1e-3), np.bool_)


def _pairs(scans: Sequence[Scan], odoms: Sequence[Odom]) -> list[tuple[Scan, Scan, Floats]]:
    """Scans ``PAIR_M`` of nearly straight drive apart, and the odometer's motion between them (x, y, yaw)."""
    if len(odoms) < 2:
        return []
    times = np.array([odom.stamp_ns for odom in odoms], np.float64)
    poses = np.array([(odom.x_m, odom.y_m) for odom in odoms])
    yaws = np.unwrap([odom.yaw_rad for odom in odoms])
    inside = [scan for scan in scans if times[0] <= scan.stamp_ns <= times[-1]]
    stamps = np.array([scan.stamp_ns for scan in inside], np.float64)
    x, y, yaw = (np.interp(stamps, times, column) for column in (poses[:, 0], poses[:, 1], yaws))
    path = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))]) if len(inside) else np.zeros(0)
    found = []
    i = 0
    while i < len(inside):
        j = int(np.searchsorted(path, path[i] + PAIR_M))
        if j >= len(inside):
            break
        dx, dy, turn = x[j] - x[i], y[j] - y[i], yaw[j] - yaw[i]
        straight = math.hypot(dx, dy) > 0.95 * (path[j] - path[i]) and path[j] - path[i] < 2.0 * PAIR_M
        if straight and abs(turn) < PAIR_TURN_RAD_MAX and stamps[j] - stamps[i] < PAIR_S_MAX * NS:
            c, s = math.cos(yaw[i]), math.sin(yaw[i])
            found.append((inside[i], inside[j], np.array([c * dx + s * dy, c * dy - s * dx, turn])))
            i = j
        else:
            i += max(1, (j - i) // 4)
    return found


def _cloud(scan: Scan, lidar: Lidar) -> _Cloud:
    ranges = np.asarray(scan.ranges_m, np.float64)
    good = np.isfinite(ranges) & (ranges > lidar.range_min_m) & (ranges < lidar.range_max_m)
    angles = (scan.angle_min_rad + scan.angle_increment_rad * np.arange(len(ranges)))[good] + lidar.yaw_rad
    x = lidar.x_m + ranges[good] * np.cos(angles)
    y = lidar.y_m + ranges[good] * np.sin(angles)
    near = ((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 < SMOOTH_M**2).astype(np.float64)
    count = near.sum(axis=1)
    mean_x, mean_y, xx, xy, yy = (near @ np.stack([x, y, x * x, x * y, y * y], axis=1) / count[:, None]).T
    a, b, c = xx - mean_x**2, xy - mean_x * mean_y, yy - mean_y**2
    half, root = 0.5 * (a + c), np.hypot(0.5 * (a - c), b)
    line = (count >= 5) & (half - root < LINE_MAX**2 * (half + root))
    along = 0.5 * np.arctan2(2.0 * b, a - c)
    normals = np.stack([-np.sin(along), np.cos(along)], axis=1)
    return _Cloud(np.stack([mean_x, mean_y], axis=1)[line], normals[line])


def _register(first: _Cloud, second: _Cloud, guess: Floats) -> tuple[float, float] | None:
    """Distance between the poses of two scans along the odometer's direction, and turn; None if not fixed."""
    if min(len(first.points_m), len(second.points_m)) < 30:
        return None
    pick = np.unique(np.linspace(0, len(second.points_m) - 1, QUERIES).astype(int))
    queries, query_normals = second.points_m[pick], second.normals[pick]
    x, y, turn = (float(value) for value in guess)
    information = np.zeros((3, 3))
    noise = 0.0
    for _ in range(ITERATIONS):
        c, s = math.cos(turn), math.sin(turn)
        spin = np.array([[c, -s], [s, c]])
        moved = queries @ spin.T + [x, y]
        gaps = ((moved[:, None, :] - first.points_m) ** 2).sum(axis=2)
        nearest = np.argmin(gaps, axis=1)
        match = gaps[np.arange(len(moved)), nearest] < GATE_M**2
        normals = query_normals @ spin.T
        theirs = first.normals[nearest]
        normals = theirs + np.where((normals * theirs).sum(axis=1) < 0.0, -1.0, 1.0)[:, None] * normals
        length = np.linalg.norm(normals, axis=1)
        match &= length > 1.8  # the two lines are parallel, within some 50 degrees
        if match.sum() < 30:
            return None
        normals, at = (normals / length[:, None])[match], moved[match]
        residual = (normals * (first.points_m[nearest[match]] - at)).sum(axis=1)
        weight = 1.0 / (1.0 + (residual / RESIDUAL_M) ** 2)
        lever = normals[:, 1] * (at[:, 0] - x) - normals[:, 0] * (at[:, 1] - y)
        jacobian = np.column_stack([normals, lever])
        information = jacobian.T @ (weight[:, None] * jacobian)
        noise = float(np.sum(weight * residual**2) / np.sum(weight))
        if np.linalg.cond(information) > 1e6:
            return None
        change = np.linalg.solve(information, jacobian.T @ (weight * residual))
        x, y, turn = x + float(change[0]), y + float(change[1]), turn + float(change[2])
        if float(np.abs(change).max()) < 1e-5:
            break
    direction = np.array([guess[0], guess[1], 0.0]) / math.hypot(guess[0], guess[1])
    smoothed_over = 10.0  # neighbouring smoothed points say nearly the same
    std_m = math.sqrt(smoothed_over * noise * float(direction @ np.linalg.solve(information, direction)))
    return (float(x * direction[0] + y * direction[1]), turn) if std_m < STD_M_MAX else None
