"""Single rules of the fallback: when it is due, how far it goes, when it gives up, and along what."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dsac_robot.core.guard_fallback import BackOff, Fallback, FallbackPolicy, back_off_command
from dsac_robot.core.guard_geometry import Pose
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, Odom, ns

JACKAL = load_robot("jackal")
LIMITS = JACKAL.limits
PARAMS = GuardParams(fallback_after_s=1.0, fallback_distance_m=0.3, fallback_speed_mps=0.25)
ORIGIN = (0.0, 0.0, 0.0)


def held(fallback: Fallback, base: Pose, seconds: float, params: GuardParams = PARAMS) -> Fallback:
    """Held at a place in periods of a quarter of a second."""
    for _ in range(round(seconds / 0.25)):
        fallback = fallback.held(base, 0.25, True, params)
    return fallback


def test_it_is_due_after_just_the_time_set_of_being_held_at_a_place() -> None:
    fallback = held(Fallback(), ORIGIN, 1.0)  # the first period only says where
    assert fallback.held_s == 0.75 and fallback.under_way is None and fallback.anchor == ORIGIN
    fallback = fallback.held(ORIGIN, 0.25, True, PARAMS)
    assert fallback == Fallback(ORIGIN, 0.0, ORIGIN, 1, BackOff(ORIGIN, 0.3, 2.4))


def test_only_periods_in_which_the_robot_is_held_count() -> None:
    fallback = held(Fallback(), ORIGIN, 1.0)
    for _ in range(9):
        fallback = fallback.held(ORIGIN, 0.25, False, PARAMS)
    assert fallback.held_s == 0.75 and fallback.under_way is None


@pytest.mark.parametrize(("moved_m", "forgets"), [(0.1, False), (0.101, True)])
def test_a_robot_that_gets_away_by_10_cm_is_no_longer_held(moved_m: float, forgets: bool) -> None:
    fallback = held(Fallback(), ORIGIN, 1.0).held((0.0, moved_m, 1.0), 0.25, True, PARAMS)
    assert (fallback.under_way is None) == forgets
    if forgets:
        assert (fallback.held_s, fallback.anchor) == (0.0, (0.0, moved_m, 1.0))


def test_it_never_is_due_where_the_time_is_zero() -> None:
    assert held(Fallback(), ORIGIN, 5.0, replace(PARAMS, fallback_after_s=0.0)).under_way is None


@pytest.mark.parametrize(("x_m", "tries"), [(0.0, 2), (0.99, 2), (1.01, 1)])
def test_it_goes_farther_where_it_was_held_within_a_metre_before(x_m: float, tries: int) -> None:
    fallback = held(held(Fallback(), ORIGIN, 1.25).over(), (x_m, 0.0, 0.0), 1.25)
    assert fallback.tries == tries
    assert fallback.under_way == BackOff((x_m, 0.0, 0.0), 0.3 * tries, 2.4 * tries)


def test_it_goes_four_times_the_distance_at_most() -> None:
    fallback = Fallback()
    for _ in range(6):
        fallback = held(fallback.over(), ORIGIN, 1.25)
    assert fallback.tries == 4 and fallback.under_way is not None
    assert fallback.under_way.distance_m == pytest.approx(1.2)


def test_over_forgets_where_it_was_held_but_not_how_often() -> None:
    over = held(Fallback(), ORIGIN, 1.25).over()
    assert over == Fallback(None, 0.0, ORIGIN, 1, None)


def test_it_ends_at_its_distance_or_when_its_time_is_up() -> None:
    begun = held(Fallback(), ORIGIN, 1.25)
    on = begun.step((0.299, 0.0, 0.0), 0.4)
    assert on.under_way == BackOff(ORIGIN, 0.3, pytest.approx(2.0))
    assert begun.step((-0.3, 0.0, 0.0), 0.4) == begun.over()
    for _ in range(5):
        assert on.under_way is not None
        on = on.step(ORIGIN, 0.4 + 1e-9)
    assert on.under_way is not None and on.step(ORIGIN, 0.4) == begun.over()
    exactly = replace(begun, under_way=BackOff(ORIGIN, 0.3, 0.0))
    assert exactly.step(ORIGIN, 0.4) == begun.over()
    assert Fallback(ORIGIN, 0.5).step(ORIGIN, 0.4) == Fallback()


def test_it_steers_back_on_the_arc_to_the_newest_pose_far_enough_behind() -> None:
    base = (1.0, 2.0, 0.5)

    def behind(x: float, y: float) -> Pose:
        c, s = math.cos(base[2]), math.sin(base[2])
        return base[0] + c * x - s * y, base[1] + s * x + c * y, 0.0

    trail = [behind(-0.9, -0.2), behind(-0.4, 0.1), behind(-0.29, 0.0), behind(0.5, 0.1)]
    speed, turn = back_off_command(base, trail, LIMITS, PARAMS)
    assert speed == -0.25
    radius = speed / turn  # the arc about (0, radius) meets the pose
    assert math.hypot(-0.4, 0.1 - radius) == pytest.approx(abs(radius))
    assert back_off_command(base, trail[:1], LIMITS, PARAMS)[1] * turn < 0.0
    assert back_off_command(base, trail[2:], LIMITS, PARAMS) == (-0.25, 0.0)
    assert back_off_command(base, [], LIMITS, PARAMS) == (-0.25, 0.0)


@pytest.mark.parametrize("pose", [(0.0, 0.5, 0.0), (-0.18, 0.24, 0.0)], ids=["just beside", "just 30 cm away"])
def test_a_pose_just_beside_or_just_as_far_as_it_looks_back_is_not_steered_to(pose: Pose) -> None:
    assert back_off_command(ORIGIN, [pose], LIMITS, PARAMS) == (-0.25, 0.0)


def test_it_keeps_to_the_robots_limits() -> None:
    beside = [(-1e-3, 0.31, 0.0)]
    slow = replace(LIMITS, speed_mps_min=-0.1, yaw_rate_radps_max=0.5)
    assert back_off_command(ORIGIN, beside, slow, PARAMS) == (-0.1, -0.5)
    assert back_off_command(ORIGIN, [(-1e-3, -0.31, 0.0)], slow, PARAMS) == (-0.1, 0.5)


def odom(x_m: float, y_m: float = 0.0) -> Odom:
    return Odom.from_yaw(NS, x_m, y_m, 0.0, 0.0, 0.0)


def test_as_a_policy_it_ticks_each_period_and_on_the_first_scan() -> None:
    fallback = FallbackPolicy(JACKAL, PARAMS)
    fallback.add(odom(0.0))
    assert fallback.due(0) and fallback.due(-5)
    fallback.tick(0)
    assert not fallback.due(ns(0.1) - 1)
    assert fallback.due(ns(0.1))


def test_as_a_policy_it_knows_its_way_to_10_cm() -> None:
    fallback = FallbackPolicy(JACKAL, PARAMS)
    fallback.add(Command(NS, 1.0, 0.0))
    for x, y in ((-0.5, 0.2), (-0.41, 0.2), (-0.4, -0.25), (0.0, 0.0)):
        fallback.add(odom(x, y))
    # the second is too near to the first to be kept; the third is the newest one far enough behind
    turn = back_off_command(ORIGIN, [(-0.4, -0.25, 0.0)], LIMITS, PARAMS)[1]
    assert fallback.tick(NS) == Command(NS, -0.25, turn)


@pytest.mark.parametrize(("more", "known"), [(61, True), (62, False)])
def test_as_a_policy_it_forgets_its_way_beyond_64_poses(more: int, known: bool) -> None:
    fallback = FallbackPolicy(JACKAL, PARAMS)
    fallback.add(odom(-0.5, 0.2))
    for k in range(more):
        fallback.add(odom(5.0, float(k)))
    fallback.add(odom(9.0))
    fallback.add(odom(0.0))
    assert (fallback.tick(NS).yaw_rate_radps != 0.0) == known


def test_as_a_policy_it_stops_after_its_distance_from_where_it_began() -> None:
    fallback = FallbackPolicy(JACKAL, PARAMS)
    fallback.add(odom(1.0))
    assert fallback.tick(NS).speed_mps == -0.25
    fallback.add(odom(0.701))
    assert fallback.tick(NS + 1).speed_mps == -0.25
    fallback.add(odom(0.69))
    assert fallback.tick(NS + 2) == Command(NS + 2, 0.0, 0.0)
