"""The guard: one pure step from what was sensed and asked to what is sent, with the level and the reason.

``step(state, inp, model)`` reads no clock and draws no random number: the same history gives the same decisions.
The ladder, from the bottom: a latched stop (contact, operator) until reset; a stop for each input fault, until
``min_dwell_s`` after it was seen last; else the asked command, limited in rate and by the monitor's caution, and
checked against the scan; and where that holds the robot for long, the fallback, which backs off and hands back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from dsac_robot.core.action import Ramp
from dsac_robot.core.guard_check import Checker, Choice, Situation, compile_loops
from dsac_robot.core.guard_docking import Docking, docking_after, docking_now, docking_params
from dsac_robot.core.guard_fallback import Fallback, back_off_command
from dsac_robot.core.guard_geometry import pose_of
from dsac_robot.core.guard_inputs import (
    Fault,
    Pairing,
    age_s,
    clamped,
    operator_after,
    operator_fault,
    paired,
    policy_fault,
    teleop_state,
)
from dsac_robot.core.guard_memory import View
from dsac_robot.core.guard_motion import Sent, stop_step, under_way
from dsac_robot.core.guard_pace import fitted, lateness_s, pace_fault, stop_step_s, suspected
from dsac_robot.core.guard_sensed import SAMPLES_MAX, Sensed, sense
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Twist, ns

REPLACED = (Reason.CLEARANCE, Reason.UNSEEN_SPACE, Reason.NO_SAFE_COMMAND)  # by the guard's own command
ELAPSED_S_MAX = 0.1  # what moves on by itself moves on by so much in a step at most


@dataclass(frozen=True)
class GuardModel:
    """Parameters, robot and what is computed from them once. ``GuardModel.of(params, robot)`` makes it."""

    params: GuardParams
    robot: Robot
    checker: Checker
    docking_checker: Checker

    @classmethod
    def of(cls, params: GuardParams, robot: Robot) -> GuardModel:
        """The model of a robot's guard. The first one in a process may take seconds: loops are compiled.

        Raises ParameterError where ``reaction_s`` is less than the robot needs.
        """
        params = fitted(params, robot)
        checker = Checker.of(params, robot)
        compile_loops(checker)
        return cls(params, robot, checker, replace(checker, params=docking_params(params)))


@dataclass(frozen=True)
class Halt:
    """A stop for a fault, and until when it lasts at least."""

    fault: Fault
    until_ns: int

    def lasts(self, now_ns: int, params: GuardParams) -> bool:
        """Whether it is too early to leave it. (A clock that went back ends it.)"""
        return self.until_ns - ns(params.min_dwell_s) <= now_ns < self.until_ns


@dataclass(frozen=True, eq=False)
class GuardState:
    """All that a step hands to the next. ``initial_state()`` makes the first."""

    now_ns: int | None = None
    sent: tuple[Sent, ...] = ()
    sensed: Sensed = field(default_factory=Sensed)
    pairing: Pairing = field(default_factory=Pairing)
    latch: Fault | None = None
    halt: Halt | None = None
    fallback: Fallback = field(default_factory=Fallback)
    rates: Twist = (0.0, 0.0)  # of the last drive command, for the limit of jerk; none after a stop
    docking: Docking | None = None
    operator_ns: int | None = None  # the robot is the operator's, who was heard last then
    late_s: float = 0.0  # how late the steps were lately


def initial_state() -> GuardState:
    """The state before the first step: nothing known, nothing sent."""
    return GuardState()


@dataclass(frozen=True, eq=False)
class _Now:
    """What one step works with."""

    inp: GuardInput
    model: GuardModel
    sent: tuple[Sent, ...]
    last: Twist
    elapsed_s: float  # since the last command, at most ELAPSED_S_MAX
    stop_step_s: float  # a stop goes so far down its ramp
    sensed: Sensed
    pairing: Pairing
    fallback: Fallback
    rates: Twist
    docking: Docking | None
    operator_ns: int | None

    @property
    def checker(self) -> Checker:
        """The check, with the limits of clearance that hold now."""
        return self.model.checker if self.docking is None else self.model.docking_checker

    @property
    def drive_s(self) -> float:
        """A drive command may change by what the limits allow in so long."""
        return min(self.elapsed_s, 2.0 * self.model.params.period_s)

    @property
    def down(self) -> Twist:
        """The next command of a controlled stop."""
        return stop_step(self.last, self.stop_step_s, self.model.robot.limits)


def step(state: GuardState, inp: GuardInput, model: GuardModel) -> tuple[GuardState, Decision]:
    """One period of the guard. Any input, however broken, gives a finite command within the robot's limits."""
    params = model.params
    elapsed = params.period_s if state.now_ns is None else age_s(inp.now_ns, state.now_ns)
    sensed, pairing, fault = state.sensed, state.pairing, None
    late_s = lateness_s(state.late_s, elapsed, params, model.robot)
    if not -params.future_tolerance_s <= elapsed <= params.clock_jump_s:  # no stamp means anything any more
        sensed, pairing = Sensed(enabled=sensed.enabled), Pairing()
        fault = Fault(Reason.CLOCK_JUMP, (("step_s", elapsed), ("limit_s", params.clock_jump_s)))
    else:
        fault = pace_fault(late_s, elapsed, params, model.robot)
    last = (state.sent[-1].speed_mps, state.sent[-1].yaw_rate_radps) if state.sent else (0.0, 0.0)
    sensed, wrong = sense(sensed, inp, state.sent, params, model.robot)
    if inp.command is None or age_s(inp.now_ns, inp.command.stamp_ns) >= -params.future_tolerance_s:
        pairing = paired(pairing, inp.command, inp.verdict, inp.now_ns)
    latch = _latched(state.latch, inp)
    elapsed_s = min(max(elapsed, 0.0), ELAPSED_S_MAX)
    if inp.clock_lost:
        fault = Fault(Reason.CLOCK_LOST)
    elif fault is None:
        fault = Fault(inp.fault) if inp.fault != Reason.NONE else wrong
    base = pose_of(sensed.odoms[-1]) if fault is None and sensed.odoms else None
    docking = docking_now(state.docking, inp, base, params)
    down_s = stop_step_s(elapsed, inp, params)
    operator_ns = operator_after(state.operator_ns, inp, params)
    now = _Now(
        *(inp, model, state.sent, last, elapsed_s, down_s),
        *(sensed, pairing, state.fallback, state.rates, docking, operator_ns),
    )
    halt, fallback, decision = _decided(now, latch, state.halt, fault)
    sent = _logged(state.sent, inp.now_ns, decision, model)
    docking, rates = docking_after(docking, decision), _rates(now, decision)
    after = GuardState(
        *(inp.now_ns, sent, sensed, pairing, latch, halt, fallback, rates, docking, operator_ns, late_s),
    )
    return after, decision


