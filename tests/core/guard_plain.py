"""What the guard's compiled loops compute, said plainly: by definition, point by point, with numpy and no haste."""

from __future__ import annotations

import math

import numpy as np

from dsac_robot.core.guard_loops import (
    AWAY,
    BODY_M,
    CELL_M,
    GRAZE_M,
    GRID_S,
    INSIDE_M,
    MATCH_EDGE_M,
    MATCH_EVERY,
    MATCH_LEAST,
    MATCH_M,
    MATCH_NOISE_M,
    MATCH_ROUNDS,
    MATCH_SIDE,
    MATCH_TIE,
    SLIP_M,
    TIE_M,
)
from dsac_robot.core.values import Floats


def turned(yaw: float) -> Floats:
    """The matrix that turns a column to the left. # (2, 2)"""
    return np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])


def placed(points: Floats, pose: Floats) -> Floats:
    """Points of the frame at ``pose`` in the frame around. # (N, 2) -> (N, 2)"""
    return np.asarray(points @ turned(pose[2]).T + pose[:2])


def seen(points: Floats, pose: Floats) -> Floats:
    """The inverse. # (N, 2) -> (N, 2)"""
    return np.asarray((points - pose[:2]) @ turned(pose[2]))


def clearance(points: Floats, planes: Floats) -> Floats:
    """Of each point to the outline. # (N, 2) -> (N,)"""
    return np.asarray((points @ planes[:, :2].T - planes[:, 2]).max(axis=1))


def beyond(points: Floats, eye: Floats, free_m: Floats) -> Floats:
    """How far beyond each point the scan looked. # (N, 2) -> (N,)"""
    arms = points - eye[:2]
    sectors = np.floor(np.mod(np.arctan2(arms[:, 1], arms[:, 0]) - eye[2], math.tau) / eye[3]).astype(int)
    inside = sectors < len(free_m)
    return np.where(inside, free_m[np.where(inside, sectors, 0)] - np.linalg.norm(arms, axis=1), -np.inf)


def line(free_m: Floats, middle: int, width: float, most_m: float) -> tuple[Floats, float]:
    """Normal and distance of the line through the means of the returns to either side of a beam."""
    window = free_m[middle - MATCH_SIDE : middle + MATCH_SIDE + 1].astype(float)
    if (window <= 0.0).any() or (window >= most_m).any() or (np.abs(np.diff(window)) > MATCH_EDGE_M).any():
        return np.zeros(2), 0.0
    bearings = np.arange(-MATCH_SIDE, MATCH_SIDE + 1) * width
    points = window[:, None] * np.column_stack([np.cos(bearings), np.sin(bearings)])
    right, left = points[:MATCH_SIDE].mean(axis=0), points[MATCH_SIDE + 1 :].mean(axis=0)
    tangent = (left - right) / np.linalg.norm(left - right)
    normal = np.array([-tangent[1], tangent[0]])
    return normal, float(normal @ (left + right) / 2.0)


def shift(returns: Floats, pose: Floats, eye: Floats, free_m: Floats, most_m: float) -> Floats:
    """Weighted least squares, point to line, in rounds that trust outliers less and less. # -> (3,)"""
    found = np.zeros(3)
    for left in range(MATCH_ROUNDS - 1, -1, -1):
        rows, offs, weights = [], [], []
        for arm in returns[::MATCH_EVERY] @ turned(pose[2] + found[2]).T:
            p = pose[:2] + found[:2] + arm - eye[:2]
            sector = (math.atan2(p[1], p[0]) - eye[2]) % math.tau / eye[3]
            middle = int(sector)
            if not MATCH_SIDE <= sector < len(free_m) - MATCH_SIDE or abs(free_m[middle] - np.linalg.norm(p)) > MATCH_M:
                continue
            normal, far = line(free_m, middle, eye[3], most_m)
            normal = turned(eye[2] + (middle + 0.5) * eye[3]) @ normal
            off = normal @ p - far
            rows.append([normal[0], normal[1], normal[1] * arm[0] - normal[0] * arm[1]])
            offs.append(off)
            weights.append(normal @ normal / (1.0 + (off / (MATCH_NOISE_M * 2.0**left)) ** 2) ** 2)
        a, w = np.array(rows).reshape(-1, 3), np.array(weights)
        if w.sum() < MATCH_LEAST:
            return np.zeros(3)
        normal_matrix = a.T @ (w[:, None] * a) + MATCH_TIE * w.sum() * np.eye(3)
        found = found - np.linalg.solve(normal_matrix, a.T @ (w * np.array(offs)))
    return found


