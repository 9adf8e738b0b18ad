"""The guard against MuJoCo: what the shipped parameters promise must hold for the simulated base, tyres and all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.core.files import load_yaml, share_path
from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_geometry import from_frame
from dsac_robot.core.guard_motion import Motion, Rollout, roll_out, stop_step
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.params import build
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Command, Floats, Odom, Scan, ns
from sim.simulator import SimParams, Simulator
from sim.worlds import empty_world

ROBOT = load_robot("jackal")
PERIOD_S = 0.02
POST_M = 0.1


def shipped(profile: str) -> GuardParams:
    file = share_path("config", f"safety_guard_{profile}.yaml")
    given = load_yaml(Path(file))["/**/safety_guard"]["ros__parameters"]
    return replace(build(GuardParams, given, str(file)), require_verdict=False)


@pytest.mark.parametrize("profile", ["static", "dynamic"])
@pytest.mark.parametrize(("wall_m", "turn_radps"), [(2.0, 0.0), (3.0, 0.0), (3.37, 0.2), (4.0, -0.3)])
def test_at_full_speed_towards_a_wall_the_robot_comes_to_rest_before_it(
    profile: str, wall_m: float, turn_radps: float
) -> None:
    wall = np.array([(wall_m, y, POST_M) for y in np.arange(-3.0, 3.01, 0.1)])
    sim = Simulator(ROBOT, replace(empty_world(), cylinders_m=wall), 0, SimParams())
    params = replace(shipped(profile), fallback_after_s=0.0)
    fastest = insist(sim, params, turn_radps, 5.0)
    assert fastest > 1.5
    assert not (sim.touched and sim.touch_speed_mps > 0.02), sim.touch_speed_mps
    assert abs(sim.twist[0]) < 0.2  # it may still creep up to its margin


@pytest.mark.parametrize("profile", ["static", "dynamic"])
def test_backing_off_from_a_wall_again_and_again_touches_nothing(profile: str) -> None:
    post = [(-2.0, y, POST_M) for y in np.arange(-1.0, 1.01, 0.1)]
    wall = np.array([(2.0, y, POST_M) for y in np.arange(-3.0, 3.01, 0.1)] + post)
    sim = Simulator(ROBOT, replace(empty_world(), cylinders_m=wall), 0, SimParams())
    insist(sim, shipped(profile), 0.1, 20.0)
    assert sim.true_odom().x_m > 0.0
    assert not sim.touched


def insist(sim: Simulator, params: GuardParams, turn_radps: float, seconds: float) -> float:
    """Ask for full speed whatever happens; returns the highest speed."""
    model, state, scan, odom, fastest = GuardModel.of(params, ROBOT), initial_state(), None, None, 0.0
    for now_ns in range(0, ns(seconds), ns(PERIOD_S)):
        for sample in sim.advance(now_ns):
            scan = sample if isinstance(sample, Scan) else scan
            odom = sample if isinstance(sample, Odom) else odom
        asked = Command(now_ns, ROBOT.limits.speed_mps_max, turn_radps)
        state, decision = step(state, GuardInput(now_ns, scan, odom, asked), model)
        sim.send(Command(now_ns, decision.speed_mps, decision.yaw_rate_radps))
        fastest = max(fastest, sim.twist[0])
    return fastest


@pytest.mark.parametrize("twist", [(2.0, 0.0), (2.0, 1.5), (1.0, 0.0), (0.5, 0.0)])
def test_the_rolled_out_stop_is_not_shorter_than_the_real_one(twist: tuple[float, float]) -> None:
    real, rolled = stopped(twist)
    real_m = float(np.hypot(*np.diff(real[:, :2], axis=0).T).sum())
    assert real_m < rolled.length_m + 0.005  # the guard's margin and reaction time are above it


@pytest.mark.parametrize("twist", [(2.0, 1.5), (1.5, 2.0), (1.0, -1.5), (2.0, -0.5), (0.5, 2.0)])
def test_the_rolled_out_stop_slides_out_of_its_arc_as_the_real_one_does(twist: tuple[float, float]) -> None:
    real, rolled = stopped(twist)
    aside_m = real[-1, 1] - float(rolled.y_m[-1])
    straight = replace(ROBOT, actuation=replace(ROBOT.actuation, side_slip_s=0.0))
    assert abs(aside_m) < 0.035, aside_m
    if abs(twist[0] * twist[1]) > 2.0:
        assert abs(real[-1, 1] - float(stopped(twist, straight)[1].y_m[-1])) > 0.05


def stopped(twist: tuple[float, float], believed: Robot = ROBOT) -> tuple[Floats, Rollout]:
    """A stop from this twist: true poses from its first command on, in the base frame of then, and the roll-out."""
    sim = Simulator(ROBOT, empty_world(), 0, SimParams(noise=False))
    for now_ns in range(0, ns(1.8), ns(PERIOD_S)):
        sim.advance(now_ns)
        part = min(1.0, now_ns / ns(0.6))
        sim.send(Command(now_ns, part * twist[0], part * twist[1]))
    last, path = twist, []
    for now_ns in range(ns(1.8), ns(3.3), ns(PERIOD_S)):
        sim.advance(now_ns)
        path.append(sim.pose)
        last = stop_step(last, PERIOD_S, ROBOT.limits)
        sim.send(Command(now_ns, *last))
    motion = Motion.of(believed)
    before = np.array([twist] * round(motion.delay_s / PERIOD_S))
    first = stop_step(twist, PERIOD_S, ROBOT.limits)
    poses = np.array(path)
    return from_frame(poses[:, :2], path[0]), roll_out(np.array([first]), twist, before, PERIOD_S, motion)