def _latched(latch: Fault | None, inp: GuardInput) -> Fault | None:
    """The latch after this step's events: a cause sets it, a reset without a cause frees it."""
    if inp.contact:
        return Fault(Reason.CONTACT)
    if inp.stop_requested:
        return latch or Fault(Reason.OPERATOR_STOP)
    return None if inp.reset_requested else latch


def _decided(
    now: _Now, latch: Fault | None, halt: Halt | None, fault: Fault | None
) -> tuple[Halt | None, Fallback, Decision]:
    """The ladder, from the bottom. ``fault`` is of clock, node or sensors."""
    inp, params, limits = now.inp, now.model.params, now.model.robot.limits
    idle = now.fallback.over()
    if latch is not None:
        twist = (0.0, 0.0) if latch.reason == Reason.CONTACT else now.down
        return halt, idle, Decision(*twist, Level.EMERGENCY, latch.reason, latch.numbers)
    if not inp.enabled:
        return halt, idle, Decision(*now.down, Level.STOP, Reason.NOT_ENABLED)
    teleop, teleop_fault = teleop_state(inp, params, limits)
    fault = fault or teleop_fault
    if fault is None and teleop is None:
        waits = operator_fault(now.operator_ns, inp.now_ns, params)
        fault = waits or policy_fault(inp, now.pairing, params, limits)
    late = suspected(inp, now.model.robot)
    cause = late or fault  # what else is wrong comes from being late, or is named in the next step
    if fault is not None:
        halt = Halt(late or fault, inp.now_ns + ns(params.min_dwell_s))  # a fault that comes and goes is one stop
    if cause is not None:
        return halt, idle, Decision(*now.down, Level.STOP, cause.reason, cause.numbers)
    if halt is not None and (now.last != (0.0, 0.0) or halt.lasts(inp.now_ns, params)):  # down to zero, always
        return halt, idle, Decision(*now.down, Level.STOP, halt.fault.reason, halt.fault.numbers)
    asked = teleop or (now.pairing.judged if params.require_verdict else inp.command)
    view = now.sensed.view
    if asked is None or view is None:  # both are faults that were caught above: the last safeguard
        missing = Reason.COMMAND_MISSING if asked is None else Reason.SCAN_MISSING
        return None, idle, Decision(*now.down, Level.STOP, missing)
    if teleop is not None or now.docking is not None:  # no backing off from where it docks
        return None, idle, _drive(now, asked, view, teleop=teleop is not None)
    return None, *_policy_or_fallback(now, asked, view)


