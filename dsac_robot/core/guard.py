"""The guard: one pure step from what was sensed and asked to what is sent, with the level and the reason.

``step(state, inp, model)`` reads no clock and draws no random number: the same history gives the same decisions.
The ladder, from the bottom: a latched stop (contact, operator) until reset; a stop for each input fault, of at least
``min_dwell_s``; else the asked command, limited in rate and by the monitor's caution, and checked against the scan.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from dsac_robot.core.guard_check import Checker, Choice, Situation
from dsac_robot.core.guard_geometry import Pose, pose_at, pose_of
from dsac_robot.core.guard_inputs import (
    Fault,
    Pairing,
    age_s,
    clamped,
    odom_fault,
    odom_jump,
    odom_values_fault,
    paired,
    policy_fault,
    scan_fault,
    teleop_state,
)
from dsac_robot.core.guard_memory import Memory, View, read_scan, remember
from dsac_robot.core.guard_motion import Sent, Twist, limit_rates, stop_step, under_way
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Odom, Scan, ns

STOP_STEP_S_MAX = 0.1  # a stop that was called late goes down its ramp by at most so much at once
SAMPLES_MAX = 64


@dataclass(frozen=True)
class GuardModel:
    """Parameters, robot and what is computed from them once. ``GuardModel.of(params, robot)`` makes it."""

    params: GuardParams
    robot: Robot
    checker: Checker

    @classmethod
    def of(cls, params: GuardParams, robot: Robot) -> GuardModel:
        """The model of a robot's guard."""
        return cls(params, robot, Checker.of(params, robot))


@dataclass(frozen=True, eq=False)
class GuardState:
    """All that a step hands to the next. ``initial_state()`` makes the first."""

    now_ns: int | None = None
    sent: tuple[Sent, ...] = ()
    odoms: tuple[Odom, ...] = ()
    travelled_m: float = 0.0
    scan: Scan | None = None  # the newest that was taken in
    same_since_ns: int = 0  # stamp of the first scan with the very same ranges
    same_pose: Pose = (0.0, 0.0, 0.0)  # and the robot's pose then
    view: View | None = None
    memory: Memory = field(default_factory=Memory)
    pairing: Pairing = field(default_factory=Pairing)
    enabled: bool = False
    latch: Fault | None = None
    stop: Fault | None = None
    stop_until_ns: int = 0

    @property
    def last(self) -> Twist:
        """The twist sent last."""
        return (self.sent[-1].speed_mps, self.sent[-1].yaw_rate_radps) if self.sent else (0.0, 0.0)


def initial_state() -> GuardState:
    """The state before the first step: nothing known, nothing sent."""
    return GuardState()


def step(state: GuardState, inp: GuardInput, model: GuardModel) -> tuple[GuardState, Decision]:
    """One period of the guard. Any input, however broken, gives a finite command within the robot's limits."""
    params = model.params
    elapsed = params.period_s if state.now_ns is None else age_s(inp.now_ns, state.now_ns)
    jumped = elapsed < -params.future_tolerance_s or elapsed > params.clock_jump_s
    if jumped:
        state = _forgotten(state, inp.now_ns)
    state, odom_wrong = _take_odom(state, inp, model)
    state = _take_scan(state, inp, model)
    if inp.command is None or age_s(inp.now_ns, inp.command.stamp_ns) >= -params.future_tolerance_s:
        pairing = paired(state.pairing, inp.command, inp.verdict, inp.now_ns)
        state = dataclasses.replace(state, pairing=pairing)
    state = _latched(state, inp)
    if jumped:
        fault: Fault | None = Fault(Reason.CLOCK_JUMP, (("step_s", elapsed), ("limit_s", params.clock_jump_s)))
    else:
        fault = odom_wrong
    elapsed = min(max(elapsed, 0.0), STOP_STEP_S_MAX)
    state, decision = _decide(state, inp, model, fault, elapsed)
    return _sent(state, inp.now_ns, decision, model), decision


def _decide(
    state: GuardState, inp: GuardInput, model: GuardModel, found: Fault | None, elapsed_s: float
) -> tuple[GuardState, Decision]:
    """The ladder, from the bottom."""
    params, limits = model.params, model.robot.limits
    down = stop_step(state.last, max(elapsed_s, params.period_s), limits)
    if state.latch is not None:
        twist = (0.0, 0.0) if state.latch.reason == Reason.CONTACT else down
        return state, Decision(*twist, Level.EMERGENCY, state.latch.reason, state.latch.numbers)
    if not inp.enabled:
        return state, Decision(*down, Level.STOP, Reason.NOT_ENABLED)
    teleop, teleop_fault = teleop_state(inp, params, limits)
    fault = _sensor_fault(state, inp, model, found) or teleop_fault
    if fault is None and teleop is None:
        fault = policy_fault(inp, state.pairing, params, limits)
    if fault is not None:
        until = inp.now_ns + ns(params.min_dwell_s) if state.stop is None else state.stop_until_ns
        until = min(until, inp.now_ns + ns(params.min_dwell_s))  # whatever the clock did
        state = dataclasses.replace(state, stop=fault, stop_until_ns=until)
        return state, Decision(*down, Level.STOP, fault.reason, fault.numbers)
    if state.stop is not None and inp.now_ns < state.stop_until_ns:
        return state, Decision(*down, Level.STOP, state.stop.reason, state.stop.numbers)
    state = dataclasses.replace(state, stop=None)
    return state, _drive(state, inp, model, teleop, elapsed_s)


