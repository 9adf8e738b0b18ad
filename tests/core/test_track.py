"""Reward and cost of task track in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.robot import load_robot
from dsac_robot.core.track import TrackParams, TrackStep, cost, disc_gap_m, off_path, reward
from dsac_robot.core.values import Command, Floats32, Odom, Plan, Scan

ROBOT = load_robot("jackal")
TASK = TrackParams()
PLAN = Plan(0, np.array([[0.0, 0.0], [10.0, 0.0]]), 0.3)


def scan(ranges: Floats32 | None = None) -> Scan:
    nothing = np.full(ROBOT.lidar.beams, np.inf, np.float32)
    return Scan(100, nothing if ranges is None else ranges)


def disc_at(centre_m: float, radius_m: float) -> Scan:
    """What the lidar sees of a disc straight ahead of the robot's origin."""
    angle = ROBOT.lidar.angles_rad
    away = centre_m - ROBOT.lidar.x_m
    inside = radius_m**2 - (away * np.sin(angle)) ** 2
    met = (inside > 0.0) & (np.cos(angle) > 0.0)
    ranges = np.where(met, away * np.cos(angle) - np.sqrt(np.maximum(inside, 0.0)), np.inf)
    return scan(ranges.astype(np.float32))


def step(
    x: float = 1.0, y: float = 0.0, yaw: float = 0.0, v: float = 0.3, command: tuple[float, float] = (0.0, 0.0)
) -> TrackStep:
    return TrackStep(Odom.from_yaw(100, x, y, yaw, v, 0.0), PLAN, Command(100, *command), scan(), False)


def test_a_perfect_follower_pays_for_its_command_alone() -> None:
    assert reward(step(command=(0.3, 0.0)), ROBOT, TASK) == pytest.approx(-0.2 * 0.09)
    assert reward(step(), ROBOT, TASK) == pytest.approx(0.0)


def test_each_error_and_each_command_is_paid_squared_with_the_papers_weights() -> None:
    assert reward(step(y=0.5), ROBOT, TASK) == pytest.approx(-1.4 * 0.25)
    assert reward(step(y=-0.5), ROBOT, TASK) == pytest.approx(-1.4 * 0.25)
    assert reward(step(yaw=-0.2), ROBOT, TASK) == pytest.approx(-1.0 * 0.04)
    assert reward(step(v=0.5), ROBOT, TASK) == pytest.approx(-16.0 * 0.04)
    assert reward(step(command=(0.0, -1.0)), ROBOT, TASK) == pytest.approx(-0.5)
    together = reward(step(y=0.5, yaw=-0.2, v=0.5, command=(0.3, -1.0)), ROBOT, TASK)
    assert together == pytest.approx(-(1.4 * 0.25 + 0.04 + 16.0 * 0.04 + 0.2 * 0.09 + 0.5))


def test_weights_are_the_parameters() -> None:
    doubled = TrackParams(lateral_weight=2.8, heading_weight=2.0, speed_weight=32.0, command_weight=0.4, turn_weight=1)
    here = step(y=0.5, yaw=-0.2, v=0.5, command=(0.3, -1.0))
    assert reward(here, ROBOT, doubled) == pytest.approx(2.0 * reward(here, ROBOT, TASK))


def test_a_contact_and_leaving_the_path_pay_the_end_penalty_once() -> None:
    assert reward(replace(step(), contact=True), ROBOT, TASK) == pytest.approx(-TASK.end_penalty)
    far = step(y=TASK.off_path_m + 0.1)
    assert off_path(far, TASK) and not off_path(step(y=TASK.off_path_m - 0.1), TASK)
    assert reward(far, ROBOT, TASK) == pytest.approx(-1.4 * (TASK.off_path_m + 0.1) ** 2 - TASK.end_penalty)
    assert reward(replace(far, contact=True), ROBOT, TASK) == pytest.approx(reward(far, ROBOT, TASK))


def test_a_contact_is_never_cheaper_than_standing_still_for_ever() -> None:
    standing = reward(step(v=-0.1), ROBOT, TASK)  # 0.4 m/s below the reference
    assert TASK.end_penalty > -standing / (1.0 - 0.99)


@pytest.mark.parametrize("centre_m", [0.6, 0.75, 1.0, 3.0])
def test_the_gap_is_that_of_two_discs_where_the_obstacle_is_one(centre_m: float) -> None:
    assert disc_gap_m(disc_at(centre_m, 0.37), ROBOT, TASK) == pytest.approx(centre_m - 2 * 0.37, abs=1e-3)


def test_the_cost_is_one_below_the_margin_of_the_discs_and_on_contact_and_else_zero() -> None:
    limit_m = 2.0 * TASK.disc_radius_m + TASK.disc_margin_m
    assert cost(replace(step(), next_scan=disc_at(limit_m + 0.01, 0.37)), ROBOT, TASK) == 0.0
    assert cost(replace(step(), next_scan=disc_at(limit_m - 0.01, 0.37)), ROBOT, TASK) == 1.0
    assert cost(replace(step(), contact=True), ROBOT, TASK) == 1.0
    assert cost(step(), ROBOT, TASK) == 0.0


def test_a_gap_below_the_margin_is_paid_in_proportion_where_a_recipe_asks_for_it() -> None:
    paying = replace(TASK, gap_weight=5.0)
    for gap_m, paid in ((0.2, 0.0), (0.5 * TASK.disc_margin_m, 2.5), (-0.05, 5.0)):
        near = replace(step(), next_scan=disc_at(2.0 * TASK.disc_radius_m + gap_m, 0.37))
        assert reward(near, ROBOT, paying) == pytest.approx(-paid, abs=0.05)
        assert reward(near, ROBOT, TASK) == pytest.approx(0.0)


def test_where_nothing_is_seen_the_gap_is_the_lidars_range_less_the_disc() -> None:
    assert disc_gap_m(scan(), ROBOT, TASK) == ROBOT.lidar.range_max_m - TASK.disc_radius_m
