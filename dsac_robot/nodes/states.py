"""The monitor's verdict, the guard's decision and the base's state as DiagnosticArray (``ood/state``, ``safety/state``,
``base/state``), and back.

One status. ``message`` is the name of the Reason; the values are, in order, ``level`` and ``reason`` (integers of the
enums in core/reasons.py), ``judged_stamp_ns``, then the numbers, written with ``repr`` so that they come back exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from dsac_robot.core.guard_types import Decision, Verdict
from dsac_robot.core.ood import check_numbers
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.nodes.converters import ConversionError, stamp_from_message, stamp_to_message

N = TypeVar("N", int, float)
E = TypeVar("E", bound=IntEnum)

OOD_STATUS = "ood_monitor"
SAFETY_STATUS = "safety_guard"
BASE_STATUS = "base"
_SEVERITY = {
    Level.DRIVE: DiagnosticStatus.OK,
    Level.LIMITED: DiagnosticStatus.WARN,
    Level.FALLBACK: DiagnosticStatus.WARN,
    Level.STOP: DiagnosticStatus.ERROR,
    Level.EMERGENCY: DiagnosticStatus.ERROR,
}
_OOD_SEVERITY = {
    OodLevel.OK: DiagnosticStatus.OK,
    OodLevel.CAUTION: DiagnosticStatus.WARN,
    OodLevel.ALARM: DiagnosticStatus.ERROR,
}


@dataclass(frozen=True)
class SafetyState:
    """What ``safety/state`` says: the decision, when it was sent, the stamp of the policy command it saw (0: none)."""

    stamp_ns: int
    judged_stamp_ns: int
    decision: Decision


@dataclass(frozen=True)
class BaseState:
    """What ``base/state`` says: NONE where the base follows commands, else why not; numbers of docs/protocol.md."""

    stamp_ns: int
    reason: Reason
    phase: int = 0  # of the session, core/base_link.py
    state: int = -1  # of the base; -1: unknown
    faults: int = 0
    estop_pressed: bool = False


def base_to_message(base: BaseState) -> DiagnosticArray:
    """base/state. Its level is DRIVE or STOP: what it wants of the guard."""
    level = Level.DRIVE if base.reason == Reason.NONE else Level.STOP
    status = _status(BASE_STATUS, _SEVERITY[level], level, base.reason)
    numbers = (("phase", base.phase), ("state", base.state), ("faults", base.faults))
    status.values += _values(0, (*numbers, ("estop_pressed", base.estop_pressed)))
    return _array(base.stamp_ns, status)


def base_from_message(message: DiagnosticArray) -> BaseState:
    """BaseState of a base/state; ConversionError naming what is not as ``base_to_message`` writes it."""
    values = _read(message, BASE_STATUS)
    numbers = _named(values.numbers, ("phase", "state", "faults", "estop_pressed"), BASE_STATUS)
    phase, state, faults = (int(numbers[key]) for key in ("phase", "state", "faults"))
    pressed = numbers["estop_pressed"] != 0.0
    return BaseState(stamp_from_message(message.header.stamp), values.reason, phase, state, faults, pressed)


def verdict_to_message(verdict: Verdict) -> DiagnosticArray:
    """ood/state of a verdict."""
    numbers = (
        ("score", verdict.score),
        ("caution_threshold", verdict.caution_threshold),
        ("alarm_threshold", verdict.alarm_threshold),
    )
    status = _status(OOD_STATUS, _OOD_SEVERITY[verdict.level], verdict.level, verdict.reason)
    status.values += _values(verdict.judged_stamp_ns, numbers)
    return _array(verdict.stamp_ns, status)


def verdict_from_message(message: DiagnosticArray) -> Verdict:
    """Verdict of an ood/state; ConversionError naming what is not as ``verdict_to_message`` writes it, and for a level
    below ALARM with a number that is not finite: it is then as if no verdict had come."""
    values = _read(message, OOD_STATUS)
    level = _member(OodLevel, values.level, OOD_STATUS)
    try:
        check_numbers(level, [number for _, number in values.numbers])
    except ValueError as error:
        raise ConversionError(f"{OOD_STATUS}: {error}") from None
    return Verdict(
        stamp_ns=stamp_from_message(message.header.stamp),
        judged_stamp_ns=values.judged_stamp_ns,
        level=level,
        reason=values.reason,
        **_named(values.numbers, ("score", "caution_threshold", "alarm_threshold"), OOD_STATUS),
    )


def decision_to_message(state: SafetyState) -> DiagnosticArray:
    """safety/state of a decision. Its first numbers are the twist that is sent."""
    decision = state.decision
    numbers = (
        ("speed_mps", decision.speed_mps),
        ("yaw_rate_radps", decision.yaw_rate_radps),
        *decision.numbers,
    )
    status = _status(SAFETY_STATUS, _SEVERITY[decision.level], decision.level, decision.reason)
    status.values += _values(state.judged_stamp_ns, numbers)
    return _array(state.stamp_ns, status)


def decision_from_message(message: DiagnosticArray) -> SafetyState:
    """SafetyState of a safety/state; ConversionError naming what is not as ``decision_to_message`` writes it."""
    values = _read(message, SAFETY_STATUS)
    sent = _named(values.numbers[:2], ("speed_mps", "yaw_rate_radps"), SAFETY_STATUS)
    decision = Decision(
        level=_member(Level, values.level, SAFETY_STATUS), reason=values.reason, numbers=values.numbers[2:], **sent
    )
    return SafetyState(stamp_from_message(message.header.stamp), values.judged_stamp_ns, decision)


@dataclass(frozen=True)
class _Read:
    level: int
    reason: Reason
    judged_stamp_ns: int
    numbers: tuple[tuple[str, float], ...]


def _status(name: str, severity: bytes, level: IntEnum, reason: Reason) -> DiagnosticStatus:
    status = DiagnosticStatus(level=severity, name=name, message=reason.name)
    status.values = [KeyValue(key="level", value=str(int(level))), KeyValue(key="reason", value=str(int(reason)))]
    return status


def _values(judged_stamp_ns: int, numbers: tuple[tuple[str, float], ...]) -> list[KeyValue]:
    judged = KeyValue(key="judged_stamp_ns", value=str(judged_stamp_ns))
    return [judged, *(KeyValue(key=key, value=repr(float(value))) for key, value in numbers)]


def _array(stamp_ns: int, status: DiagnosticStatus) -> DiagnosticArray:
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp_to_message(stamp_ns)
    return message


def _read(message: DiagnosticArray, name: str) -> _Read:
    if len(message.status) != 1 or message.status[0].name != name:
        names = [status.name for status in message.status]
        raise ConversionError(f"expected one status named {name!r}, got {names}")
    status = message.status[0]
    keys = [value.key for value in status.values]
    if keys[:3] != ["level", "reason", "judged_stamp_ns"]:
        raise ConversionError(f"{name}: values must start with level, reason, judged_stamp_ns; got {keys[:3]}")
    level, reason, judged = [_number(int, value, name) for value in status.values[:3]]
    member = _member(Reason, reason, name)
    if status.message != member.name:
        raise ConversionError(f"{name}: message {status.message!r} is not the name of reason {reason} ({member.name})")
    numbers = tuple((value.key, _number(float, value, name)) for value in status.values[3:])
    return _Read(level, member, judged, numbers)


def _number(kind: Callable[[str], N], value: KeyValue, name: str) -> N:
    try:
        return kind(value.value)
    except ValueError:
        raise ConversionError(f"{name}: {value.key} = {value.value!r} is not a number of the kind it must be") from None


def _member(enum: type[E], number: int, name: str) -> E:
    try:
        return enum(number)
    except ValueError:
        known = ", ".join(f"{member.value} {member.name}" for member in enum)
        raise ConversionError(f"{name}: {enum.__name__} {number} is unknown; known: {known}") from None


def _named(numbers: tuple[tuple[str, float], ...], names: tuple[str, ...], name: str) -> dict[str, float]:
    if tuple(key for key, _ in numbers) != names:
        raise ConversionError(f"{name}: expected the numbers {', '.join(names)}; got {[key for key, _ in numbers]}")
    return dict(numbers)
