"""A plan seen from the robot: errors and points ahead in closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsac_robot.core.path import nearest_on, path_errors, points_ahead, way_left_m
from dsac_robot.core.values import Floats, Odom, Plan

LINE = Plan(0, np.array([[0.0, 0.0], [4.0, 0.0], [8.0, 0.0]]), 0.3)
CORNER = Plan(0, np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 3.0]]), 0.3)


def odom(x: float, y: float, yaw: float = 0.0, speed: float = 0.0) -> Odom:
    return Odom.from_yaw(0, x, y, yaw, speed, 0.0)


@given(st.floats(-5.0, 15.0), st.floats(-3.0, 3.0), st.floats(-3.1, 3.1), st.floats(-0.5, 2.0))
def test_on_a_straight_plan_the_errors_are_the_robots_own_coordinates_beyond_its_ends_too(
    x: float, y: float, yaw: float, speed: float
) -> None:
    errors = path_errors(odom(x, y, yaw, speed), LINE)
    assert errors.lateral_m == pytest.approx(y, abs=1e-12)
    assert errors.heading_rad == pytest.approx(yaw, abs=1e-9)
    assert errors.speed_mps == pytest.approx(speed - 0.3)


def test_a_turned_and_moved_plan_gives_the_same_errors() -> None:
    turn, shift = 2.0, np.array([5.0, -3.0])
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    moved = Plan(0, CORNER.points_m @ rotation.T + shift, 0.3)
    for x, y, yaw in ((1.0, 0.4, 0.3), (2.5, 1.0, 1.2), (1.9, 2.9, -3.0)):
        there = rotation @ (x, y) + shift
        one, other = path_errors(odom(x, y, yaw), CORNER), path_errors(odom(*there, yaw + turn), moved)
        assert (one.lateral_m, one.heading_rad) == pytest.approx((other.lateral_m, other.heading_rad))


@given(st.floats(-5.0, 15.0), st.floats(-3.0, 3.0))
def test_what_is_left_of_a_straight_plan_is_the_way_to_its_end_and_negative_beyond(x: float, y: float) -> None:
    assert way_left_m(odom(x, y), LINE) == pytest.approx(8.0 - x, abs=1e-9)


def test_at_the_begin_of_a_lap_all_of_it_is_left_and_just_before_its_end_little() -> None:
    lap = Plan(0, np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [0.0, 3.0], [0.0, 0.0]]), 0.3)
    assert way_left_m(odom(0.0, 0.0), lap) == pytest.approx(14.0)
    assert way_left_m(odom(0.1, 0.3), lap) == pytest.approx(0.3)


def test_at_a_corner_the_nearest_leg_counts_and_the_error_is_the_distance_to_it() -> None:
    assert nearest_on(odom(1.0, 0.1), CORNER) == (0, pytest.approx(1.0))
    assert nearest_on(odom(1.8, 1.0), CORNER) == (1, pytest.approx(1.0))
    assert path_errors(odom(1.8, 1.0, 0.5 * math.pi), CORNER).lateral_m == pytest.approx(0.2)  # left of going up
    outside = path_errors(odom(2.3, -0.4), CORNER)
    assert outside.lateral_m == pytest.approx(-0.5)  # right of the path, 0.3 and 0.4 from its corner


@pytest.mark.parametrize("yaw", [0.0, 1.0, math.pi])
def test_points_ahead_are_on_the_plan_at_their_way_seen_from_the_robot(yaw: float) -> None:
    here = odom(1.0, 0.5, yaw)
    seen = points_ahead(here, CORNER, np.array([0.0, 0.5, 1.0, 2.0, 10.0]))
    expected = np.array([[1.0, 0.0], [1.5, 0.0], [2.0, 0.0], [2.0, 1.0], [2.0, 9.0]])  # the last leg goes on
    c, s = math.cos(yaw), math.sin(yaw)
    away = expected - (1.0, 0.5)
    np.testing.assert_allclose(seen, np.stack([c * away[:, 0] + s * away[:, 1], c * away[:, 1] - s * away[:, 0]], 1))


def test_before_its_begin_the_way_ahead_leads_to_the_plan() -> None:
    np.testing.assert_allclose(points_ahead(odom(-1.0, 0.0), LINE, np.array([0.5, 3.0])), [[0.5, 0.0], [3.0, 0.0]])


@pytest.mark.parametrize(
    ("points", "speed", "says"),
    [
        (np.zeros((1, 2)), 0.3, r"\(N, 2\) with N >= 2; got shape \(1, 2\)"),
        (np.zeros((3, 3)), 0.3, r"got shape \(3, 3\)"),
        (np.array([[0.0, math.nan], [1.0, 0.0]]), 0.3, "finite"),
        (np.array([[0.0, 0.0], [0.0, 0.0]]), 0.3, "repeats a point"),
        (np.array([[0.0, 0.0], [1.0, 0.0]]), 0.0, "speed_mps = 0.0 must be above 0"),
        (np.array([[0.0, 0.0], [1.0, 0.0]]), math.inf, "speed_mps = inf"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(points: Floats, speed: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Plan(0, points, speed)
