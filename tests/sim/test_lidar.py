"""The analytic lidar against MuJoCo's own rays, and what the sensor makes of true distances."""

import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dsac_robot.core.robot import Lidar, load_robot
from dsac_robot.core.values import Floats
from sim.lidar import cast, measure
from sim.worlds_base import wall_corners

FAN = replace(load_robot("jackal").lidar, beams=91, angle_increment_rad=math.radians(3.0))
FULL_TURN = replace(FAN, beams=120, angle_min_rad=0.0, x_m=-0.03, y_m=0.02, yaw_rad=1.0, range_max_m=6.0)
SPARSE = Lidar(5, -0.5, 0.25, 10.0, 0.1, 4.0)
LIDARS = {"fan": FAN, "full_turn": FULL_TURN, "sparse": SPARSE}

coordinates = st.floats(-8.0, 8.0)
cylinders = st.lists(st.tuples(coordinates, coordinates, st.floats(0.02, 1.5)), max_size=12)
halves = st.floats(0.02, 3.0)
walls = st.lists(st.tuples(coordinates, coordinates, halves, halves, st.floats(-4.0, 4.0)), max_size=8)
poses = st.tuples(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0), st.floats(-7.0, 7.0))


def sensor_pose(lidar: Lidar, pose: tuple[float, float, float]) -> tuple[float, float, Floats]:
    """Where the sensor is in the world, and the direction of each beam. # (B, 2)"""
    x, y, yaw = pose
    sensor_x = x + math.cos(yaw) * lidar.x_m - math.sin(yaw) * lidar.y_m
    sensor_y = y + math.sin(yaw) * lidar.x_m + math.cos(yaw) * lidar.y_m
    bearing = yaw + lidar.yaw_rad + lidar.angles_rad
    return sensor_x, sensor_y, np.stack([np.cos(bearing), np.sin(bearing)], axis=1)


def mujoco_rays(
    lidar: Lidar, pose: tuple[float, float, float], world: Floats, boxes: Floats = np.zeros((0, 5))
) -> Floats:
    """The same distances from mj_multiRay; +inf where it meets nothing. # (B,)"""
    spec = mujoco.MjSpec()
    for x, y, radius in world:
        geom = spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius, 0.5, 0], pos=[x, y, 0.0])
        geom.contype = geom.conaffinity = 0
    for x, y, length, thickness, yaw in boxes:
        geom = spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[length, thickness, 0.5], pos=[x, y, 0.0])
        geom.quat = [math.cos(0.5 * yaw), 0.0, 0.0, math.sin(0.5 * yaw)]
        geom.contype = geom.conaffinity = 0
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    x, y, directions = sensor_pose(lidar, pose)
    rays = np.concatenate([directions, np.zeros((lidar.beams, 1))], axis=1).reshape(-1, 1)
    hit, distance = np.zeros((lidar.beams, 1), np.int32), np.zeros((lidar.beams, 1))
    mujoco.mj_multiRay(
        model, data, np.array([[x], [y], [0.0]]), rays, None, True, -1, hit, distance, None, lidar.beams, 1e3
    )
    return np.where(hit[:, 0] >= 0, distance[:, 0], np.inf)


def grazing(lidar: Lidar, pose: tuple[float, float, float], world: Floats) -> np.ndarray:
    """Beams that touch some cylinder so nearly along a tangent that rounding decides whether they meet it. # (B,)"""
    x, y, directions = sensor_pose(lidar, pose)
    to_centre = world[:, :2] - (x, y)
    aside = np.abs(directions[:, :1] * to_centre[:, 1] - directions[:, 1:] * to_centre[:, 0])
    return np.any(np.abs(aside - world[:, 2]) < 1e-7, axis=1)


@pytest.mark.parametrize("name", LIDARS)
@settings(max_examples=60, deadline=None)
@given(cylinders, poses)
@example([(2.0, 0.1, 0.5), (2.0, -0.1, 0.5)], (0.0, 0.0, -1.0))  # across the first and the last beam of a full turn
@example([(0.6, 0.05, 0.55)], (0.0, 0.0, -1.0))  # nearly touching: half of all beams meet it
def test_the_analytic_cast_gives_what_mujocos_rays_give(
    name: str, obstacles: list[tuple[float, float, float]], pose: tuple[float, float, float]
) -> None:
    lidar = LIDARS[name]
    world = np.array(obstacles, np.float64).reshape(-1, 3)
    x, y, _ = sensor_pose(lidar, pose)
    world = world[np.hypot(world[:, 0] - x, world[:, 1] - y) > world[:, 2] + 1e-3]  # the sensor is in none of them
    ours, theirs = cast(lidar, pose, world), mujoco_rays(lidar, pose, world)
    sure = ~grazing(lidar, pose, world)
    in_range = sure & ((ours < lidar.range_max_m) | (theirs < lidar.range_max_m))
    np.testing.assert_allclose(ours[in_range], theirs[in_range], rtol=0.0, atol=1e-3)


