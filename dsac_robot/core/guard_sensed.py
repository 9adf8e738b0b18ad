"""What the guard knows from its sensors: odometry of the last moments, the newest scan, the memory of seen space."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dsac_robot.core.guard_geometry import Pose, pose_at, pose_of
from dsac_robot.core.guard_inputs import (
    Fault,
    age_s,
    empty_scan_fault,
    odom_fault,
    odom_jump,
    odom_values_fault,
    scan_fault,
)
from dsac_robot.core.guard_memory import Memory, View, read_scan, remember, with_slip
from dsac_robot.core.guard_motion import Sent
from dsac_robot.core.guard_odom import OdomWatch, watched
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.reasons import Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Odom, Scan, ns

SAMPLES_MAX = 64
DRIFT = 0.02  # drift of the odometry by distance
SLIDE = 0.6  # of the side slip at the limit: what the simulated bases slide by on the average of random drives


@dataclass(frozen=True, eq=False)
class Sensed:
    """Sound samples only: what is faulty is not taken in."""

    odoms: tuple[Odom, ...] = ()  # with the slide in turns, which wheels and gyro do not see, added to their poses
    odom: Odom | None = None  # the newest as it came
    drift_m: float = 0.0  # how far odometry may have come from the truth since the start
    scan: Scan | None = None  # the newest that was taken in
    empty: Fault | None = None  # that scan says nothing
    same_since_ns: int = 0  # stamp of the first scan with the very same ranges
    same_pose: Pose = (0.0, 0.0, 0.0)  # and the robot's pose then
    watch: OdomWatch = field(default_factory=OdomWatch)
    view: View | None = None
    memory: Memory = field(default_factory=Memory)
    enabled: bool = False


def sense(
    sensed: Sensed, inp: GuardInput, sent: Sequence[Sent], params: GuardParams, robot: Robot
) -> tuple[Sensed, Fault | None]:
    """What is known after looking at the newest scan and odometry, and the first fault in them. ``sent``: of late."""
    before = sensed.odom
    sensed, jump = _take_odom(sensed, inp, params, robot)
    taken = jump is None and sensed.odom is not before
    watch = watched(sensed.watch, before if taken else None, inp, sent, params)
    sensed = sensed if watch is sensed.watch else dataclasses.replace(sensed, watch=watch)
    wrong = scan_fault(inp.scan, inp.now_ns, params, robot.lidar) or _out_of_order(sensed.scan, inp.scan)
    if sensed.odoms:
        if inp.enabled != sensed.enabled:
            sensed = _activated(sensed, inp)
        sensed = _take_scan(sensed, None if wrong else inp.scan, params, robot)
    wrong = (
        wrong or sensed.empty or odom_fault(inp.odom, inp.now_ns, params, robot.limits) or jump or sensed.watch.fault
    )
    return sensed, wrong or _frozen(sensed, params, robot)


def _out_of_order(before: Scan | None, scan: Scan | None) -> Fault | None:
    """Whether a scan's stamp goes back, or stands still under other ranges."""
    if before is None or scan is None or scan is before or scan.stamp_ns > before.stamp_ns:
        return None
    back_s = age_s(before.stamp_ns, scan.stamp_ns)
    if back_s == 0.0 and scan.ranges_m.tobytes() == before.ranges_m.tobytes():
        return None  # delivered twice
    return Fault(Reason.SCAN_OUT_OF_ORDER, (("back_s", back_s),))


