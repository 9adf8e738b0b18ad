"""The compiled MuJoCo model against the robot file it was built from, for every robot, and how each one drives."""

import dataclasses
import math
from functools import lru_cache

import mujoco
import numpy as np
import pytest

from dsac_robot.core.geometry import outward_distance
from dsac_robot.core.robot import Robot, load_robot
from sim.lidar import cast
from sim.robot_check import BARE, Compiled, TryOut, compiled, try_out
from sim.robot_model import TIME_STEP_S, build
from sim.simulator import SimParams, Simulator
from sim.worlds import World

NAMES = ("burger", "jackal", "rosbot_xl")
POSTS = np.array([[1.5, 0.3, 0.2], [-0.9, 1.1, 0.3], [0.2, -1.4, 0.1], [-1.2, -0.8, 0.25]])


@lru_cache
def read_back(name: str) -> Compiled:
    return compiled(load_robot(name))


@lru_cache
def driven(name: str) -> TryOut:
    return try_out(load_robot(name))


def outlined(outline: tuple[float, ...]) -> Robot:
    """The Burger with another outline."""
    robot = load_robot("burger")
    return dataclasses.replace(robot, base=dataclasses.replace(robot.base, footprint_m=outline))


@pytest.mark.parametrize("name", NAMES)
def test_wheels_are_where_and_as_large_as_the_file_says(name: str) -> None:
    base, model = load_robot(name).base, read_back(name)
    assert len(model.wheels_m) == (4 if base.drive == "skid_steer" else 2)
    assert model.wheel_radius_m == pytest.approx(base.wheel_radius_m)
    assert model.track_m == pytest.approx(base.track_m)
    assert model.wheelbase_m == pytest.approx(base.wheelbase_m)
    np.testing.assert_allclose(model.wheels_m[:, 2], base.wheel_radius_m)  # they stand on the ground
    half = len(model.wheels_m) // 2
    assert np.all(model.wheels_m[:half, 1] > 0.0) and np.all(model.wheels_m[half:, 1] < 0.0)
    wheels = model.parts.model.body_mass[[b for b in range(model.parts.model.nbody) if _is_wheel(model, b)]]
    np.testing.assert_allclose(wheels, base.wheel_mass_kg)


def _is_wheel(model: Compiled, body: int) -> bool:
    return model.parts.model.body(body).name.startswith("wheel_")


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_weighs_what_the_file_says_in_mujocos_own_mass_matrix_too(name: str) -> None:
    robot, model = load_robot(name), read_back(name)
    assert model.mass_kg == pytest.approx(robot.base.mass_kg)
    data = mujoco.MjData(model.parts.model)
    mujoco.mj_forward(model.parts.model, data)
    mass = np.zeros((model.parts.model.nv, model.parts.model.nv))
    mujoco.mj_fullM(model.parts.model, data, mass)
    np.testing.assert_allclose(np.diag(mass)[:3], robot.base.mass_kg)
    yaw = mass[5, 5] - robot.base.mass_kg * float(model.com_m[:2] @ model.com_m[:2])  # about the centre of mass
    assert model.inertia_kgm2[-1] == pytest.approx(yaw, rel=0.05)  # the largest moment of a flat robot


@pytest.mark.parametrize("name", NAMES)
def test_the_inertia_is_one_that_matter_can_have_within_the_robots_outline(name: str) -> None:
    robot, model = load_robot(name), read_back(name)
    smallest, middle, largest = model.inertia_kgm2
    assert smallest > 0.0 and smallest + middle >= largest
    for body in range(model.parts.model.nbody):
        a, b, c = sorted(model.parts.model.body_inertia[body])
        assert a + b >= c * (1.0 - 1e-9)
    reach = np.array([*np.ptp(robot.footprint, axis=0), robot.base.height_m])
    assert largest < robot.base.mass_kg * float(reach @ reach) / 4.0  # all of it at the corners
    assert outward_distance(model.com_m[None, :2], robot.footprint)[0] < 0.0
    assert 0.0 < model.com_m[2] < robot.base.height_m


def test_moments_of_the_chassis_are_near_those_of_the_makers_urdf() -> None:
    # jackal.urdf.xacro: 0.3136, 0.3922, 0.4485 for 16.5 kg; rosbot_xl's body.urdf.xacro: 0.0254, 0.0287, 0.0462
    for name, urdf in (("jackal", (0.3136, 0.3922, 0.4485)), ("rosbot_xl", (0.0254, 0.0287, 0.0462))):
        model = read_back(name).parts.model
        ours = model.body_inertia[read_back(name).parts.base_body]
        assert np.all(np.abs(np.log(ours / urdf)) < math.log(1.5)), (name, ours)


@pytest.mark.parametrize("name", NAMES)
def test_the_motors_have_the_files_torque_lag_and_inertia(name: str) -> None:
    actuation, model = load_robot(name).actuation, read_back(name)
    np.testing.assert_allclose(model.torque_nm_max, actuation.wheel_torque_nm_max)
    assert model.motor_time_constant_s == pytest.approx(actuation.motor_time_constant_s)
    dofs = [*model.parts.wheel_dofs_left, *model.parts.wheel_dofs_right]
    np.testing.assert_allclose(model.parts.model.dof_armature[dofs], actuation.armature_kgm2)


