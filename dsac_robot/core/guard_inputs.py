"""What the guard makes of its inputs: which are faulty, which command goes with which verdict. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.guard_types import GuardInput, GuardParams, Verdict
from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.core.robot import Lidar, Limits, Robot
from dsac_robot.core.values import NS, Command, Odom, Scan

Numbers = tuple[tuple[str, float], ...]
GEOMETRY_TOLERANCE_RAD = 2e-3  # over the whole fan: a message's float32 is well within
POSITION_M_MAX = 1e6  # odometry beyond is no position
LIMIT_SLACK = 1e-3  # relative; a command in float32 may exceed its limit by so much
ODOM_SLACK_M = 0.1
ODOM_SLACK_RAD = 0.2
COMMANDS_KEPT = 4


@dataclass(frozen=True)
class Fault:
    """A cause to stop, with the numbers that made it one."""

    reason: Reason
    numbers: Numbers = ()


@dataclass(frozen=True)
class Waiting:
    """A policy command that the monitor has not judged yet, and when the guard first saw it."""

    command: Command
    since_ns: int


@dataclass(frozen=True)
class Pairing:
    """Commands and verdicts: the newest judged pair, and the newer commands that wait."""

    judged: Command | None = None
    verdict: Verdict | None = None
    waiting: tuple[Waiting, ...] = ()


def age_s(now_ns: int, stamp_ns: int) -> float:
    """Age of a sample, negative for the future."""
    return (now_ns - stamp_ns) / NS


def paired(pairing: Pairing, command: Command | None, verdict: Verdict | None, now_ns: int) -> Pairing:
    """The pairing after looking at the newest command and the newest verdict."""
    judged, last, waiting = pairing.judged, pairing.verdict, pairing.waiting
    newest_ns = max((w.command.stamp_ns for w in waiting), default=judged.stamp_ns if judged else None)
    if command is not None and command.finite and (newest_ns is None or command.stamp_ns > newest_ns):
        waiting = (*waiting, Waiting(command, now_ns))[-COMMANDS_KEPT:]
    if verdict is not None:
        for item in waiting:
            if item.command.stamp_ns == verdict.judged_stamp_ns:
                judged, last = item.command, verdict
    if judged is not None:
        waiting = tuple(w for w in waiting if w.command.stamp_ns > judged.stamp_ns)
    return Pairing(judged, last, waiting)


def _stamp_fault(
    stamp_ns: int, now_ns: int, timeout_s: float, tolerance_s: float, stale: Reason, future: Reason
) -> Fault | None:
    age = age_s(now_ns, stamp_ns)
    if age < -tolerance_s:
        return Fault(future, (("age_s", age), ("limit_s", -tolerance_s)))
    if age > timeout_s:
        return Fault(stale, (("age_s", age), ("limit_s", timeout_s)))
    return None


def scan_shape_fault(scan: Scan, lidar: Lidar) -> Fault | None:
    """Whether a scan is of another lidar."""
    if np.shape(scan.ranges_m) != (lidar.beams,):
        return Fault(Reason.SCAN_WRONG_COUNT, (("beams", float(np.size(scan.ranges_m))), ("limit", float(lidar.beams))))
    if scan.frame_id != lidar.frame_id:
        return Fault(Reason.SCAN_WRONG_FRAME)
    first = abs(scan.angle_min_rad - lidar.angle_min_rad)
    fan = abs(scan.angle_increment_rad - lidar.angle_increment_rad) * lidar.beams
    if not (first <= GEOMETRY_TOLERANCE_RAD and fan <= GEOMETRY_TOLERANCE_RAD):
        numbers = (("angle_min_rad", scan.angle_min_rad), ("angle_increment_rad", scan.angle_increment_rad))
        return Fault(Reason.SCAN_WRONG_GEOMETRY, numbers)
    return None


def scan_fault(scan: Scan | None, now_ns: int, params: GuardParams, lidar: Lidar) -> Fault | None:
    """What is wrong with the newest scan's shape or stamp, or None. What it says is judged when it is read."""
    if scan is None:
        return Fault(Reason.SCAN_MISSING)
    return scan_shape_fault(scan, lidar) or _stamp_fault(
        scan.stamp_ns,
        now_ns,
        params.scan_timeout_s,
        params.future_tolerance_s,
        Reason.SCAN_STALE,
        Reason.SCAN_FROM_FUTURE,
    )