def _policy_or_fallback(now: _Now, asked: Command, view: View) -> tuple[Fallback, Decision]:
    """The fallback where it is under way or due, else the policy."""
    params, base = now.model.params, pose_of(now.sensed.odoms[-1])
    fallback = now.fallback.step(base, now.elapsed_s) if now.fallback.under_way else now.fallback
    if fallback.under_way is None:
        decision = _drive(now, asked, view, teleop=False)
        held = decision.reason in REPLACED
        return fallback.held(base, now.elapsed_s, held, params), decision
    trail = tuple(frame.pose for frame in now.sensed.memory.frames)
    target = back_off_command(base, trail, now.model.robot.limits, params)
    choice = _checked(now, target, view)
    if choice.level == Level.STOP:  # not even back: wait until it is due again
        return fallback.over(), Decision(*choice.twist, choice.level, choice.reason, choice.numbers)
    numbers = (*choice.numbers, ("distance_m", fallback.under_way.distance_m), ("try", float(fallback.tries)))
    return fallback, Decision(*choice.twist, Level.FALLBACK, Reason.BACKING_OFF, numbers)


def _checked(now: _Now, target: Twist, view: View) -> Choice:
    """``target``, as near as the rate limits let it come, or what is safe in its place."""
    ramp = Ramp(now.last, now.rates).toward(target, now.model.robot.limits, now.drive_s)
    return now.checker.choose(target, ramp.twist, _situation(now, view))


def _drive(now: _Now, asked: Command, view: View, teleop: bool) -> Decision:
    """The asked command, limited and checked."""
    params, verdict = now.model.params, now.inp.verdict
    wanted = clamped(asked, now.model.robot)
    caution = verdict is not None and verdict.level == OodLevel.CAUTION and not teleop
    limit_mps = params.caution_speed_mps if caution else math.inf
    if now.docking is not None:
        limit_mps = min(limit_mps, params.docking_speed_mps)
    part = min(1.0, limit_mps / max(abs(wanted[0]), 1e-9))
    target = (wanted[0] * part, wanted[1] * part)
    choice = _checked(now, target, view)
    if choice.reason != Reason.NONE:
        return Decision(*choice.twist, choice.level, choice.reason, choice.numbers)
    if caution and verdict is not None:
        score = (("score", verdict.score), ("threshold", verdict.caution_threshold))
        numbers = (*choice.numbers, *score, ("limit_mps", limit_mps))
        return Decision(*choice.twist, Level.LIMITED, Reason.OOD_CAUTION, numbers)
    if now.docking is not None:
        numbers = (*choice.numbers, ("left_s", now.docking.left_s(now.inp.now_ns)), ("limit_mps", limit_mps))
        return Decision(*choice.twist, Level.LIMITED, Reason.DOCKING, numbers)
    return _as_asked(choice, wanted, teleop)


def _as_asked(choice: Choice, wanted: Twist, teleop: bool) -> Decision:
    """A command that passed: whole, or behind the asked one for the rate limits."""
    off = max(abs(choice.twist[0] - wanted[0]), abs(choice.twist[1] - wanted[1]))
    if off > 1e-9:
        numbers = (*choice.numbers, ("asked_speed_mps", wanted[0]), ("asked_yaw_rate_radps", wanted[1]))
        return Decision(*choice.twist, Level.LIMITED, Reason.RATE_LIMIT, numbers)
    return Decision(*wanted, Level.DRIVE, Reason.TELEOP if teleop else Reason.NONE, choice.numbers)


def _situation(now: _Now, view: View) -> Situation:
    odom, checker = now.sensed.odoms[-1], now.checker
    base = pose_of(odom)
    acts = age_s(now.inp.now_ns, odom.stamp_ns) + checker.motion.delay_s
    return Situation(
        checker=checker,
        now_ns=now.inp.now_ns,
        odom_ns=odom.stamp_ns,
        base=base,
        twist=(odom.speed_mps, odom.yaw_rate_radps),
        last=now.last,
        elapsed_s=now.elapsed_s,
        before=under_way(now.sent, odom.stamp_ns, acts, checker.motion.delay_s),
        view=view,
        memory=now.sensed.memory,
    )


def _rates(now: _Now, decision: Decision) -> Twist:
    """How fast the drive command changes now. What a stop slowed, or the guard's own command, may end at once."""
    if decision.level >= Level.STOP or now.drive_s <= 0.0:
        return 0.0, 0.0
    after = (decision.speed_mps, decision.yaw_rate_radps)
    speed, turn = (
        (a - b) / now.drive_s if _kept(a, b, decision) else 0.0 for a, b in zip(after, now.last, strict=True)
    )
    return speed, turn


def _kept(after: float, before: float, decision: Decision) -> bool:
    return decision.reason not in REPLACED or abs(after) > abs(before)


def _logged(sent: tuple[Sent, ...], now_ns: int, decision: Decision, model: GuardModel) -> tuple[Sent, ...]:
    """What was sent, with the new decision: as far back as a roll-out may begin."""
    oldest = now_ns - ns(model.params.odom_timeout_s + model.checker.motion.delay_s + 0.1)
    kept = tuple(s for s in sent if oldest <= s.at_ns <= now_ns)
    return (*kept, Sent(now_ns, decision.speed_mps, decision.yaw_rate_radps))[-SAMPLES_MAX:]
