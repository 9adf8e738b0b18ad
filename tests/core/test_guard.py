"""What the guard does with commands: it lets safe ones pass, replaces the others by the nearest safe one, and stops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core import guard_loops, lidar
from dsac_robot.core.guard_geometry import Outline
from dsac_robot.core.guard_motion import stop_step
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS
from tests.core.guard_world import JACKAL, STATIC, TICK_S, Policy, Run, World

LIMITS = JACKAL.limits
DYNAMIC = replace(STATIC, obstacle_speed_mps_max=0.5)
ROOM = np.array([[-6.0, -6, 6, -6], [6, -6, 6, 6], [6, 6, -6, 6], [-6, 6, -6, -6]])
HALL = World(walls=np.array([[-3.0, -3, 30, -3], [-3, 3, 30, 3], [-3, -3, -3, 3], [30, -3, 30, 3]]))


def wall_ahead(x_m: float) -> World:
    return World(walls=np.array([[x_m, -5.0, x_m, 5.0], [-6, -5, -6, 5]]))


def always(speed: float, turn: float = 0.0) -> Policy:
    return lambda run: (speed, turn)


def towards(x_m: float, y_m: float, speed: float) -> Policy:
    """Steer at a point."""

    def policy(run: Run) -> tuple[float, float]:
        x, y, yaw = run.pose
        error = math.remainder(math.atan2(y_m - y, x_m - x) - yaw, math.tau)
        return speed, max(-2.0, min(2.0, 3.0 * error))

    return policy


def test_a_free_command_reaches_the_base_unchanged() -> None:
    run = Run(HALL)
    run.drive(always(1.5, 0.0), 2.0)
    last = run.decisions[-1]
    assert (last.speed_mps, last.yaw_rate_radps, last.level, last.reason) == (1.5, 0.0, Level.DRIVE, Reason.NONE)


@pytest.mark.parametrize("speed", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("params", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_the_robot_stops_before_a_wall_and_rests_there(speed: float, params: GuardParams) -> None:
    run = Run(wall_ahead(3.0), params)
    run.drive(always(speed), 2.0 + 3.0 / speed)
    assert 0.0 < run.clearance_moving_m < 0.25
    assert run.decisions[-1].reason == Reason.NO_SAFE_COMMAND
    speeds = [d.speed_mps for d in run.decisions[-25:]]
    assert speeds == [0.0] * 25


def test_the_commanded_speed_goes_down_to_a_wall_without_a_change_of_sign_or_a_sway() -> None:
    run = Run(wall_ahead(3.0))
    run.drive(always(2.0), 4.0)
    speeds = np.array([d.speed_mps for d in run.decisions])
    top = int(np.argmax(speeds))
    assert (speeds >= 0.0).all()
    assert np.maximum(np.diff(speeds[top:]), 0.0).sum() <= 0.4  # the noise of the scan
    assert {d.yaw_rate_radps for d in run.decisions[-25:]} == {0.0}


@pytest.mark.parametrize("seed", range(3))
def test_the_robot_drives_through_a_gap_of_65_cm(seed: int) -> None:
    world = World(walls=np.array([[2.0, 0.325, 2, 5], [2, -0.325, 2, -5], [6, -5, 6, 5], [-2, -5, -2, 5]]))
    run = Run(world, seed=seed)
    run.drive(towards(5.0, 0.0, 1.0), 5.0)
    assert run.pose[0] > 3.5
    assert run.clearance_moving_m > 0.02


def test_the_robot_drives_along_a_corridor_of_70_cm_at_full_speed() -> None:
    world = World(walls=np.array([[-2.0, 0.35, 12, 0.35], [-2, -0.35, 12, -0.35], [-2, -0.35, -2, 0.35]]))
    run = Run(world)
    run.drive(towards(20.0, 0.0, 2.0), 4.0)
    assert run.pose[0] > 6.5


def test_a_robot_near_a_wall_backs_off_and_turns_away() -> None:
    run = Run(wall_ahead(1.5))
    run.drive(always(1.0), 4.0)
    assert run.pose[0] > 1.15
    run.drive(always(1.0), 1.0)
    assert run.distance_m < 1.25
    run.drive(always(-0.3), 1.0)
    assert run.pose[0] < 1.05
    run.drive(always(0.0, 1.0), 2.5)
    assert run.pose[2] > 1.5
    run.drive(always(1.0), 2.0)
    assert run.distance_m > 1.0
    assert run.clearance_moving_m > 0.0


def test_turning_beside_a_wall_within_the_margin_goes_only_where_no_corner_nears_it() -> None:
    run = Run(World(walls=np.array([[-5.0, 0.235, 5, 0.235], [-5, -3, 5, -3]])), noise_m=0.0)
    run.drive(always(0.0, 1.0), 1.0)
    assert abs(run.pose[2]) < 0.01
    run.drive(always(0.5), 2.0)  # along the wall: no nearer to it, but to more of it: not through
    assert run.clearance_moving_m > 0.015


def test_a_command_into_an_obstacle_is_replaced_by_one_that_slows_and_keeps_the_side() -> None:
    run = Run(World(discs=np.array([[2.0, 0.0, 0.1]]), walls=ROOM))
    run.drive(always(1.0, 0.1), 4.0)
    assert any(d.reason == Reason.CLEARANCE and d.level == Level.LIMITED for d in run.decisions)
    assert run.clearance_moving_m > 0.0
    assert min(d.yaw_rate_radps for d in run.decisions) > -2.0


def test_every_change_of_the_asked_command_has_a_reason_and_numbers() -> None:
    run = Run(World(discs=np.array([[1.5, 0.2, 0.1], [2.0, -0.8, 0.2]]), walls=ROOM))
    asked = (1.7, 0.4)
    run.drive(always(*asked), 3.0)
    for decision in run.decisions:
        if (decision.speed_mps, decision.yaw_rate_radps) != asked:
            assert decision.level > Level.DRIVE
            assert decision.reason != Reason.NONE
            assert decision.numbers


# -- unseen space ----------------------------------------------------------------------------------------------------


def test_the_robot_reverses_where_it_came_from() -> None:
    run = Run(HALL)
    run.drive(always(0.8), 2.0)
    start = run.pose[0]
    run.drive(always(-0.4), 2.5)
    assert run.pose[0] < start - 0.5


def test_the_robot_does_not_reverse_into_space_that_it_never_saw() -> None:
    run = Run(HALL)
    run.drive(always(-0.4), 3.0)
    assert -0.12 < run.pose[0] < 0.0  # the disc assumed free at activation: 0.43 m about the origin
    assert run.decisions[-1].reason == Reason.NO_SAFE_COMMAND
    assert any(d.reason == Reason.UNSEEN_SPACE for d in run.decisions)


def test_no_robot_however_gentle_creeps_into_space_that_it_never_saw_or_up_to_a_wall() -> None:
    gentle = replace(JACKAL, limits=replace(LIMITS, jerk_mps3_max=40.0, yaw_jerk_radps3_max=120.0))
    run = Run(HALL, robot=gentle)
    run.drive(always(-0.4), 1.5)
    rest = run.pose
    run.drive(always(-0.4), 2.0)
    assert run.pose[0] > rest[0] - 0.002
    assert run.pose[0] > -0.13
    run = Run(HALL)
    run.drive(always(-0.3), 1.5)
    run.drive(always(-0.015), 3.0)  # slower than what counts as a motion
    assert run.pose[0] > -0.13


def test_the_robot_remembers_an_obstacle_that_it_no_longer_sees() -> None:
    world = World(discs=np.array([[1.2, 0.0, 0.1]]), walls=ROOM)
    run = Run(world, pose=(0.0, 0.0, 0.0))
    run.drive(always(0.0, 2.0), math.pi / 2.0 + 0.12)  # turn about: the disc is behind
    run.drive(always(0.0, 0.0), 0.5)
    assert abs(math.remainder(run.pose[2] - math.pi, math.tau)) < 0.3
    run.drive(always(-0.5), 4.0)
    assert 0.5 < run.pose[0] < 0.84  # reversed 0.5 m and more, and stopped before the disc
    assert run.clearance_moving_m > 0.0


def test_a_robot_turns_on_the_spot_in_the_open() -> None:
    run = Run(HALL)
    run.drive(always(0.0, 2.0), 2.0)
    assert run.pose[2] > 3.0
    assert run.decisions[-1].level == Level.DRIVE


def test_after_a_rest_the_robot_turns_away_unless_unseen_space_is_said_to_fill() -> None:
    for speed, moves in ((0.0, True), (0.5, False)):
        run = Run(HALL, replace(DYNAMIC, unseen_speed_mps_max=speed))
        run.drive(always(0.0), 3.0)
        run.drive(always(0.5, 1.0), 2.0)
        assert (run.pose[2] > 1.0) == moves


def test_invalid_beams_are_unseen_and_single_ones_are_bridged() -> None:
    run = Run(HALL, dropout=0.02)
    run.drive(always(1.0), 2.0)
    assert run.distance_m > 1.5
    blind = Run(HALL, dropout=0.9)
    blind.drive(always(1.0), 2.0)
    assert blind.distance_m < 0.5


# -- stops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [("policy",), ("scan",), ("odom",), ("scan", "odom")], ids=" ".join)
@pytest.mark.parametrize("late_ticks", range(0, 20, 3))
def test_from_2_mps_the_robot_rests_within_a_second_and_120_cm_of_any_silence(
    silent: tuple[str, ...], late_ticks: int
) -> None:
    run = Run(HALL)
    run.drive(always(2.0), 2.0 + late_ticks * TICK_S)
    assert run.twist[0] > 1.9
    run.silent = set(silent)
    before = run.distance_m
    run.drive(always(2.0), 1.0)
    assert abs(run.twist[0]) < 0.02
    assert run.distance_m - before < 1.2
    assert run.decisions[-1].reason in (Reason.COMMAND_STALE, Reason.SCAN_STALE, Reason.ODOM_STALE)


def test_a_stop_brakes_at_the_promised_rate_along_the_same_arc() -> None:
    twist, elapsed = (2.0, 1.0), 0.02
    speeds = [twist]
    while twist != (0.0, 0.0):
        twist = stop_step(twist, elapsed, LIMITS)
        speeds.append(twist)
    assert len(speeds) - 1 == math.ceil(2.0 / (LIMITS.brake_mps2 * elapsed))
    assert all(w == pytest.approx(0.5 * v) for v, w in speeds)
    assert np.diff([v for v, _ in speeds[:-1]]) == pytest.approx(-LIMITS.brake_mps2 * elapsed)


def test_turning_stops_at_the_turning_rate() -> None:
    assert stop_step((0.0, 2.0), 0.02, LIMITS) == pytest.approx((0.0, 2.0 - LIMITS.yaw_accel_radps2_max * 0.02))


def test_the_same_history_gives_the_same_decisions() -> None:
    def driven() -> list[object]:
        run = Run(World(discs=np.array([[1.5, 0.2, 0.1], [2.0, -0.8, 0.2]]), walls=ROOM), dropout=0.02)
        run.drive(always(1.5, 0.3), 3.0)
        return list(run.decisions)

    assert driven() == driven()


def test_an_obstacle_put_in_the_way_stops_the_robot() -> None:
    run = Run(HALL)
    run.drive(always(1.0), 2.0)
    x = run.pose[0]
    run.world = World(discs=np.array([[x + 1.2, 0.0, 0.15]]), walls=HALL.walls)
    run.drive(always(1.0), 2.0)
    assert run.clearance_moving_m > 0.0
    assert abs(run.twist[0]) < 0.02


@pytest.mark.parametrize("offset_m", [0.0, 0.25])
def test_an_obstacle_that_approaches_at_the_bound_meets_a_robot_at_rest(offset_m: float) -> None:
    run = Run(HALL, DYNAMIC)
    obstacle = 5.0

    def approach(run: Run) -> None:
        run.world = World(discs=np.array([[obstacle, offset_m, 0.2]]), walls=HALL.walls)

    while obstacle > -0.5:
        approach(run)
        run.drive(always(1.5), TICK_S)
        obstacle -= 0.5 * TICK_S
        if run.world.clearance_m(*run.pose, JACKAL.footprint) <= 0.0:
            break
    assert abs(run.twist[0]) < 0.02
    assert run.clearance_moving_m > 0.0


def test_tightening_the_margin_never_lets_the_robot_nearer() -> None:
    rest: list[float] = []
    for margin in (0.0, 0.05, 0.2):
        run = Run(wall_ahead(2.0), replace(STATIC, margin_m=margin))
        run.drive(always(1.5), 3.0)
        rest.append(run.clearance_moving_m)
    assert rest == sorted(rest)
    assert rest[2] > 0.19


def test_other_shapes_and_slow_accelerations_drive_too() -> None:
    slow = replace(JACKAL, limits=replace(JACKAL.limits, accel_mps2_max=0.2, yaw_accel_radps2_max=1.0))
    run = Run(HALL, robot=slow)
    run.drive(always(1.0, 0.2), 3.0)
    assert run.twist[0] > 0.5
    assert run.now_ns > NS


def test_a_robot_that_dithers_for_long_still_knows_the_way_it_came() -> None:
    run = Run(HALL)
    run.drive(always(0.8), 3.0)
    before = run.pose[0]
    for turn in (0.9, -0.9) * 20:  # each of the 40 turns is worth a key-frame, and none of them looks behind
        run.drive(always(0.0, turn), 0.5)
    run.drive(always(-0.4), 4.0)
    assert run.pose[0] < before - 1.1


def test_no_loop_is_compiled_while_a_robot_drives() -> None:
    names = "beyond_each bridged keep_clear near_discs nearest_disc placed_returns roll_out_poses"
    names += " scan_shift stood_at swept_seen_free thinned"
    loops = [lidar._read, lidar._place, *(getattr(guard_loops, name) for name in names.split())]
    for robot in (JACKAL, load_robot("burger")):
        run = Run(wall_ahead(1.0), replace(DYNAMIC, fallback_after_s=0.5), robot, dropout=0.02)
        assert [len(loop.signatures) for loop in loops] == [1] * len(loops)
        run.drive(lambda run: (0.2 if run.tick < 800 else -0.2, 0.5), 6.0)
        assert [len(loop.signatures) for loop in loops] == [1] * len(loops)


def test_a_point_that_is_no_number_was_never_looked_at() -> None:
    eye, free_m = np.array([0.0, 0.0, 0.0, 0.1]), np.full(63, 5.0, np.float32)
    assert guard_loops.beyond(1.0, 0.0, eye, free_m) == pytest.approx(4.0)
    assert guard_loops.beyond(1.0, -1e-12, eye, free_m) == pytest.approx(4.0)
    assert guard_loops.beyond(math.nan, 0.0, eye, free_m) == -math.inf
    assert guard_loops.beyond(0.0, 1.0, eye, free_m[:3]) == -math.inf


@pytest.mark.parametrize(("gap_m", "passes"), [(0.01, True), (-0.01, False)])
def test_where_nothing_of_the_margin_is_left_no_command_goes_nearer_even_if_the_stop_does(
    gap_m: float, passes: bool
) -> None:
    outline = Outline.of(JACKAL.footprint)
    discs = np.array([[JACKAL.footprint[:, 0].max() + gap_m, 0.0, 0.0]])
    creep, stop = np.zeros((1, 2, 4)), np.zeros((2, 4))
    creep[0, 1, 0], stop[1, 0] = 0.001, 0.003  # both go on, the stop (too fast still) farther
    slow, keeps, planes = np.zeros(1), np.array([0.02]), outline.planes
    clear = guard_loops.keep_clear(creep, np.array([2]), keeps, 0.0, 0.0, slow, stop, discs, planes, outline.radius_m)
    assert clear.tolist() == [passes]


@pytest.mark.parametrize(
    ("inside_m", "aside_m", "passes"),
    [
        (0.02, 0.0, False),  # along it
        (0.02, 0.008, False),
        (0.02, 0.012, True),  # away from it by more than a tenth of the way
        (0.02, -0.002, False),
        (0.008, 0.0, True),  # that may be the lidar's noise
        (0.012, 0.0, False),
    ],
)
def test_what_lies_inside_the_outline_is_only_driven_away_from(inside_m: float, aside_m: float, passes: bool) -> None:
    outline = Outline.of(JACKAL.footprint)
    discs = np.array([[0.1, JACKAL.footprint[:, 1].max() - inside_m, 0.0]])
    along, stop = np.zeros((1, 2, 4)), np.zeros((1, 4))
    along[0, 1, 0], along[0, 1, 1] = 0.1, -aside_m
    slow, keeps, planes = np.zeros(1), np.array([0.02]), outline.planes
    clear = guard_loops.keep_clear(along, np.array([2]), keeps, 0.0, 0.0, slow, stop, discs, planes, outline.radius_m)
    assert clear.tolist() == [passes]
