"""Dead reckoning from counts and gyro: right on circles, indifferent to lost frames, humble about its errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsac_robot.core.base_odometry import DeadReckoning, OdometryParams, wheels_of_twist
from dsac_robot.core.kinematics import twist_of_wheels
from dsac_robot.core.robot import Robot, load_robot

JACKAL = load_robot("jackal")
BURGER = load_robot("burger")
PER_TICK = 2 * math.pi / JACKAL.odometry.ticks_per_turn
STEP_US = 10_000


def by(robot: Robot, heading: str) -> Robot:
    return replace(robot, odometry=replace(robot.odometry, heading=heading))


def drive(odometry: DeadReckoning, robot: Robot, speed: float, rate: float, seconds: float, **opts):
    """Perfect wheels and gyro; returns the last estimate. ``keep``: which frames arrive, ``bias``: of the gyro."""
    left, right = wheels_of_twist(speed, rate, robot, 1e9)
    estimate, start_us = None, opts.get("start_us", 0)
    for i in range(round(seconds * 1e6 / STEP_US) + 1):
        t_us = start_us + i * STEP_US
        per_tick = robot.odometry.ticks_per_turn / (2 * math.pi)
        counts = [round(w * (t_us - start_us) * 1e-6 * per_tick) for w in (left, right)]
        odometry.add_gyro(t_us, rate + opts.get("bias", 0.0))
        if opts.get("keep", lambda i: True)(i):
            estimate = odometry.add_ticks(t_us, *counts)
    return estimate


@pytest.mark.parametrize("heading", ["gyro", "wheels"])
@pytest.mark.parametrize("robot", [JACKAL, BURGER], ids=lambda robot: robot.name)
def test_a_circle_ends_where_it_began_and_a_quarter_of_it_where_it_should(robot: Robot, heading: str) -> None:
    robot = by(robot, heading)
    speed, rate = 0.2, 0.5
    quarter = drive(DeadReckoning(robot), robot, speed, rate, 0.5 * math.pi / rate)
    assert quarter.pose == pytest.approx((speed / rate, speed / rate, 0.5 * math.pi), abs=0.02)
    whole = drive(DeadReckoning(robot), robot, speed, rate, 2 * math.pi / rate)
    assert whole.pose[:2] == pytest.approx((0.0, 0.0), abs=0.02)
    assert (whole.speed_mps, whole.yaw_rate_radps) == pytest.approx((speed, rate), abs=0.05)


def test_lost_frames_lose_no_distance() -> None:
    every = drive(DeadReckoning(JACKAL), JACKAL, 1.0, 0.3, 4.0)
    some = drive(DeadReckoning(JACKAL), JACKAL, 1.0, 0.3, 4.0, keep=lambda i: i % 5 == 0)
    assert some.pose == pytest.approx(every.pose, abs=2e-3)


def test_a_gyro_s_bias_is_learned_at_rest_and_then_left_out() -> None:
    odometry = DeadReckoning(JACKAL)
    drive(odometry, JACKAL, 0.0, 0.0, 5.0, bias=0.02)
    assert odometry.bias_radps == pytest.approx(0.02, rel=0.05)
    before = odometry.add_ticks(5_010_000, 0, 0).pose[2]
    after = drive(odometry, JACKAL, 1.0, 0.0, 5.0, bias=0.02, start_us=5_020_000)
    assert abs(after.pose[2] - before) < 0.01  # 0.1 rad with the bias


def test_a_base_that_boots_again_does_not_move_the_robot() -> None:
    odometry = DeadReckoning(JACKAL)
    before = drive(odometry, JACKAL, 1.0, 0.2, 2.0)
    after = odometry.add_ticks(5_000, 0, 0)
    assert after.pose == before.pose
    assert after.speed_mps == 0.0
    assert odometry.anchored == 2  # the first counts of all, and these


def test_a_leap_of_the_counts_is_no_motion() -> None:
    odometry = DeadReckoning(JACKAL)
    before = drive(odometry, JACKAL, 0.5, 0.0, 1.0)
    assert odometry.add_ticks(1_010_000, 10**7, 10**7).pose == before.pose


motions = st.lists(st.tuples(st.floats(-0.4, 2.0), st.floats(-2.0, 2.0)), min_size=1, max_size=30)


@given(motions)
def test_the_covariance_is_one_and_never_shrinks(motions: list[tuple[float, float]]) -> None:
    odometry = DeadReckoning(by(JACKAL, "wheels"))
    t_us, counts, before = 0, np.zeros(2), 0.0
    for speed, rate in motions:
        t_us += 100_000
        counts += np.array(wheels_of_twist(speed, rate, JACKAL, 1e9)) * 0.1 / PER_TICK
        estimate = odometry.add_ticks(t_us, *(int(c) for c in counts))
        values = np.linalg.eigvalsh(estimate.pose_covariance)
        assert values[0] >= -1e-12
        assert np.allclose(estimate.pose_covariance, estimate.pose_covariance.T)
        assert np.all(np.diag(estimate.twist_covariance) > 0.0)
        assert estimate.pose_covariance[2, 2] >= before - 1e-15
        before = estimate.pose_covariance[2, 2]


def test_the_covariance_covers_what_random_errors_of_its_size_do() -> None:
    rng, params = np.random.default_rng(0), OdometryParams(heading_std_per_root_s=0.0)
    robot, ends, stated = by(JACKAL, "wheels"), [], np.zeros(3)
    for _ in range(200):
        odometry, counts = DeadReckoning(robot, params), np.zeros(2)
        for i in range(1, 51):
            distance = 0.1 + params.distance_std_per_root_m * math.sqrt(0.1) * rng.normal()
            turn = 0.05 + params.turn_std_per_root_rad * math.sqrt(0.05) * rng.normal()
            counts += np.array(wheels_of_twist(distance, turn, robot, 1e9)) / PER_TICK
            estimate = odometry.add_ticks(i * 100_000, *(round(c) for c in counts))
        ends.append(estimate.pose)
        stated += np.diag(estimate.pose_covariance) / 200
    assert np.var(ends, axis=0) == pytest.approx(stated, rel=0.35)


@given(st.floats(-3.0, 3.0), st.floats(-6.0, 6.0), st.floats(1.0, 50.0))
def test_wheels_that_cannot_turn_so_fast_keep_the_curve(speed: float, rate: float, fastest: float) -> None:
    left, right = wheels_of_twist(speed, rate, JACKAL, fastest)
    assert max(abs(left), abs(right)) <= fastest * (1 + 1e-9)
    base = JACKAL.base
    driven = twist_of_wheels(left, right, base.wheel_radius_m, JACKAL.effective_track_m)
    assert driven[0] * rate == pytest.approx(driven[1] * speed, abs=1e-9)