def outside(x: float, y: float, boxes: Floats) -> np.ndarray:
    """Which boxes the point is not in. # (M,)"""
    c, s = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    dx, dy = x - boxes[:, 0], y - boxes[:, 1]
    return (np.abs(c * dx + s * dy) > boxes[:, 2] + 1e-3) | (np.abs(c * dy - s * dx) > boxes[:, 3] + 1e-3)


def at_a_corner(lidar: Lidar, pose: tuple[float, float, float], boxes: Floats) -> np.ndarray:
    """Beams so near to some corner that rounding decides which side they meet, or whether. # (B,)"""
    x, y, directions = sensor_pose(lidar, pose)
    to_corners = wall_corners(boxes).reshape(-1, 2) - (x, y)
    aside = np.abs(directions[:, :1] * to_corners[:, 1] - directions[:, 1:] * to_corners[:, 0])
    return np.any(aside < 1e-6, axis=1)


@pytest.mark.parametrize("name", LIDARS)
@settings(max_examples=80, deadline=None)
@given(cylinders, walls, poses)
@example([], [(2.0, 0.0, 0.5, 0.1, 0.0)], (0.0, 0.0, 0.0))  # beams along the box's own axes
@example([], [(2.0, 0.0, 0.05, 3.0, 0.0), (-2.0, 0.0, 0.05, 3.0, 0.0)], (0.0, 0.0, -1.0))  # before and behind
@example([(1.0, 0.2, 0.3)], [(0.0, 2.0, 8.0, 0.05, 0.0), (0.0, -2.0, 8.0, 0.05, 0.0)], (0.0, 0.0, 0.5))  # a corridor
@example([], [(0.3, 0.0, 0.05, 3.0, 0.0)], (0.0, 0.0, 0.0))  # nearly touching: half of all beams meet it
def test_walls_are_cast_as_mujocos_rays_see_boxes(
    name: str,
    obstacles: list[tuple[float, float, float]],
    boxes: list[tuple[float, float, float, float, float]],
    pose: tuple[float, float, float],
) -> None:
    lidar = LIDARS[name]
    world, rows = np.array(obstacles, np.float64).reshape(-1, 3), np.array(boxes, np.float64).reshape(-1, 5)
    x, y, _ = sensor_pose(lidar, pose)
    world = world[np.hypot(world[:, 0] - x, world[:, 1] - y) > world[:, 2] + 1e-3]
    rows = rows[outside(x, y, rows)]
    ours, theirs = cast(lidar, pose, world, rows), mujoco_rays(lidar, pose, world, rows)
    sure = ~grazing(lidar, pose, world) & ~at_a_corner(lidar, pose, rows)
    in_range = sure & ((ours < lidar.range_max_m) | (theirs < lidar.range_max_m))
    np.testing.assert_allclose(ours[in_range], theirs[in_range], rtol=0.0, atol=1e-3)


def test_a_sensor_inside_a_wall_sees_zero_everywhere() -> None:
    assert np.all(cast(FAN, (0.0, 0.0, 0.3), np.zeros((0, 3)), np.array([[0.0, 0.0, 0.5, 0.2, 1.0]])) == 0.0)


def test_a_sensor_inside_a_cylinder_sees_zero_everywhere() -> None:
    assert np.all(cast(FAN, (0.0, 0.0, 0.3), np.array([[0.0, 0.0, 0.5]])) == 0.0)


def test_a_world_without_cylinders_gives_no_returns() -> None:
    assert np.all(cast(FAN, (0.0, 0.0, 0.0), np.zeros((0, 3))) == np.inf)


def test_ranges_outside_the_sensors_limits_are_reported_as_rep_117_says() -> None:
    distances = np.array([0.05, 0.5, 3.9, 4.1, np.inf])
    ranges = measure(SPARSE, distances, np.random.default_rng(0), noise=False)
    assert ranges.dtype == np.float32
    np.testing.assert_array_equal(ranges, np.array([-np.inf, 0.5, 3.9, np.inf, np.inf], np.float32))


def test_noise_has_the_declared_spread_and_dropout_the_declared_rate() -> None:
    lidar = replace(SPARSE, beams=20_000, angle_increment_rad=1e-4, noise_std_m=0.02, dropout=0.1)
    ranges = measure(lidar, np.full(lidar.beams, 2.0), np.random.default_rng(1))
    lost = np.isnan(ranges)
    assert np.mean(lost) == pytest.approx(0.1, abs=0.01)
    assert np.std(ranges[~lost]) == pytest.approx(0.02, rel=0.03)
    assert np.mean(ranges[~lost]) == pytest.approx(2.0, abs=1e-3)
