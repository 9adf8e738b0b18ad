"""Drive commands: the ramp that limits speed, acceleration and jerk, for the guard and the environments alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsac_robot.core.action import ActionMap, Ramp
from dsac_robot.core.robot import Limits, load_robot
from dsac_robot.core.values import Twist

LIMITS = load_robot("jackal").limits
PERIOD_S = 0.02
NO_JERK = replace(LIMITS, jerk_mps3_max=1e4, yaw_jerk_radps3_max=1e4)
GENTLE = replace(LIMITS, jerk_mps3_max=10.0, yaw_jerk_radps3_max=30.0)


def driven(asked: list[Twist], limits: Limits) -> np.ndarray:
    """Twist and rates period by period, the start first. # (T + 1, 4)"""
    ramp, rows = Ramp(), [(0.0, 0.0, 0.0, 0.0)]
    for twist in asked:
        ramp = ramp.toward(twist, limits, PERIOD_S)
        rows.append((*ramp.twist, *ramp.rates))
    return np.array(rows)


def test_without_a_limit_of_jerk_a_command_changes_by_the_acceleration_and_arrives_exactly() -> None:
    ramp = Ramp().toward((2.0, -2.0), NO_JERK, PERIOD_S)
    assert ramp.twist == pytest.approx((0.08, -0.24))
    assert Ramp((1.0, 0.5)).toward((1.01, 0.6), NO_JERK, PERIOD_S).twist == (1.01, 0.6)
    assert Ramp((1.0, 0.0)).toward((-0.5, 0.0), NO_JERK, PERIOD_S).twist == pytest.approx((0.92, 0.0))
    slow = replace(NO_JERK, accel_mps2_max=1.0)  # slowing down is a drive command too: brake_mps2 is for stops
    assert Ramp((1.0, 0.0)).toward((0.0, 0.0), slow, PERIOD_S).twist == pytest.approx((0.98, 0.0))


def test_the_acceleration_of_the_jackal_builds_up_in_two_periods_and_is_taken_back_in_two() -> None:
    speeds = driven([(0.4, 0.0)] * 8, LIMITS)[:, 0]
    assert speeds == pytest.approx([0.0, 0.04, 0.12, 0.2, 0.28, 0.35, 0.39, 0.4, 0.4], abs=0.021)
    assert np.abs(np.diff(speeds, 2)).max() <= LIMITS.jerk_mps3_max * PERIOD_S**2 + 1e-9


def test_a_command_that_is_kept_is_reached_without_passing_it() -> None:
    for asked in ((1.3, 0.7), (-0.4, -1.9), (0.013, 0.001)):
        rows = driven([asked] * 200, GENTLE)
        assert tuple(rows[-1]) == (*asked, 0.0, 0.0)
        assert np.abs(rows[:, :2]).max(axis=0) == pytest.approx(np.abs(asked), abs=1e-9)


asked_twists = st.tuples(st.floats(-9.0, 9.0), st.floats(-9.0, 9.0))


@given(
    asked=st.lists(st.tuples(asked_twists, st.integers(1, 12)), min_size=1, max_size=8),
    jerk=st.floats(0.5, 1000.0),
    accel=st.floats(0.1, 20.0),
)
def test_speed_acceleration_and_jerk_stay_within_their_limits_whatever_is_asked(
    asked: list[tuple[Twist, int]], jerk: float, accel: float
) -> None:
    limits = replace(
        LIMITS, accel_mps2_max=accel, yaw_accel_radps2_max=3.0 * accel, jerk_mps3_max=jerk, yaw_jerk_radps3_max=jerk
    )
    rows = driven([twist for twist, periods in asked for _ in range(periods)], limits)
    twists, rates = rows[:, :2], rows[:, 2:]
    assert (twists >= [limits.speed_mps_min, -limits.yaw_rate_radps_max]).all()
    assert (twists <= [limits.speed_mps_max, limits.yaw_rate_radps_max]).all()
    assert np.diff(twists, axis=0) == pytest.approx(rates[1:] * PERIOD_S, abs=1e-9)
    assert (np.abs(rates) <= np.array([accel, 3.0 * accel]) * (1.0 + 1e-9)).all()
    assert (np.abs(np.diff(rates, axis=0)) <= jerk * PERIOD_S * (1.0 + 1e-6) + 1e-9).all()


@given(asked=asked_twists, jerk=st.floats(0.5, 1000.0), less=st.floats(0.05, 1.0))
def test_from_rest_a_tighter_limit_of_jerk_never_makes_a_command_larger(asked: Twist, jerk: float, less: float) -> None:
    wide = replace(LIMITS, jerk_mps3_max=jerk, yaw_jerk_radps3_max=jerk)
    tight = replace(LIMITS, jerk_mps3_max=jerk * less, yaw_jerk_radps3_max=jerk * less)
    free, held = Ramp().toward(asked, wide, PERIOD_S).twist, Ramp().toward(asked, tight, PERIOD_S).twist
    assert abs(held[0]) <= abs(free[0]) + 1e-12
    assert abs(held[1]) <= abs(free[1]) + 1e-12


def test_no_time_is_no_change() -> None:
    ramp = Ramp((1.0, 0.5), (2.0, 1.0))
    assert ramp.toward((0.0, 0.0), LIMITS, 0.0) == ramp


def test_actions_span_the_robots_range_and_are_clipped_to_it() -> None:
    actions = ActionMap.of(LIMITS)
    ends = np.array(
        [[LIMITS.speed_mps_min, -LIMITS.yaw_rate_radps_max], [LIMITS.speed_mps_max, LIMITS.yaw_rate_radps_max]]
    )
    np.testing.assert_allclose(actions.to_command(np.array([[-1.0, -1.0], [1.0, 1.0]])), ends)
    np.testing.assert_allclose(actions.to_command(np.array([[-1.5, -9.0], [1.5, 9.0]])), ends)
    np.testing.assert_allclose(actions.to_command(np.zeros(2)), ends.mean(axis=0))
    np.testing.assert_allclose(actions.to_command(np.full(2, 0.5)), 0.25 * ends[0] + 0.75 * ends[1])
    np.testing.assert_allclose(actions.to_action(0.25 * ends[0] + 0.75 * ends[1]), 0.5)
    np.testing.assert_allclose(actions.to_action(ends + np.array([[-1.0], [1.0]])), [[-1.0, -1.0], [1.0, 1.0]])
