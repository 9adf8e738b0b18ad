"""Whether odometry is alive: its samples change, its pose moves by its own twist, and the base does what it is told.

What is found stays until ``~/reset``: a robot that stands still cannot show that its odometry is sound again. (Frozen
odometry shows it by its first change.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dsac_robot.core.guard_inputs import Fault, age_s
from dsac_robot.core.guard_motion import Sent
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.reasons import Reason
from dsac_robot.core.values import Odom

DRIVEN_MPS, DRIVEN_RADPS = 0.1, 0.3  # odometry must show a command of so much
FOLLOWED = 0.25  # and at least this part of it
RECKONED_S = 1.0  # the twist is added up for so long
APART_M, APART_PART = 0.1, 0.25  # pose and twist may differ by this, and this part of the way
APART_RAD, APART_TURN_PART = 0.3, 0.5  # of the turn: where the heading is a gyro's, and the twist is the wheels'


@dataclass(frozen=True)
class Reckoned:
    """The twist, added up from a sample on."""

    since_ns: int
    x_m: float
    y_m: float
    way_m: float = 0.0
    turned_rad: float = 0.0  # signed, as the twist has it
    posed_rad: float = 0.0  # signed, as the poses have it
    turn_rad: float = 0.0  # to either side

    def on(self, before: Odom, odom: Odom) -> Reckoned:
        """With the way between two samples, along the heading of the poses."""
        dt = age_s(odom.stamp_ns, before.stamp_ns)
        turn = math.remainder(odom.yaw_rad - before.yaw_rad, math.tau)
        heading, way = before.yaw_rad + 0.5 * turn, 0.5 * (before.speed_mps + odom.speed_mps) * dt
        turned = 0.5 * (before.yaw_rate_radps + odom.yaw_rate_radps) * dt
        return Reckoned(
            self.since_ns,
            self.x_m + way * math.cos(heading),
            self.y_m + way * math.sin(heading),
            self.way_m + abs(way),
            self.turned_rad + turned,
            self.posed_rad + turn,
            self.turn_rad + abs(turned),
        )

    def fault(self, odom: Odom) -> Fault | None:
        """ODOM_INCONSISTENT where the pose is elsewhere."""
        apart_m, limit_m = math.hypot(odom.x_m - self.x_m, odom.y_m - self.y_m), APART_M + APART_PART * self.way_m
        apart_rad, limit_rad = abs(self.turned_rad - self.posed_rad), APART_RAD + APART_TURN_PART * self.turn_rad
        if apart_m <= limit_m and apart_rad <= limit_rad:
            return None
        numbers = (("apart_m", apart_m), ("limit_m", limit_m), ("apart_rad", apart_rad), ("limit_rad", limit_rad))
        return Fault(Reason.ODOM_INCONSISTENT, numbers)


@dataclass(frozen=True)
class OdomWatch:
    """What is watched from sample to sample."""

    unmoved_ns: int | None = None  # stamp since when odometry has not changed by one bit though the robot is driven
    unheeded_ns: int | None = None  # stamp since when it shows next to nothing of what was sent
    reckoned: Reckoned | None = None
    fault: Fault | None = None


def watched(
    watch: OdomWatch, before: Odom | None, inp: GuardInput, sent: Sequence[Sent], params: GuardParams
) -> OdomWatch:
    """The watch after looking at the newest odometry. ``before``: the sample before it, where both are sound and the
    newest has just come; ``sent``: of late."""
    odom = inp.odom
    if inp.reset_requested:
        watch = OdomWatch()
    if odom is None or before is None:
        return watch
    if age_s(odom.stamp_ns, before.stamp_ns) > params.odom_timeout_s:  # a silence, which is a fault of its own
        return replace(watch, unheeded_ns=None, reckoned=None)
    if values_of(odom) == values_of(before):
        return _unmoved(watch, odom, sent, params)
    fault = watch.fault
    if fault is not None and fault.reason == Reason.ODOM_FROZEN:
        fault = None
    asked, shown = _asked(sent), (odom.speed_mps, odom.yaw_rate_radps)
    unheeded_ns = None
    if any(a != 0.0 and b / a < FOLLOWED for a, b in zip(asked, shown, strict=True)):
        unheeded_ns = odom.stamp_ns if watch.unheeded_ns is None else watch.unheeded_ns
        unheeded_s = age_s(odom.stamp_ns, unheeded_ns)
        if unheeded_s >= params.frozen_s or unheeded_s * abs(asked[0]) > params.frozen_far_m:
            numbers = ("for_s", "sent_mps", "sent_radps", "speed_mps", "yaw_rate_radps")
            told = tuple(zip(numbers, (unheeded_s, *asked, *shown), strict=True))
            fault = fault or Fault(Reason.ODOM_NOT_FOLLOWING, told)
    reckoned = watch.reckoned
    if reckoned is None or age_s(odom.stamp_ns, reckoned.since_ns) > RECKONED_S:
        reckoned = Reckoned(before.stamp_ns, before.x_m, before.y_m)
    reckoned = reckoned.on(before, odom)
    return OdomWatch(None, unheeded_ns, reckoned, fault or reckoned.fault(odom))


def _unmoved(watch: OdomWatch, odom: Odom, sent: Sequence[Sent], params: GuardParams) -> OdomWatch:
    """The watch where odometry did not change by one bit."""
    driven = len(sent) > 0 and (abs(sent[-1].speed_mps) > DRIVEN_MPS or abs(sent[-1].yaw_rate_radps) > DRIVEN_RADPS)
    if not driven or watch.unmoved_ns is None:
        return replace(watch, unmoved_ns=odom.stamp_ns, unheeded_ns=None, reckoned=None)
    same_s = age_s(odom.stamp_ns, watch.unmoved_ns)
    if same_s < params.frozen_s and same_s * abs(odom.speed_mps) <= params.frozen_far_m:
        return watch
    return replace(watch, fault=watch.fault or Fault(Reason.ODOM_FROZEN, (("same_s", same_s),)))


def _asked(sent: Sequence[Sent]) -> tuple[float, float]:
    """The least speed and yaw rate that all commands of late asked for, by sign; 0 where they are small or differ."""
    if not sent:
        return 0.0, 0.0
    speed = _least([one.speed_mps for one in sent], DRIVEN_MPS)
    # In a curve a base that turns too little is off its arc, but it moves; on the spot it does not.
    return speed, 0.0 if speed else _least([one.yaw_rate_radps for one in sent], DRIVEN_RADPS)


def _least(values: list[float], least: float) -> float:
    low, high = min(values), max(values)
    if low > least:
        return low
    return high if high < -least else 0.0


def values_of(odom: Odom) -> tuple[float, ...]:
    """All that a sample says but its stamp."""
    return odom.x_m, odom.y_m, odom.qz, odom.qw, odom.speed_mps, odom.yaw_rate_radps
