"""What was seen: a short rolling memory of scans in the odom frame, for the space that the lidar does not see now.

Space is free where a scan looked through it, where the robot's own body stood, or within the disc that the operator
vouches for at activation. What was seen free shrinks with the odometry's drift and at the obstacles' speed bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsac_robot.core.guard_geometry import Outline, Pose, from_frame, to_frame
from dsac_robot.core.lidar import beam_directions, free_distance
from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import NS, Floats, Floats32, Scan

Mask = npt.NDArray[np.bool_]

FRAMES = 12
FRAME_STEP_M = 0.2
FRAME_STEP_RAD = math.radians(20.0)
POINTS_KEPT_M = 2.0  # remembered returns farther from the robot are dropped
POINT_GRID_M = 0.02  # one remembered return a cell
GRAZE_M = 0.05  # a beam that ends so little before a point still shows it free: returns themselves are checked apart
DRIFT = 0.02  # drift of the odometry by distance
SLIP_M = 0.04  # skid-steer wheels slip so far, mostly when reversing and turning, while a return is remembered
BLUR = SLIP_M * np.array([[0.0, 0.0], *([math.cos(a), math.sin(a)] for a in np.arange(6) * math.pi / 3.0)])
BODY_M = 2e-4  # rounding; more would let a slow robot push its own free space before it


@dataclass(frozen=True, eq=False)
class View:
    """One scan, read once: the returns, and how far each beam shows free space."""

    stamp_ns: int
    pose: Pose  # of the base, in the odom frame, at the stamp
    travelled_m: float  # odometer at the stamp
    returns: Floats  # (N, 2) base frame at the stamp
    free_m: Floats32  # (B,) 0 where the beam is invalid
    valid: Mask  # (B,)
    valid_beams: int = 0  # before bridging


@dataclass(frozen=True, eq=False)
class Memory:
    """Key-frames, remembered returns in the odom frame, and the disc assumed free at activation."""

    frames: tuple[View, ...] = ()
    points: Floats | None = None  # (P, 2) odom frame
    disc: View | None = None  # its pose, stamp and odometer only


def read_scan(scan: Scan, lidar: Lidar, pose: Pose, travelled_m: float) -> View:
    """The scan as a view. A single invalid beam between two valid ones is bridged: nothing fits between them."""
    free, valid = free_distance(scan.ranges_m, lidar)
    filled, bridged = free, valid
    if not valid.all():
        filled, bridged = free.copy(), valid.copy()
        bridged[1:-1] |= valid[:-2] & valid[2:]
        filled[1:-1] = np.where(valid[1:-1], free[1:-1], np.minimum(free[:-2], free[2:]))
        filled[~bridged] = 0.0
    hit = valid & (free < lidar.range_max_m)
    returns = beam_directions(lidar)[hit] * free[hit, None].astype(np.float64) + np.array([lidar.x_m, lidar.y_m])
    return View(scan.stamp_ns, pose, travelled_m, returns, filled, bridged, int(valid.sum()))


def look_up(view: View, points: Floats, lidar: Lidar) -> tuple[Mask, Floats]:
    """Whether a valid beam points at each point, and how far it is free beyond. # (N, 2) odom -> (N,), (N,)"""
    x, y = from_frame(points, view.pose).T
    x, y = x - lidar.x_m, y - lidar.y_m
    bearing = np.mod(np.arctan2(y, x) - lidar.yaw_rad - lidar.angle_min_rad + 0.5 * lidar.angle_increment_rad, math.tau)
    beam = (bearing / lidar.angle_increment_rad).astype(np.intp)
    aimed = beam < lidar.beams
    beam *= aimed
    return aimed & view.valid[beam], view.free_m[beam] - np.hypot(x, y)


def seen_free(
    memory: Memory, view: View, points: Floats, now_ns: int, outline: Outline, lidar: Lidar, obstacle_mps: float
) -> Mask:
    """Whether each point was seen free and must be so still. ``view`` is the newest scan. # (N, 2) odom -> (N,)"""
    aimed, beyond = look_up(view, points, lidar)
    free = aimed & (beyond > -GRAZE_M)
    for frame in (view, *reversed(memory.frames)):
        left = np.flatnonzero(~free)
        if len(left) == 0:
            return free
        shrink = DRIFT * (view.travelled_m - frame.travelled_m) + obstacle_mps * max(0, now_ns - frame.stamp_ns) / NS
        query = points[left]
        free[left] = outline.clearance_m(from_frame(query, frame.pose)) < BODY_M - shrink
        if frame is view and shrink == 0.0:  # looked at above
            continue
        aimed, beyond = look_up(frame, query, lidar)
        free[left] |= aimed & (beyond > shrink - GRAZE_M)
    if memory.disc is not None:
        disc = memory.disc
        shrink = DRIFT * (view.travelled_m - disc.travelled_m) + obstacle_mps * max(0, now_ns - disc.stamp_ns) / NS
        radius = outline.radius_m + 0.1 - shrink
        free |= np.hypot(points[:, 0] - disc.pose[0], points[:, 1] - disc.pose[1]) < radius
    return free


def remember(memory: Memory, view: View, lidar: Lidar) -> Memory:
    """The memory after a new scan: it becomes a key-frame where the robot has moved or turned enough.

    It takes the place of an older one from about the same pose, so that a robot that moves to and fro does not forget
    what it saw on the way; when there are too many, the one from farthest away is dropped.
    """
    frames = memory.frames
    apart = [_apart(frame.pose, view.pose) for frame in frames]
    if apart and apart[-1] < 1.0:
        return memory
    if apart and min(apart) < 1.0:
        alike = apart.index(min(apart))
        frames = (*frames[:alike], *frames[alike + 1 :])
    elif len(frames) == FRAMES:
        gone = max(range(FRAMES), key=lambda i: math.dist(frames[i].pose[:2], view.pose[:2]))
        frames = (*frames[:gone], *frames[gone + 1 :])
    points = to_frame(view.returns, view.pose)
    if memory.points is not None and len(memory.points):
        aimed, beyond = look_up(view, memory.points, lidar)
        points = np.concatenate([points, memory.points[~(aimed & (beyond > GRAZE_M))]])  # gone where seen through
    points = points[np.hypot(points[:, 0] - view.pose[0], points[:, 1] - view.pose[1]) < POINTS_KEPT_M]
    cells = np.floor(points / POINT_GRID_M).astype(np.int64)
    _, first = np.unique(cells, axis=0, return_index=True)
    return Memory((*frames, view), points[np.sort(first)], memory.disc)


def _apart(a: Pose, b: Pose) -> float:
    """How far two poses are apart, in steps of key-frames."""
    turned = abs(math.remainder(a[2] - b[2], math.tau))
    return max(math.dist(a[:2], b[:2]) / FRAME_STEP_M, turned / FRAME_STEP_RAD)


def hidden_points(memory: Memory, view: View, base: Pose, reach_m: float, lidar: Lidar) -> Floats:
    """Remembered returns within reach of the robot that the newest scan does not look at, each with a ring around it
    for what odometry may have slipped since. # -> (n, 2) odom frame"""
    if memory.points is None or len(memory.points) == 0:
        return np.zeros((0, 2))
    gap = memory.points - np.array(base[:2])
    near: Floats = memory.points[np.abs(gap).max(axis=1) < reach_m]
    if len(near) == 0:
        return near
    aimed, _ = look_up(view, near, lidar)
    return np.asarray((near[~aimed][:, None, :] + BLUR).reshape(-1, 2))
