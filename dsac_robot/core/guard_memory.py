"""What was seen: a short rolling memory of scans in the odom frame, for the space that the lidar does not see now.

Space is free where a scan looked through it, where the robot's own body stood, or within the disc that the operator
vouches for at activation. What was seen free shrinks with the odometry's drift and at the obstacles' speed bound. Where
the scans show that odometry slipped (each is laid onto the last key-frame), what was seen free shrinks, and remembered
returns grow, by as much: they may be where odometry says, or where the scans do.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from dsac_robot.core.guard_geometry import Outline, Pose
from dsac_robot.core.guard_loops import (
    GRAZE_M,
    beyond_each,
    bridged,
    placed_returns,
    scan_shift,
    stood_at,
    swept_seen_free,
    thinned,
)
from dsac_robot.core.lidar import free_distance, returns_of
from dsac_robot.core.memo import by_identity
from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import Floats, Floats32, Indices, Scan

FRAMES = 12
FRAME_STEP_M = 0.2
FRAME_STEP_RAD = math.radians(20.0)
POINTS_KEPT_M = 2.0  # remembered returns farther from the robot are dropped
NO_POINTS = np.zeros((0, 5))
NOWHERE = np.zeros(0, np.float32)  # the sectors of a scan that looks nowhere


@dataclass(frozen=True, eq=False)
class View:
    """One scan, read once: the returns, and how far the lidar shows free space all around."""

    stamp_ns: int
    pose: Pose  # of the base, in the odom frame, at the stamp
    drift_m: float  # how far odometry may have drifted until the stamp
    returns: Floats  # (N, 2) base frame at the stamp
    free_m: Floats32  # (S,) by sector of one beam's width, from the first beam on; -inf where no valid beam looks
    valid_beams: int = 0  # before bridging
    slip: tuple[float, float, float] = (0.0, 0.0, 0.0)  # x, y, turn about the origin by which scans and odometry differ


@dataclass(frozen=True, eq=False)
class Memory:
    """Key-frames, remembered returns in the odom frame, and the disc assumed free at activation."""

    frames: tuple[View, ...] = ()
    points: Floats = field(default_factory=lambda: NO_POINTS)  # (P, 5) odom frame, and their scan's slip
    disc: View | None = None  # its pose, stamp, odometer and slip only


def read_scan(scan: Scan, lidar: Lidar, pose: Pose, drift_m: float) -> View:
    """The scan as a view. A single invalid beam between two valid ones is bridged: nothing fits between them."""
    free, valid = free_distance(scan.ranges_m, lidar)
    shown = np.full(max(lidar.beams, int(math.tau / lidar.angle_increment_rad) + 1), -np.inf, np.float32)
    count = bridged(free, valid, shown)
    return View(scan.stamp_ns, pose, drift_m, returns_of(free, valid, lidar), shown, count)


@by_identity(4)
def eye_of(pose: Pose, lidar: Lidar) -> Floats:
    """Where the lidar of a base at ``pose`` is, at which bearing its first sector begins, how wide one is. Not to be
    written to. # -> (4,)"""
    c, s = math.cos(pose[2]), math.sin(pose[2])
    first = pose[2] + lidar.yaw_rad + lidar.angle_min_rad - 0.5 * lidar.angle_increment_rad
    return np.array(
        [
            pose[0] + c * lidar.x_m - s * lidar.y_m,
            pose[1] + s * lidar.x_m + c * lidar.y_m,
            first,
            lidar.angle_increment_rad,
        ]
    )


@dataclass(frozen=True, eq=False)
class _Kept:
    """The key-frames in arrays, and the disc's stamp, drift and slip as the last row where there is one."""

    stamps_ns: Indices  # (G,)
    moved: Floats  # (G, 4): drift, slip
    poses: Floats  # (F, 3)
    eyes: Floats  # (F, 4)
    free_m: Floats32  # (F, S)


@by_identity(2)
def _kept(frames: tuple[View, ...], disc: View | None, lidar: Lidar) -> _Kept:
    dated = frames if disc is None else (*frames, disc)
    return _Kept(
        np.array([view.stamp_ns for view in dated], np.int64),
        np.array([(view.drift_m, *view.slip) for view in dated]).reshape(-1, 4),
        np.array([frame.pose for frame in frames]).reshape(-1, 3),
        np.array([eye_of(frame.pose, lidar) for frame in frames]).reshape(-1, 4),
        np.stack([frame.free_m for frame in frames]) if frames else np.zeros((0, 0), np.float32),
    )