def empty_scan_fault(valid_beams: int, beams: int, returns: int, params: GuardParams) -> Fault | None:
    """Whether a scan says nothing at all, or too little."""
    if valid_beams == 0:
        return Fault(Reason.SCAN_ALL_INVALID, (("valid_beams", 0.0),))
    if valid_beams < params.valid_beams_min * beams:
        limit = ("limit", math.ceil(params.valid_beams_min * beams))
        return Fault(Reason.SCAN_HALF_BLIND, (("valid_beams", float(valid_beams)), limit))
    if params.blank_is_fault and returns == 0:
        return Fault(Reason.SCAN_BLANK, (("valid_beams", float(valid_beams)), ("returns", 0.0)))
    return None


def odom_values_fault(odom: Odom, limits: Limits) -> Fault | None:
    """Whether odometry's numbers cannot be those of this robot."""
    values = (odom.x_m, odom.y_m, odom.qz, odom.qw, odom.speed_mps, odom.yaw_rate_radps)
    finite = all(math.isfinite(value) for value in values)
    if not finite or max(abs(odom.x_m), abs(odom.y_m)) > POSITION_M_MAX or abs(odom.qz) > 2.0 or abs(odom.qw) > 2.0:
        return Fault(Reason.ODOM_NOT_FINITE)
    norm = math.hypot(odom.qz, odom.qw)
    if not 0.9 < norm < 1.1:
        return Fault(Reason.ODOM_NOT_FINITE, (("quaternion_norm", norm),))
    speed_max = 2.0 * max(limits.speed_mps_max, -limits.speed_mps_min) + 1.0
    turn_max = 2.0 * limits.yaw_rate_radps_max + 2.0
    if abs(odom.speed_mps) > speed_max or abs(odom.yaw_rate_radps) > turn_max:
        numbers = (("speed_mps", odom.speed_mps), ("limit_mps", speed_max), ("yaw_rate_radps", odom.yaw_rate_radps))
        return Fault(Reason.ODOM_JUMP, numbers)
    return None


def odom_jump(before: Odom, after: Odom, limits: Limits) -> Fault | None:
    """Whether the robot cannot have moved from one sample to the next."""
    dt = age_s(after.stamp_ns, before.stamp_ns)
    moved = math.hypot(after.x_m - before.x_m, after.y_m - before.y_m)
    moved_max = 1.5 * max(limits.speed_mps_max, -limits.speed_mps_min) * dt + ODOM_SLACK_M
    turned = abs(math.remainder(after.yaw_rad - before.yaw_rad, math.tau))
    turned_max = 2.0 * limits.yaw_rate_radps_max * dt + ODOM_SLACK_RAD
    if moved > moved_max or turned > turned_max:
        numbers = (("moved_m", moved), ("limit_m", moved_max), ("turned_rad", turned), ("limit_rad", turned_max))
        return Fault(Reason.ODOM_JUMP, numbers)
    return None


def odom_fault(odom: Odom | None, now_ns: int, params: GuardParams, limits: Limits) -> Fault | None:
    """The first thing wrong with the newest odometry alone, or None."""
    if odom is None:
        return Fault(Reason.ODOM_MISSING)
    return odom_values_fault(odom, limits) or _stamp_fault(
        odom.stamp_ns,
        now_ns,
        params.odom_timeout_s,
        params.future_tolerance_s,
        Reason.ODOM_STALE,
        Reason.ODOM_FROM_FUTURE,
    )


def command_fault(
    command: Command | None, now_ns: int, timeout_s: float, params: GuardParams, limits: Limits
) -> Fault | None:
    """The first thing wrong with a command, or None."""
    if command is None:
        return Fault(Reason.COMMAND_MISSING)
    if not command.finite:
        return Fault(Reason.COMMAND_NOT_FINITE)
    low, high, turn = limits.speed_mps_min, limits.speed_mps_max, limits.yaw_rate_radps_max
    slack = LIMIT_SLACK * max(high, -low)
    if not low - slack <= command.speed_mps <= high + slack:
        limit = high if command.speed_mps > high else low
        return Fault(Reason.COMMAND_OUT_OF_RANGE, (("speed_mps", command.speed_mps), ("limit_mps", limit)))
    if abs(command.yaw_rate_radps) > turn * (1.0 + LIMIT_SLACK):
        return Fault(Reason.COMMAND_OUT_OF_RANGE, (("yaw_rate_radps", command.yaw_rate_radps), ("limit_radps", turn)))
    return _stamp_fault(
        command.stamp_ns,
        now_ns,
        timeout_s,
        params.future_tolerance_s,
        Reason.COMMAND_STALE,
        Reason.COMMAND_FROM_FUTURE,
    )