def _drive(state: GuardState, inp: GuardInput, model: GuardModel, teleop: Command | None, elapsed_s: float) -> Decision:
    """The asked command, limited and checked."""
    params, limits = model.params, model.robot.limits
    asked = teleop or (state.pairing.judged if params.require_verdict else inp.command)
    if asked is None or state.view is None:  # both are faults that were caught before: kept as the last safeguard
        return Decision(0.0, 0.0, Level.STOP, Reason.COMMAND_MISSING if asked is None else Reason.SCAN_MISSING)
    wanted = clamped(asked, model.robot)
    caution = teleop is None and inp.verdict is not None and inp.verdict.level == OodLevel.CAUTION
    target = wanted
    if caution and abs(wanted[0]) > params.caution_speed_mps:
        part = params.caution_speed_mps / abs(wanted[0])
        target = (wanted[0] * part, wanted[1] * part)
    limited = limit_rates(state.last, target, min(elapsed_s, 2.0 * params.period_s), limits)
    choice = model.checker.choose(target, limited, _situation(state, state.view, inp, model, elapsed_s))
    if choice.reason != Reason.NONE:
        return Decision(*choice.twist, choice.level, choice.reason, choice.numbers)
    if caution and inp.verdict is not None:
        score = (("score", inp.verdict.score), ("threshold", inp.verdict.caution_threshold))
        numbers = (*choice.numbers, *score, ("limit_mps", params.caution_speed_mps))
        return Decision(*choice.twist, Level.LIMITED, Reason.OOD_CAUTION, numbers)
    return _as_asked(choice, wanted, teleop is not None)


def _as_asked(choice: Choice, wanted: Twist, teleop: bool) -> Decision:
    """A command that passed: whole, or behind the asked one for the rate limits."""
    off = max(abs(choice.twist[0] - wanted[0]), abs(choice.twist[1] - wanted[1]))
    if off > 1e-9:
        numbers = (*choice.numbers, ("asked_speed_mps", wanted[0]), ("asked_yaw_rate_radps", wanted[1]))
        return Decision(*choice.twist, Level.LIMITED, Reason.RATE_LIMIT, numbers)
    return Decision(*choice.twist, Level.DRIVE, Reason.TELEOP if teleop else Reason.NONE, choice.numbers)


def _situation(state: GuardState, view: View, inp: GuardInput, model: GuardModel, elapsed_s: float) -> Situation:
    odom = state.odoms[-1]
    base = pose_of(odom)
    acts = age_s(inp.now_ns, odom.stamp_ns) + model.checker.motion.delay_s
    before = under_way(state.sent, odom.stamp_ns, acts, model.checker.motion.delay_s)
    points = model.checker.points(view, state.memory, base)
    twist = (odom.speed_mps, odom.yaw_rate_radps)
    return Situation(inp.now_ns, odom.stamp_ns, base, twist, state.last, elapsed_s, before, points, view, state.memory)


def _sensor_fault(state: GuardState, inp: GuardInput, model: GuardModel, found: Fault | None) -> Fault | None:
    """The first fault of clock, node, scan and odometry, or None. ``found`` came up while samples were taken in."""
    params, robot = model.params, model.robot
    if inp.clock_lost:
        return Fault(Reason.CLOCK_LOST)
    if found is not None and found.reason == Reason.CLOCK_JUMP:
        return found
    if inp.fault != Reason.NONE:
        return Fault(inp.fault)
    return (
        scan_fault(inp.scan, inp.now_ns, params, robot.lidar)
        or odom_fault(inp.odom, inp.now_ns, params, robot.limits)
        or found
        or _frozen(state, model)
    )


