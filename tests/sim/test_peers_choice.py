"""What the peers' planners choose in a situation: reachable, free until at rest, towards the way, nothing where all is
blocked."""

import math

import numpy as np
import pytest

from dsac_robot.core.robot import load_robot
from sim.peers import PEERS
from sim.peers.cost_to_go import InflationParams, plan
from sim.peers.dwa import DwaParams
from sim.peers.rolling_map import HALF_CELLS, RollingMap
from sim.peers.situation import Body, Situation, arcs

ROBOT = load_robot("jackal")
BODY = Body.of(ROBOT)
GOAL_M = (10.0, 0.0)


def situation(points_m: np.ndarray, speed_mps: float = 0.0, yaw_rate_radps: float = 0.0, yaw: float = 0.0) -> Situation:
    """The robot at the origin among occupied points. # points_m: (N, 2)"""
    grid = RollingMap(ROBOT.lidar)
    cells, inside = grid.cells(points_m)
    grid.occupied[tuple(cells[inside].T)] = True
    distance = grid.distances()
    way = plan(distance, grid.low_m, GOAL_M, BODY.inscribed_m, InflationParams())
    return Situation((0.0, 0.0, yaw), speed_mps, yaw_rate_radps, GOAL_M, distance, grid.low_m, way, BODY)


def clutter(seed: int) -> np.ndarray:
    """Points anywhere but on the robot."""
    points = np.random.default_rng(seed).uniform(-3.0, 3.0, (40, 2))
    return points[np.hypot(*points.T) > 0.5]


@pytest.mark.parametrize("name", PEERS)
def test_a_chosen_twist_can_be_braked_before_anything_is_met(name: str) -> None:
    moving = 0
    for seed in range(12):
        now = situation(clutter(seed), speed_mps=0.15 * seed)
        speed, rate = PEERS[name]().choose(now)
        if name == "mppi":  # its first twist is reached within the acceleration limit
            speed = float(np.clip(speed, now.speed_mps - 0.4, now.speed_mps + 0.4))
        brake_s = abs(speed) / (2.0 * ROBOT.limits.brake_mps2)
        poses = arcs(now.pose, np.array([speed]), np.array([rate]), np.linspace(0.0, brake_s, 10))
        moving += (speed, rate) != (0.0, 0.0)
        assert (speed, rate) == (0.0, 0.0) or now.clearance_m(poses).min() > 0.0
    assert moving > 6


@pytest.mark.parametrize("name", PEERS)
def test_open_ground_is_driven_straight_and_faster(name: str) -> None:
    planner, now = PEERS[name](), situation(np.array([[-3.0, -3.0]]), speed_mps=1.0)
    for _ in range(8):  # MPPI improves its plan from tick to tick
        speed, rate = planner.choose(now)
    assert speed > 1.0
    assert abs(rate) < 0.6


@pytest.mark.parametrize("name", PEERS)
def test_a_robot_that_looks_aside_turns_to_the_goal(name: str) -> None:
    _, rate = PEERS[name]().choose(situation(np.array([[-3.0, -3.0]]), yaw=-1.2))
    assert rate > 0.2


@pytest.mark.parametrize("name", PEERS)
def test_a_robot_that_is_shut_in_does_not_move(name: str) -> None:
    edges = np.linspace(-0.255, 0.255, 60)
    walls = [(x, s * 0.216) for x in edges for s in (-1, 1)] + [(s * 0.255, y) for y in edges * 0.84 for s in (-1, 1)]
    speed, rate = PEERS[name]().choose(situation(np.array(walls)))
    assert abs(speed) < 0.1
    assert abs(rate) < 0.2


def test_dwa_stays_in_its_window() -> None:
    window_s, limits = DwaParams().window_s, ROBOT.limits
    for seed in range(12):
        now = situation(clutter(seed), speed_mps=0.15 * seed, yaw_rate_radps=0.5)
        speed, rate = PEERS["dwa"]().choose(now)
        if (speed, rate) != (0.0, 0.0):
            assert abs(speed - now.speed_mps) <= limits.accel_mps2_max * window_s + 1e-9
            assert abs(rate - 0.5) <= limits.yaw_accel_radps2_max * window_s + 1e-9


def test_mppi_repeats_itself_after_a_reset() -> None:
    now, planner = situation(clutter(3), speed_mps=1.0), PEERS["mppi"]()
    first = [planner.choose(now) for _ in range(3)]
    planner.reset()
    assert [planner.choose(now) for _ in range(3)] == first


def test_clearance_is_that_of_the_outline() -> None:
    now = situation(np.array([[1.0, 0.0]]))
    found = now.clearance_m(np.array([[0.5, 0.0, 0.0], [0.5, 0.0, math.pi / 2], [0.7, 0.0, math.pi], [-1.0, 0.0, 0.0]]))
    assert np.allclose(found, [0.246, 0.285, 0.046, 0.6], atol=0.03)  # cells of 2.5 cm
    assert HALF_CELLS * 0.025 > 3.5