def policy_fault(inp: GuardInput, pairing: Pairing, params: GuardParams, limits: Limits) -> Fault | None:
    """Why the policy may not drive now, or None. The newest command must be sound even while it waits for a verdict."""
    newest = command_fault(inp.command, inp.now_ns, params.command_timeout_s, params, limits)
    if newest or not params.require_verdict:
        return newest
    verdict = inp.verdict
    if verdict is not None and verdict.level == OodLevel.ALARM:
        numbers = (("score", verdict.score), ("threshold", verdict.alarm_threshold))
        return Fault(verdict.reason if verdict.reason != Reason.NONE else Reason.OOD_ALARM, numbers)
    waited = max((age_s(inp.now_ns, w.since_ns) for w in pairing.waiting), default=0.0)
    judged_age = math.inf if pairing.judged is None else age_s(inp.now_ns, pairing.judged.stamp_ns)
    if waited > params.ood_timeout_s or judged_age > params.command_timeout_s:
        late: Numbers = (("waited_s", waited), ("limit_s", params.ood_timeout_s))
        if pairing.judged is not None:
            late = (*late, ("judged_age_s", judged_age), ("judged_limit_s", params.command_timeout_s))
        return Fault(Reason.VERDICT_MISSING, late)
    return None


def teleop_state(inp: GuardInput, params: GuardParams, limits: Limits) -> tuple[Command | None, Fault | None]:
    """The operator's command while it is fresh, or the fault in it. Let go of, the dead-man stops. A command that comes
    late, or from another clock, is a stop each time: the policy must not drive on while an operator holds the stick."""
    teleop = inp.teleop
    if teleop is None:
        return None, None
    if age_s(inp.now_ns, teleop.stamp_ns) > params.teleop_timeout_s + params.min_dwell_s and not inp.teleop_heard:
        return None, None
    fault = command_fault(teleop, inp.now_ns, params.teleop_timeout_s, params, limits)
    if fault is not None and fault.reason == Reason.COMMAND_STALE:
        fault = Fault(Reason.TELEOP_STALE, fault.numbers)
    return (None, fault) if fault else (teleop, None)


def operator_after(operator_ns: int | None, inp: GuardInput, params: GuardParams) -> int | None:
    """When the operator was heard last, while the robot is the operator's; None where the policy may drive.

    The robot is handed back by ``~/reset`` or ``~/enable`` off and on once the stick is let go of, or by itself
    ``teleop_handback_s`` later where that is above 0.
    """
    if not inp.enabled:
        return None
    teleop = inp.teleop
    if teleop is not None and (inp.teleop_heard or age_s(inp.now_ns, teleop.stamp_ns) <= params.teleop_timeout_s):
        return inp.now_ns
    if operator_ns is None or inp.reset_requested:
        return None
    since = age_s(inp.now_ns, operator_ns)
    if since < 0.0:  # the clock went back
        return inp.now_ns
    return None if 0.0 < params.teleop_handback_s <= since else operator_ns


def operator_fault(operator_ns: int | None, now_ns: int, params: GuardParams) -> Fault | None:
    """TELEOP_STALE while the robot has not been handed back."""
    if operator_ns is None:
        return None
    numbers: Numbers = (("since_s", age_s(now_ns, operator_ns)),)
    if params.teleop_handback_s > 0.0:
        numbers = (*numbers, ("handback_s", params.teleop_handback_s))
    return Fault(Reason.TELEOP_STALE, numbers)


def clamped(command: Command, robot: Robot) -> tuple[float, float]:
    """The command's twist within the limits, against its last digit."""
    limits = robot.limits
    speed = min(max(command.speed_mps, limits.speed_mps_min), limits.speed_mps_max)
    return speed, min(max(command.yaw_rate_radps, -limits.yaw_rate_radps_max), limits.yaw_rate_radps_max)
