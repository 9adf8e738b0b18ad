"""What makes the simulator fast changes none of its numbers."""

import mujoco
import numpy as np
import pytest

from dsac_robot.core.geometry import outward_distance
from dsac_robot.core.kinematics import wheel_speeds
from dsac_robot.core.lidar import returns_in_base
from dsac_robot.core.navigate import clearance_m
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, Scan, ns
from sim.benchmark import drive_commands, trajectory
from sim.lidar import cast, measure
from sim.robot_model import TIME_STEP_S, build, build_floor
from sim.simulator import SimParams, Simulator
from sim.worlds import World, empty_world, generate_clutter

ROBOT = load_robot("jackal")
CLUTTER = generate_clutter(3)


def test_on_the_empty_floor_the_robot_moves_by_the_same_bits_as_among_far_obstacles() -> None:
    states = []
    for model in (build(ROBOT, CLUTTER).model, build_floor(ROBOT).model):
        data = mujoco.MjData(model)
        data.qpos[:7] = build(ROBOT, CLUTTER).model.qpos0[:7]
        data.ctrl[:] = (9.0, 9.0, 4.0, 4.0)
        mujoco.mj_step(model, data, nstep=150)
        states.append((data.qpos.tobytes(), data.qvel.tobytes(), data.contact.geom.tolist()))
    assert states[0] == states[1]


def test_a_touch_is_seen_at_the_very_step_at_which_physics_alone_would_see_it() -> None:
    world, speed = empty_world((2.0, 0.3)), 1.7
    sim = Simulator(ROBOT, world, 0, SimParams(noise=False))
    sim.place_obstacle(1.2, 0.15)
    while not sim.touched:
        sim.send(Command(sim.time_ns, speed, 0.0))
        sim.advance(sim.time_ns + ns(0.02))
        assert sim.time_ns < 3 * NS
    touched_ns = next_touch_ns(world, speed)
    assert sim.time_ns - ns(0.02) < touched_ns <= sim.time_ns
    again = Simulator(ROBOT, world, 0, SimParams(noise=False))
    again.place_obstacle(1.2, 0.15)
    for at_ns in range(0, touched_ns, ns(0.02)):
        again.advance(at_ns)
        again.send(Command(at_ns, speed, 0.0))
    again.advance(touched_ns - ns(TIME_STEP_S))
    assert not again.touched
    again.advance(touched_ns)
    assert again.touched


def next_touch_ns(world: World, speed_mps: float) -> int:
    """The time of the first contact of the body in a plain loop over every step."""
    parts = build(ROBOT, world)
    data = mujoco.MjData(parts.model)
    mujoco.mj_step(parts.model, data, nstep=100)
    data.mocap_pos[parts.spare_mocaps[0]] = (1.2, 0.15, 0.5)
    left, right = wheel_speeds(speed_mps, 0.0, ROBOT.base.wheel_radius_m, ROBOT.effective_track_m)
    half = parts.model.nu // 2
    for step in range(1000):
        if step * ns(TIME_STEP_S) >= ns(ROBOT.actuation.action_delay_s):
            data.ctrl[:half], data.ctrl[half:] = left, right
        mujoco.mj_step(parts.model, data)
        if np.any(data.contact.geom == parts.body_geom):
            return (step + 1) * ns(TIME_STEP_S)
    raise AssertionError("no touch in 5 s")


@pytest.mark.parametrize("seed", range(12))
def test_the_clearance_of_the_near_returns_is_the_clearance_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1.5, 1.5), rng.uniform(0.0, 9.0)
    ranges = measure(ROBOT.lidar, cast(ROBOT.lidar, (x, y, rng.uniform(-3, 3)), CLUTTER.cylinders_m), rng)
    scan = Scan(0, ranges)
    everything = outward_distance(returns_in_base(ranges, ROBOT.lidar), ROBOT.footprint).min()
    assert clearance_m(scan, ROBOT) == max(0.0, everything)


def test_straight_ahead_a_finer_time_step_gives_nearly_the_same_drive() -> None:
    twists = drive_commands(ROBOT, 1)[:100] * (1.0, 0.0)
    coarse, fine = trajectory(ROBOT, TIME_STEP_S, twists), trajectory(ROBOT, 0.25 * TIME_STEP_S, twists)
    assert fine[-1, 0] > 0.5
    assert np.hypot(*(coarse - fine).T).max() < 0.05 * fine[-1, 0]
