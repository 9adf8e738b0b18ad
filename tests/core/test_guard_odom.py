"""Odometry that is alive and wrong: its pose and its twist part, or it shows nothing of what the base was told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core.guard_inputs import Fault
from dsac_robot.core.guard_motion import Sent
from dsac_robot.core.guard_odom import OdomWatch, values_of, watched
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.values import NS, Odom, ns
from tests.core.guard_world import STATIC, Run, World

PARAMS = GuardParams()
STEP = ns(0.02)


@dataclass
class Drive:
    """Odometry at 50 Hz of a robot that moves as ``pose_twist`` and says that it moves as ``twist``."""

    sent: tuple[float, float] = (0.0, 0.0)
    pose_twist: tuple[float, float] = (0.0, 0.0)
    twist: tuple[float, float] = (0.0, 0.0)
    watch: OdomWatch = field(default_factory=OdomWatch)
    odom: Odom = field(default_factory=lambda: Odom.from_yaw(NS, 0.0, 0.0, 0.0, 0.0, 0.0))
    steps: int = 0

    def on(self, seconds: float, reset: bool = False, wobble: float = 1e-9) -> Fault | None:
        """The fault after so long; ``wobble``: no two samples are alike."""
        for _ in range(round(seconds / 0.02)):
            self.steps += 1
            before, (v, w) = self.odom, self.pose_twist
            stamp = before.stamp_ns + STEP
            yaw, middle = before.yaw_rad + 0.02 * w, before.yaw_rad + 0.01 * w
            x, y = before.x_m + 0.02 * v * math.cos(middle), before.y_m + 0.02 * v * math.sin(middle)
            self.odom = Odom.from_yaw(stamp, x + wobble * (-1) ** self.steps, y, yaw, *self.twist)
            sent = [Sent(stamp - k * STEP, *self.sent) for k in range(15, 0, -1)]
            inp = GuardInput(stamp, odom=self.odom, reset_requested=reset)
            self.watch = watched(self.watch, before, inp, sent, PARAMS)
        return self.watch.fault


def reason_of(fault: Fault | None) -> Reason | None:
    return None if fault is None else fault.reason


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0)), min_size=1, max_size=12))
def test_odometry_that_moves_as_it_says_and_as_it_was_told_is_sound_on_every_course(
    twists: list[tuple[float, float]],
) -> None:
    drive = Drive()
    for twist in twists:
        drive.sent = drive.pose_twist = drive.twist = twist
        assert drive.on(0.3) is None


@pytest.mark.parametrize("speed", [0.15, 0.5, 2.0, -0.5])
def test_a_pose_that_stays_while_the_twist_goes_on_is_found_within_a_second_and_soon_at_speed(speed: float) -> None:
    drive = Drive((speed, 0.0), (speed, 0.0), (speed, 0.0))
    assert drive.on(1.1) is None
    drive.pose_twist = 0.0, 0.0
    took_s = 0.0
    while drive.on(0.02) is None:
        took_s += 0.02
        assert took_s < 1.02 + (0.14 / abs(speed))  # the way is added up anew each second
    assert reason_of(drive.watch.fault) == Reason.ODOM_INCONSISTENT
    assert took_s * abs(speed) <= 1.0
    numbers = dict(drive.watch.fault.numbers)
    assert numbers["apart_m"] > numbers["limit_m"] >= 0.1


def test_a_heading_that_stays_while_the_twist_turns_is_found_and_half_of_a_turn_more_or_less_is_borne() -> None:
    drive = Drive((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    assert drive.on(1.0) is None
    drive.pose_twist = 0.0, 0.6
    assert drive.on(3.0) is None
    drive.pose_twist = 0.0, 0.0
    assert reason_of(drive.on(2.0)) == Reason.ODOM_INCONSISTENT
    numbers = dict(drive.watch.fault.numbers)
    assert numbers["apart_rad"] > numbers["limit_rad"] >= 0.3


def test_a_twist_that_stays_zero_while_the_pose_moves_is_found() -> None:
    assert reason_of(Drive((0.0, 0.0), (1.0, 0.0), (0.0, 0.0)).on(0.2)) == Reason.ODOM_INCONSISTENT


@pytest.mark.parametrize(
    ("sent", "shown", "follows"),
    [
        ((0.5, 0.0), (0.12, 0.0), False),
        ((0.5, 0.0), (0.13, 0.0), True),
        ((0.5, 0.0), (-0.5, 0.0), False),
        ((-0.5, 0.0), (-0.12, 0.0), False),
        ((-0.5, 0.0), (-0.13, 0.0), True),
        ((0.5, 1.0), (0.5, 0.0), True),  # in a curve the way counts
        ((0.0, 0.8), (0.0, 0.19), False),
        ((0.0, -0.8), (0.0, -0.21), True),
        ((0.0, -0.8), (0.0, 0.8), False),
        ((0.1, 0.3), (0.0, 0.0), True),  # too little to be sure of
    ],
)
def test_odometry_must_show_a_quarter_of_what_was_sent_within_half_a_second(
    sent: tuple[float, float], shown: tuple[float, float], follows: bool
) -> None:
    drive = Drive(sent, shown, shown)
    assert drive.on(0.5) is None
    fault = drive.on(0.02)
    assert reason_of(fault) == (None if follows else Reason.ODOM_NOT_FOLLOWING)
    if fault is not None:
        numbers = dict(fault.numbers)
        assert numbers["for_s"] == pytest.approx(0.5)
        assert (numbers["speed_mps"], numbers["yaw_rate_radps"]) == shown
        assert numbers["sent_mps"] == sent[0]


def test_at_speed_it_is_found_as_soon_as_three_tenths_of_a_metre_are_missing() -> None:
    drive = Drive((2.0, 0.0))
    assert drive.on(0.16) is None
    assert reason_of(drive.on(0.02)) == Reason.ODOM_NOT_FOLLOWING


def test_commands_that_change_ask_for_the_least_of_them_all_and_for_nothing_where_they_turn_round() -> None:
    odom = Odom.from_yaw(NS, 0.0, 0.0, 0.0, 0.2, 0.0)
    for speeds, asks in (([2.0, 0.7, 2.0], False), ([2.0, 0.9, 2.0], True), ([0.9, -0.9], False), ([], False)):
        watch, before = OdomWatch(), odom
        for k in range(1, 40):
            stamp = NS + k * STEP
            after = Odom.from_yaw(stamp, 0.004 * k, 0.0, 0.0, 0.2, 0.0)
            sent = [Sent(stamp, speed, 0.0) for speed in speeds]
            watch, before = watched(watch, before, GuardInput(stamp, odom=after), sent, PARAMS), after
        assert (reason_of(watch.fault) == Reason.ODOM_NOT_FOLLOWING) == asks


def test_after_a_silence_it_begins_anew_wherever_the_robot_is_then() -> None:
    drive = Drive((1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
    assert drive.on(0.5) is None
    for silence_s, found in ((PARAMS.odom_timeout_s, True), (PARAMS.odom_timeout_s + 0.001, False)):
        before, stamp = drive.odom, drive.odom.stamp_ns + ns(silence_s)
        inp = GuardInput(stamp, odom=Odom.from_yaw(stamp, before.x_m + 0.8, 0.0, 0.0, 1.0, 0.0))
        watch = watched(drive.watch, before, inp, [Sent(stamp, 1.0, 0.0)], PARAMS)
        assert (reason_of(watch.fault) == Reason.ODOM_INCONSISTENT) == found


def test_what_was_found_stays_until_reset_though_odometry_is_sound_again() -> None:
    drive = Drive((1.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    assert reason_of(drive.on(0.6)) == Reason.ODOM_NOT_FOLLOWING
    drive.sent = 0.0, 0.0
    assert reason_of(drive.on(2.0)) == Reason.ODOM_NOT_FOLLOWING
    drive.twist = 1.0, 0.0  # something else wrong changes nothing
    assert reason_of(drive.on(1.0)) == Reason.ODOM_NOT_FOLLOWING
    drive.twist = 0.0, 0.0
    assert drive.on(0.02, reset=True) is None
    assert drive.on(2.0) is None


def test_frozen_odometry_thaws_with_its_first_change_and_only_that_fault_does() -> None:
    drive = Drive((0.5, 0.0))
    assert reason_of(drive.on(0.54, wobble=0.0)) == Reason.ODOM_FROZEN
    assert values_of(drive.odom) == values_of(Odom.from_yaw(NS, 0.0, 0.0, 0.0, 0.0, 0.0))
    drive.sent = 0.0, 0.0
    assert reason_of(drive.on(1.0, wobble=0.0)) == Reason.ODOM_FROZEN
    assert drive.on(0.02) is None


def test_a_robot_whose_odometry_lies_is_stopped_and_stays_stopped_until_reset() -> None:
    run = Run(World(walls=np.array([[6.0, -4.0, 6.0, 4.0]])), STATIC)
    run.silent.add("odom")
    for _ in range(100):  # it trembles about where the robot was
        lie = Odom.from_yaw(run.now_ns, 1e-4 * (run.tick % 7), 0.0, 0.0, 0.0, 0.0)
        run.inp = replace(run.inp, odom=lie)
        run.drive(lambda run: (1.0, 0.0), 0.02)
    assert (run.decisions[-1].level, run.decisions[-1].reason) == (Level.STOP, Reason.ODOM_NOT_FOLLOWING)
    assert run.distance_m < 0.7