def _frozen(state: GuardState, model: GuardModel) -> Fault | None:
    """Whether the scan stays the very same while the robot moves."""
    params = model.params
    if state.scan is None or not state.odoms:
        return None
    same = age_s(state.scan.stamp_ns, state.same_since_ns)
    x, y, yaw = pose_of(state.odoms[-1])
    turned = abs(math.remainder(yaw - state.same_pose[2], math.tau))
    moved = math.hypot(x - state.same_pose[0], y - state.same_pose[1]) + model.checker.outline.radius_m * turned
    if same >= params.frozen_s and moved > params.frozen_motion_m:
        return Fault(Reason.SCAN_FROZEN, (("same_s", same), ("moved_m", moved), ("limit_m", params.frozen_motion_m)))
    return None


def _forgotten(state: GuardState, now_ns: int) -> GuardState:
    """The state without anything that hangs on time: after a clock jump the stamps mean nothing."""
    kept = GuardState(latch=state.latch, stop=state.stop, stop_until_ns=state.stop_until_ns, enabled=state.enabled)
    if not state.sent:
        return kept
    return dataclasses.replace(kept, sent=(dataclasses.replace(state.sent[-1], at_ns=now_ns),))


def _take_odom(state: GuardState, inp: GuardInput, model: GuardModel) -> tuple[GuardState, Fault | None]:
    """Add a new sound sample of odometry. After a jump all that was known by the old pose is forgotten."""
    odom, params, limits = inp.odom, model.params, model.robot.limits
    if odom is None or odom_values_fault(odom, limits) or age_s(inp.now_ns, odom.stamp_ns) < -params.future_tolerance_s:
        return state, None
    if not state.odoms:
        return dataclasses.replace(state, odoms=(odom,)), None
    before = state.odoms[-1]
    if odom.stamp_ns <= before.stamp_ns:
        return state, None
    jump = odom_jump(before, odom, limits)
    if jump is not None:
        return dataclasses.replace(state, odoms=(odom,), view=None, scan=None, memory=Memory()), jump
    moved = math.hypot(odom.x_m - before.x_m, odom.y_m - before.y_m)
    oldest = inp.now_ns - ns(params.odom_timeout_s + params.scan_timeout_s + 0.1)
    odoms = (*(kept for kept in state.odoms if kept.stamp_ns >= oldest), odom)[-SAMPLES_MAX:]
    return dataclasses.replace(state, odoms=odoms, travelled_m=state.travelled_m + moved), None


def _take_scan(state: GuardState, inp: GuardInput, model: GuardModel) -> GuardState:
    """Read a new sound scan, watch for frozen ranges, keep the memory, assume the disc at activation."""
    scan, lidar, params = inp.scan, model.robot.lidar, model.params
    if not state.odoms:
        return state
    if inp.enabled and not state.enabled:
        disc = View(inp.now_ns, pose_of(state.odoms[-1]), state.travelled_m, np.zeros((0, 2)), _NONE_F, _NONE_B)
        state = dataclasses.replace(state, memory=Memory(disc=disc))
    state = dataclasses.replace(state, enabled=inp.enabled)
    new = scan is not None and (state.scan is None or scan.stamp_ns > state.scan.stamp_ns)
    if scan is None or not new or scan_fault(scan, inp.now_ns, params, lidar):
        if state.view is None:
            return state
        return dataclasses.replace(
            state, view=dataclasses.replace(state.view, pose=pose_at(state.odoms, state.view.stamp_ns))
        )
    view = read_scan(scan, lidar, pose_at(state.odoms, scan.stamp_ns), state.travelled_m)
    same = state.scan is not None and scan.ranges_m.tobytes() == state.scan.ranges_m.tobytes() and len(view.returns) > 0
    if not same:
        state = dataclasses.replace(state, same_since_ns=scan.stamp_ns, same_pose=pose_of(state.odoms[-1]))
    return dataclasses.replace(state, scan=scan, view=view, memory=remember(state.memory, view, lidar))


def _latched(state: GuardState, inp: GuardInput) -> GuardState:
    """The latch after this step's events: a cause sets it, a reset without a cause frees it."""
    if inp.contact:
        return dataclasses.replace(state, latch=Fault(Reason.CONTACT))
    if inp.stop_requested:
        return state if state.latch is not None else dataclasses.replace(state, latch=Fault(Reason.OPERATOR_STOP))
    return dataclasses.replace(state, latch=None) if inp.reset_requested else state


def _sent(state: GuardState, now_ns: int, decision: Decision, model: GuardModel) -> GuardState:
    """The state with the decision entered into what was sent."""
    span = model.params.odom_timeout_s + model.checker.motion.delay_s + 0.1
    kept = tuple(s for s in state.sent if s.at_ns >= now_ns - ns(span))
    sent = (*kept, Sent(now_ns, decision.speed_mps, decision.yaw_rate_radps))[-SAMPLES_MAX:]
    return dataclasses.replace(state, sent=sent, now_ns=now_ns)


_NONE_F = np.zeros(0, np.float32)
_NONE_B = np.zeros(0, bool)