@pytest.mark.parametrize("name", NAMES)
def test_what_obstacles_touch_is_the_footprint_up_to_the_height(name: str) -> None:
    robot, model = load_robot(name), read_back(name)
    assert outward_distance(model.outline_m, robot.footprint).max() == pytest.approx(0.0, abs=1e-6)
    for corner in robot.footprint:
        assert np.hypot(*(model.outline_m - corner).T).min() < 1e-6
    assert model.top_m == pytest.approx(robot.base.height_m)


def test_an_outline_of_any_convex_shape_is_compiled_corner_by_corner() -> None:
    angles = np.arange(8) * 0.25 * math.pi + 0.3
    outline = tuple(float(v) for v in np.stack([0.12 * np.cos(angles), 0.12 * np.sin(angles)], axis=1).ravel())
    robot = outlined(outline)
    model = compiled(robot)
    for corner in robot.footprint:
        assert np.hypot(*(model.outline_m - corner).T).min() < 1e-6
    # an obstacle in the corner that the bounding box has and the octagon has not is not touched
    near = World("post", np.array([[0.105, 0.105, 0.02]]), (0.0, 0.0, 0.0), (5.0, 0.0), 5.0)
    sim = Simulator(robot, near, 0, SimParams(noise=False))
    sim.advance(100_000_000)
    assert not sim.touched
    sim = Simulator(robot, dataclasses.replace(near, cylinders_m=np.array([[0.095, 0.095, 0.03]])), 0)
    sim.advance(100_000_000)
    assert sim.touched


@pytest.mark.parametrize("name", NAMES)
def test_mujocos_rays_from_the_lidars_site_meet_what_the_simulated_scan_meets(name: str) -> None:
    robot = load_robot(name)
    lidar = dataclasses.replace(robot.lidar, yaw_rad=0.4, y_m=0.01)
    robot = dataclasses.replace(robot, lidar=lidar)
    world = World("posts", POSTS, (0.3, -0.2, 1.1), (5.0, 0.0), 5.0)
    parts = build(robot, world)
    data = mujoco.MjData(parts.model)
    mujoco.mj_kinematics(parts.model, data)
    site = parts.model.site("lidar").id
    origin, axes = data.site_xpos[site], data.site_xmat[site].reshape(3, 3)
    assert origin[2] == pytest.approx(lidar.z_m)
    rays = np.stack([np.cos(lidar.angles_rad), np.sin(lidar.angles_rad), np.zeros(lidar.beams)], axis=1) @ axes.T
    hit, distance = np.zeros(lidar.beams, np.int32), np.zeros(lidar.beams)
    mujoco.mj_multiRay(
        parts.model, data, origin, rays.ravel(), None, 1, parts.base_body, hit, distance, None, lidar.beams, 1e3
    )
    theirs = np.where(hit >= 0, distance, np.inf)
    ours = cast(lidar, world.start, POSTS)
    seen = np.isfinite(ours)
    assert seen.sum() > 20
    np.testing.assert_allclose(ours[seen], theirs[seen], rtol=0.0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_straight_ahead_the_robot_has_the_speed_that_was_asked(name: str) -> None:
    assert driven(name).speed_ratio == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_the_effective_track_of_the_file_comes_out_of_the_physics(name: str) -> None:
    declared = load_robot(name).base.track_multiplier
    assert driven(name).track_multiplier == pytest.approx(declared, rel=0.15)


def test_a_skid_steer_base_turns_by_slipping_about_as_coulomb_friction_has_it() -> None:
    for name in ("jackal", "rosbot_xl"):
        base = load_robot(name).base
        assert driven(name).track_multiplier == pytest.approx(1.0 + (base.wheelbase_m / base.track_m) ** 2, rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_in_a_turn_the_base_slides_outwards_as_the_file_says(name: str) -> None:
    declared = load_robot(name).actuation.side_slip_s
    assert 0.5 * declared < driven(name).side_slip_s < 1.2 * declared  # in stops, more


@pytest.mark.parametrize("name", NAMES)
def test_wheels_and_casters_stay_on_the_ground(name: str) -> None:
    assert driven(name).wheels_down > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_is_no_longer_than_the_guard_believes_and_not_much_shorter(name: str) -> None:
    found = driven(name)
    assert 0.8 * found.stop_expected_m < found.stop_m < found.stop_expected_m


def test_a_caster_is_not_dragged() -> None:
    parts = read_back("burger").parts
    data = mujoco.MjData(parts.model)
    mujoco.mj_step(parts.model, data, nstep=round(0.5 / TIME_STEP_S))
    caster = parts.support_geoms[-1]
    dims = {int(g): int(c.dim) for c in data.contact[: data.ncon] for g in c.geom if g in parts.support_geoms}
    assert dims == {**dict.fromkeys(parts.support_geoms[:-1], 3), caster: 1}  # only the wheels have friction


@pytest.mark.parametrize("name", NAMES)
def test_at_rest_each_wheel_bears_its_share_of_the_weight(name: str) -> None:
    robot, parts = load_robot(name), build(load_robot(name), BARE)
    data = mujoco.MjData(parts.model)
    mujoco.mj_step(parts.model, data, nstep=round(1.0 / TIME_STEP_S))
    force = np.zeros(6)
    borne = dict.fromkeys(parts.support_geoms, 0.0)
    for i in range(data.ncon):
        mujoco.mj_contactForce(parts.model, data, i, force)
        borne[next(int(g) for g in data.contact[i].geom if g in borne)] += float(force[0])
    assert sum(borne.values()) == pytest.approx(9.81 * robot.base.mass_kg, rel=0.01)
    assert min(borne.values()) > 0.05 * 9.81 * robot.base.mass_kg
