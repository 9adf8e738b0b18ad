"""Outlines, frames and poses between samples of odometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dsac_robot.core.geometry import outward_distance
from dsac_robot.core.guard_geometry import Outline, from_frame, pose_at, pose_of, to_frame
from dsac_robot.core.guard_loops import clearance_at
from dsac_robot.core.values import NS, Odom
from tests.core import guard_plain as plain

BOX = np.array([[0.3, 0.2], [-0.1, 0.2], [-0.1, -0.2], [0.3, -0.2]])
OUTLINE = Outline.of(BOX)


def test_an_outline_has_a_plane_along_each_edge_and_one_across_each_corner() -> None:
    half = math.sqrt(0.5)
    edges = [[0, 1, 0.2], [-1, 0, 0.1], [0, -1, 0.2], [1, 0, 0.3]]
    corners = [
        [half, half, half * 0.5],
        [-half, half, half * 0.3],
        [-half, -half, half * 0.3],
        [half, -half, half * 0.5],
    ]
    np.testing.assert_allclose(OUTLINE.planes, [*edges, *corners], atol=1e-12)
    assert OUTLINE.radius_m == pytest.approx(math.hypot(0.3, 0.2))


def test_the_points_on_an_outline_are_on_its_edges_as_near_to_each_other_as_asked() -> None:
    np.testing.assert_allclose(plain.clearance(OUTLINE.boundary, OUTLINE.planes), 0.0, atol=1e-12)
    steps = np.linalg.norm(OUTLINE.boundary - np.roll(OUTLINE.boundary, 1, axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.05, atol=1e-12)
    assert len(OUTLINE.boundary) == 32
    assert len(Outline.of(BOX, 0.15).boundary) == 12
    np.testing.assert_allclose(Outline.of(BOX, 9.0).boundary, BOX)


def test_the_clearance_of_an_outline_that_differs_from_left_to_right_and_from_front_to_back_is_never_too_large() -> (
    None
):
    lopsided = np.array([[0.4, -0.1], [0.2, 0.3], [-0.2, 0.1], [-0.1, -0.2]])
    planes = Outline.of(lopsided).planes
    points = np.random.default_rng(1).uniform(-0.8, 0.8, (200, 2))
    found = np.array([clearance_at(x, y, planes) for x, y in points])
    np.testing.assert_allclose(found, plain.clearance(points, planes))
    true = outward_distance(points, lopsided)
    assert (found <= true + 1e-12).all()
    assert (found >= 0.85 * true - 1e-12)[true > 0.0].all()
    assert clearance_at(0.0, 0.31, planes) > 0.05 > 0.0 > clearance_at(0.0, -0.1, planes)


def test_points_go_from_a_frame_into_the_one_around_it_and_back() -> None:
    points, pose = np.random.default_rng(0).normal(size=(9, 2)), (1.0, -2.0, 2.5)
    np.testing.assert_allclose(to_frame(points, pose), plain.placed(points, np.array(pose)))
    np.testing.assert_allclose(from_frame(to_frame(points, pose), pose), points)


A = Odom.from_yaw(NS, 1.0, 2.0, 3.0, 0.8, -0.6)
B = Odom.from_yaw(NS + NS // 10, 1.2, 1.6, -3.1, 0.4, 0.9)  # the yaw passes pi
C = Odom.from_yaw(NS + NS // 5, 1.3, 1.5, -3.0, 0.5, 0.7)


def carried(odom: Odom, dt: float) -> tuple[float, float, float]:
    """On the arc of its twist, by its chord."""
    x, y, yaw = pose_of(odom)
    turn = dt * odom.yaw_rate_radps
    way = dt * odom.speed_mps
    return x + way * math.cos(yaw + turn / 2.0), y + way * math.sin(yaw + turn / 2.0), yaw + turn


def test_between_two_samples_the_pose_is_between_theirs_the_short_way_round() -> None:
    x, y, yaw = pose_at((A, B, C), NS + NS // 40)
    assert (x, y) == pytest.approx((1.05, 1.9))
    assert yaw == pytest.approx(3.0 + 0.25 * (2.0 * math.pi - 6.1))
    assert pose_at((A, B, C), NS + 3 * NS // 20)[:2] == pytest.approx((1.25, 1.55))


def test_at_a_sample_the_pose_is_its_own_and_before_and_after_all_of_them_the_twist_carries_it() -> None:
    assert pose_at((A, B, C), A.stamp_ns) == pytest.approx(pose_of(A))
    assert pose_at((A, B, C), B.stamp_ns)[:2] == pytest.approx(pose_of(B)[:2])
    assert pose_at((A, B, C), C.stamp_ns)[:2] == pytest.approx(pose_of(C)[:2])
    assert pose_at((A, B, C), A.stamp_ns - NS // 5) == pytest.approx(carried(A, -0.2))
    assert pose_at((A, B, C), C.stamp_ns + NS // 5) == pytest.approx(carried(C, 0.2))
    assert pose_at((A,), A.stamp_ns + NS // 5) == pytest.approx(carried(A, 0.2))