def _take_odom(sensed: Sensed, inp: GuardInput, params: GuardParams, robot: Robot) -> tuple[Sensed, Fault | None]:
    """Add a new sound sample of odometry. After a jump all that was known by the old pose is forgotten."""
    odom = inp.odom
    if odom is None or (sensed.odoms and odom.stamp_ns <= sensed.odoms[-1].stamp_ns):
        return sensed, None
    if odom_values_fault(odom, robot.limits) or age_s(inp.now_ns, odom.stamp_ns) < -params.future_tolerance_s:
        return sensed, None
    before = sensed.odom
    if before is None:
        return dataclasses.replace(sensed, odoms=(odom,), odom=odom), None
    jump = odom_jump(before, odom, robot.limits)
    if jump is not None:
        watch = dataclasses.replace(sensed.watch, reckoned=None)
        return Sensed((odom,), odom, sensed.drift_m, watch=watch, enabled=sensed.enabled), jump
    dx, dy = odom.x_m - before.x_m, odom.y_m - before.y_m
    turn_rate = math.remainder(odom.yaw_rad - before.yaw_rad, math.tau) / age_s(odom.stamp_ns, before.stamp_ns)
    aside = SLIDE * robot.actuation.side_slip_s * turn_rate  # the way is so much to the right of the heading
    c, s = math.cos(aside), math.sin(aside)
    last = sensed.odoms[-1]
    placed = dataclasses.replace(odom, x_m=last.x_m + c * dx + s * dy, y_m=last.y_m - s * dx + c * dy)
    oldest = inp.now_ns - ns(params.odom_timeout_s + params.scan_timeout_s + 0.1)
    odoms = (*(kept for kept in sensed.odoms if kept.stamp_ns >= oldest), placed)[-SAMPLES_MAX:]
    drift_m = sensed.drift_m + DRIFT * math.hypot(dx, dy)
    return dataclasses.replace(sensed, odoms=odoms, odom=odom, drift_m=drift_m), None


def _activated(sensed: Sensed, inp: GuardInput) -> Sensed:
    """At activation the operator vouches for a disc around the footprint; what was seen before is old."""
    if not inp.enabled:
        return dataclasses.replace(sensed, enabled=False)
    nothing = np.zeros((0, 2)), np.zeros(0, np.float32)
    slip = (0.0, 0.0, 0.0) if sensed.view is None else sensed.view.slip
    disc = View(inp.now_ns, pose_of(sensed.odoms[-1]), sensed.drift_m, *nothing, slip=slip)
    return dataclasses.replace(sensed, memory=Memory(disc=disc), enabled=True)


def _take_scan(sensed: Sensed, scan: Scan | None, params: GuardParams, robot: Robot) -> Sensed:
    """Read a new scan, watch for frozen ranges, keep the memory; else only place the old one by newer odometry."""
    if scan is None or (sensed.scan is not None and scan.stamp_ns <= sensed.scan.stamp_ns):
        view = sensed.view
        if view is None or view.stamp_ns <= sensed.odoms[0].stamp_ns:
            return sensed
        return dataclasses.replace(sensed, view=dataclasses.replace(view, pose=pose_at(sensed.odoms, view.stamp_ns)))
    view = read_scan(scan, robot.lidar, pose_at(sensed.odoms, scan.stamp_ns), sensed.drift_m)
    view = with_slip(view, sensed.memory, robot.lidar)
    same = sensed.scan is not None and scan.ranges_m.tobytes() == sensed.scan.ranges_m.tobytes()
    if not same or len(view.returns) == 0:  # scans without returns are alike on open ground, too
        same_since_ns, same_pose = scan.stamp_ns, pose_of(sensed.odoms[-1])
    else:
        same_since_ns, same_pose = sensed.same_since_ns, sensed.same_pose
    return dataclasses.replace(
        sensed,
        scan=scan,
        empty=empty_scan_fault(view.valid_beams, robot.lidar.beams, len(view.returns), params),
        same_since_ns=same_since_ns,
        same_pose=same_pose,
        view=view,
        memory=remember(sensed.memory, sensed.view, view, robot.lidar),
    )


def _frozen(sensed: Sensed, params: GuardParams, robot: Robot) -> Fault | None:
    """Whether the scan stays the very same while the robot moves."""
    if sensed.scan is None or not sensed.odoms:
        return None
    same = age_s(sensed.scan.stamp_ns, sensed.same_since_ns)
    if same <= 0.0:
        return None
    x, y, yaw = pose_of(sensed.odoms[-1])
    turned = abs(math.remainder(yaw - sensed.same_pose[2], math.tau))
    moved = math.hypot(x - sensed.same_pose[0], y - sensed.same_pose[1])
    moved += turned * float(np.hypot(*robot.footprint.T).max())
    limit_m = params.frozen_motion_m if same >= params.frozen_s else params.frozen_far_m
    if moved > limit_m:
        return Fault(Reason.SCAN_FROZEN, (("same_s", same), ("moved_m", moved), ("limit_m", limit_m)))
    return None