def thinned(points: Floats, x: float, y: float, reach: float) -> Floats:
    """The first point of each cell that reaches within ``reach``. # (N, 5) -> (M, 5)"""
    first: dict[tuple[int, int], Floats] = {}
    for point in points:
        cell = math.floor(point[0] / CELL_M), math.floor(point[1] / CELL_M)
        low = math.floor((x - reach) / CELL_M), math.floor((y - reach) / CELL_M)
        if all(low <= c <= low + math.ceil(2.0 * reach / CELL_M) for c, low in zip(cell, low, strict=True)):
            first.setdefault(cell, point)
    return np.array(list(first.values())).reshape(-1, 5)


def slipped(points: Floats, before: Floats, now: Floats) -> Floats:
    """How far each point has slipped between two slips: shift and small turn about the origin. # (N, 2) -> (N,)"""
    d = now - before
    return np.linalg.norm(d[..., :2] + d[..., 2:] * np.column_stack([-points[:, 1], points[:, 0]]), axis=1)


def path(
    command: Floats, stop_s: float, first: tuple[float, float], before: Floats, hold_s: float, lag: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Every step of a roll-out, and the speed of the fastest corner there. # -> (M, 4), (M,)"""
    keep, settle_s, slip_s, radius = lag
    begin = len(before) * GRID_S
    end = max(len(before) + 1, math.ceil((begin + hold_s + stop_s + settle_s) / GRID_S))
    twist, pose = np.array(first), np.zeros(3)
    poses, corners = [np.zeros(4)], [abs(twist[0]) + radius * abs(twist[1])]
    for i in range(end):
        late_s = (i + 0.5) * GRID_S - begin - hold_s
        wanted = before[i] if i < len(before) else command * np.clip(1.0 - late_s / max(stop_s, 1e-9), 0.0, 1.0)
        new = wanted + keep * (twist - wanted)
        way, turn = (new + twist) / 2.0 * GRID_S
        heading = pose[2] + turn / 2.0 - slip_s * turn / GRID_S
        pose = pose + np.array([way * math.cos(heading), way * math.sin(heading), turn])
        twist = new
        poses.append(np.array([*pose, (i + 1) * GRID_S]))
        corners.append(abs(twist[0]) + radius * abs(twist[1]))
    return np.array(poses), np.array(corners)


def sectors_of(points: Floats, eye: Floats) -> Floats:
    """In which sector of a scan each point lies. # (N, 2) -> (N,)"""
    return (np.arctan2(points[:, 1] - eye[1], points[:, 0] - eye[0]) - eye[2]) % math.tau / eye[3]


def saw_around(point: Floats, radius: float, eye: Floats, free_m: Floats) -> bool:
    """Whether each sector that a disc reaches into looked past all of it; the eye must be outside."""
    far = math.dist(point, eye[:2])
    if far <= radius:
        return False
    starts = (np.arange(round(math.tau / eye[3])) * eye[3] + eye[2]) - math.atan2(*(point - eye[:2])[::-1])
    half = math.asin(radius / far)
    reached = ((starts + half) % math.tau <= 2.0 * half) | ((starts + half) % math.tau > math.tau - eye[3])
    shown = np.full(len(starts), -np.inf)
    shown[: len(free_m)] = free_m[: len(starts)]
    return bool((shown[reached] >= far + radius - GRAZE_M).all())


def seen_free(
    poses: Floats, base: Floats, boundary: Floats, planes: Floats,
    eye: Floats, free_m: Floats, beams: int, stood: Floats, eyes: Floats, frames_free_m: Floats, disc: Floats,
) -> bool:  # fmt: skip
    """Whether each boundary point at each pose is in the body, or was seen or stood free. In the dark of the fan the
    second radius and the second shrinking count, and a look counts where all that could come to the point was seen."""
    at = np.concatenate([placed(boundary, pose) for pose in poses])
    free = clearance(at, planes) <= BODY_M
    at = placed(at, base)
    free |= beyond(at, eye, free_m) > -GRAZE_M
    dark = (np.isneginf(beyond(at, eye, free_m)) & (sectors_of(at, eye) < beams)).astype(int)
    free |= np.linalg.norm(at - disc[:2], axis=1) < disc[2 + dark]
    for body in stood:
        free |= clearance(seen(at, body), planes) < BODY_M - body[3 + dark]
    for i in range(len(eyes)):
        less = stood[i + 1, 3:]
        looked = beyond(at, eyes[i], frames_free_m[i]) > less[0] - GRAZE_M
        if less[1] > less[0]:
            around = np.array([saw_around(p, less[1], eyes[i], frames_free_m[i]) for p in at])
            looked = np.where(dark, around, looked)
        free |= looked
    return bool(free.all())


def near(
    poses: Floats, counts: Floats, keeps: Floats, growth: float, age: float, reach: float, base: Floats,
    returns: Floats, view_pose: Floats, eye: Floats, free_m: Floats, remembered: Floats, slip: Floats,
) -> Floats:  # fmt: skip
    """The discs within reach of the box around the poses that count. # -> (N, 3)"""
    used = np.concatenate([poses[k, :count] for k, count in enumerate(counts)])
    reach += keeps.max() + growth * max(used[:, 3].max() + age, 0.0) + SLIP_M
    low, high = used[:, :2].min(axis=0) - reach, used[:, :2].max(axis=0) + reach
    new = seen(placed(returns, view_pose), base)
    moved = slipped(remembered[:, :2], remembered[:, 2:], slip)
    hidden = np.isneginf(beyond(remembered[:, :2], eye, free_m))
    old = seen(remembered[:, :2], base)
    old_in = ((low - moved[:, None] < old) & (old < high + moved[:, None])).all(axis=1) & hidden
    new = new[((low < new) & (new < high)).all(axis=1)]
    return np.concatenate([np.column_stack([new, np.zeros(len(new))]), np.column_stack([old, SLIP_M + moved])[old_in]])


def gaps(poses: Floats, discs: Floats, planes: Floats) -> Floats:
    """Clearance of each disc at each pose. # (M, 4), (N, 3) -> (M, N)"""
    return np.array([clearance(seen(discs[:, :2], pose), planes) - discs[:, 2] for pose in poses])


def keeps_clear(
    poses: Floats, keep: float, growth: float, age: float, slowness: float, stop: Floats, discs: Floats, planes: Floats
) -> bool:
    """Whether one command comes to no disc nearer than it may."""
    moved = (growth * np.maximum(poses[:, 3] + age, 0.0))[:, None]
    gap, rest = gaps(poses, discs, planes), np.zeros((1, 4))
    floor = np.broadcast_to(gaps(stop, discs, planes).min(axis=0) - TIE_M, gap.shape)
    floor = np.maximum(floor, moved) if growth > 0.0 else floor
    now, way = gaps(rest, discs, planes), np.linalg.norm(poses[:, :2], axis=1)[:, None]
    away = AWAY * way * (now + discs[:, 2] < -INSIDE_M)
    floor = np.where(gap < moved, np.maximum(floor, now - TIE_M + away), floor)
    bad = (gap < floor) | ((slowness > 0.0) & (gap - moved < slowness * keep))
    return not bool((bad & (gap < keep + moved)).any())