@dataclass(frozen=True, eq=False)
class Known:
    """What counts as free now, in the odom frame: by the newest scan, by where the body stood, by earlier scans."""

    eye: Floats  # (4,) of the newest scan, see eye_of
    free_m: Floats32  # (S,)
    beams: int  # of the sectors the first ones: the fan
    stood: Floats  # (F + 1, 5): poses, and by how much less than the outline counts, outside of the fan and inside
    eyes: Floats  # (F, 4)
    frames_free_m: Floats32  # (F, S)
    disc: Floats  # (4,): x, y, radius outside of the fan and inside

    @classmethod
    def of(
        cls, memory: Memory, view: View, now_ns: int, outline: Outline, lidar: Lidar, unseen_mps: float, dark_mps: float
    ) -> Known:
        """``view`` is the newest scan. What was seen shrinks with the odometry's drift and at the speed of obstacles:
        ``unseen_mps`` where the lidar does not look, ``dark_mps`` where it should and its beams say nothing."""
        kept = _kept(memory.frames, memory.disc, lidar)
        newest = view.stamp_ns, np.array(view.pose), np.array([view.drift_m, *view.slip])
        speeds = unseen_mps, max(unseen_mps, dark_mps)
        stood, shrunk_m = stood_at(now_ns, *newest, kept.stamps_ns, kept.moved, kept.poses, *speeds)
        disc = np.zeros(4)
        if memory.disc is not None:
            disc[:2], disc[2:] = memory.disc.pose[:2], outline.radius_m + 0.1 - shrunk_m
        eye = eye_of(view.pose, lidar)
        return cls(eye, view.free_m, lidar.beams, stood, kept.eyes, kept.free_m, disc)


def seen_free(poses: Floats, base: Pose, known: Known, outline: Outline) -> bool:
    """Whether all that the outline sweeps at these poses was seen free and must be so still.

    ``poses`` in the base frame at ``base`` # (M, 3) or wider
    """
    seen = known.eye, known.free_m, known.beams, known.stood, known.eyes, known.frames_free_m, known.disc
    return swept_seen_free(poses, np.array(base), outline.boundary, outline.planes, *seen)


def with_slip(view: View, memory: Memory, lidar: Lidar) -> View:
    """The scan with its slip: that of the last key-frame, and what lays the scan onto it."""
    if not memory.frames:
        return view if memory.disc is None else dataclasses.replace(view, slip=memory.disc.slip)
    last = memory.frames[-1]
    eye, pose = eye_of(last.pose, lidar), np.array(view.pose)
    dx, dy, turn = scan_shift(view.returns, pose, eye, last.free_m, lidar.range_max_m)
    (x, y, _), was = view.pose, last.slip
    return dataclasses.replace(view, slip=(was[0] + dx + turn * y, was[1] + dy - turn * x, was[2] + turn))


def remember(memory: Memory, before: View | None, view: View, lidar: Lidar) -> Memory:
    """The memory after a new scan: it becomes a key-frame where the robot has moved or turned enough.

    It takes the place of an older one from about the same pose, so that a robot that moves to and fro does not forget
    what it saw on the way; when there are too many, the one from farthest away is dropped. What the scan before it met
    where it does not look itself is remembered in any case: it may have moved since the last key-frame.
    """
    points, frames = memory.points, memory.frames
    eye = eye_of(view.pose, lidar)
    left = NO_POINTS if before is None else _placed(before, eye, view.free_m)
    apart = [_apart(frame.pose, view.pose) for frame in frames]
    if not apart or apart[-1] >= 1.0:
        if apart and min(apart) < 1.0:
            alike = apart.index(min(apart))
            frames = (*frames[:alike], *frames[alike + 1 :])
        elif len(frames) == FRAMES:
            gone = max(range(FRAMES), key=lambda i: math.dist(frames[i].pose[:2], view.pose[:2]))
            frames = (*frames[:gone], *frames[gone + 1 :])
        frames = (*frames, view)
        points = points[~(beyond_each(points, eye, view.free_m) > GRAZE_M)]
        left = np.concatenate([_placed(view, eye, NOWHERE), left])
    elif len(left) == 0:
        return memory
    points = np.concatenate([left, points])
    return Memory(frames, thinned(points, *view.pose[:2], POINTS_KEPT_M), memory.disc)


def _placed(view: View, eye: Floats, free_m: Floats32) -> Floats:
    """The returns in the odom frame, with the scan's slip, where a scan from ``eye`` does not look. # (N, 5)"""
    return placed_returns(view.returns, np.array(view.pose), np.array(view.slip), eye, free_m)


def _apart(a: Pose, b: Pose) -> float:
    """How far two poses are apart, in steps of key-frames."""
    turned = abs(math.remainder(a[2] - b[2], math.tau))
    return max(math.dist(a[:2], b[:2]) / FRAME_STEP_M, turned / FRAME_STEP_RAD)
