"""Laws of the guard's decision, on one wall ahead: cheap enough to be tried often, and to hunt mutants with."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dsac_robot.core.blackbox import text_of
from dsac_robot.core.guard import GuardModel, GuardState, initial_state, step
from dsac_robot.core.guard_check import Checker, Situation, candidates
from dsac_robot.core.guard_memory import Memory, View
from dsac_robot.core.guard_motion import stop_step
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams, Verdict
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Odom, Scan, ns
from tests.core.guard_world import JACKAL, STATIC, Run, World
from tests.core.test_guard_properties import inputs

SPEEDS = (0.4, 1.0, 1.5, 2.0)
PERIOD = ns(STATIC.period_s)
FRONT_M = float(JACKAL.footprint[:, 0].max())
DYNAMIC = replace(STATIC, obstacle_speed_mps_max=0.5)


def wall_scan(stamp_ns: int, gap_m: float) -> Scan:
    """A wall across, ``gap_m`` before the bumper; all else far."""
    lidar = JACKAL.lidar
    with np.errstate(divide="ignore"):
        ranges = (gap_m + FRONT_M - lidar.x_m) / np.cos(lidar.angles_rad)
    ranges = np.where((ranges > 0.0) & (ranges < 8.0), ranges, 8.0 + 1e-3 * (stamp_ns % 97))
    return Scan(stamp_ns, ranges.astype(np.float32), lidar.angle_min_rad, lidar.angle_increment_rad, lidar.frame_id)


@cache
def driving(profile: int, speed_mps: float) -> tuple[GuardState, int, float]:
    """A guard that has let the robot come to ``speed_mps``, the time of its next step and where the robot is then."""
    model, state, now, x_m = MODELS[profile], initial_state(), NS, 0.0
    for _ in range(12 + math.ceil(speed_mps / 0.08)):
        far = Odom.from_yaw(now, x_m, 0.0, 0.0, speed_mps, 0.0)
        state, _ = step(state, GuardInput(now, wall_scan(now, 9.0), far, Command(now, speed_mps, 0.0)), model)
        x_m, now = x_m + speed_mps * STATIC.period_s, now + PERIOD
    return state, now, x_m


def approach(profile: int, gap_m: float, speed_mps: float) -> tuple[GuardState, GuardInput]:
    """That guard, and the input of its next step, with a wall ahead."""
    state, now, x_m = driving(profile, speed_mps)
    return state, GuardInput(
        now, wall_scan(now, gap_m), Odom.from_yaw(now, x_m, 0.0, 0.0, speed_mps, 0.0), Command(now, speed_mps, 0.0)
    )


def decided(params: GuardParams, gap_m: float, speed_mps: float, robot: Robot = JACKAL) -> Decision:
    """What a guard with ``params`` does before a wall, after the same history as any other."""
    state, inp = approach(0, gap_m, speed_mps)
    return step(state, inp, GuardModel.of(params, robot))[1]


MODELS = (GuardModel.of(STATIC, JACKAL), GuardModel.of(DYNAMIC, JACKAL))
TIGHTER = {
    "margin": (replace(STATIC, margin_m=0.3), JACKAL),
    "obstacles": (DYNAMIC, JACKAL),
    "reaction": (replace(STATIC, reaction_s=0.4), JACKAL),
    "speed": (STATIC, replace(JACKAL, limits=replace(JACKAL.limits, speed_mps_max=0.8))),
}


@settings(max_examples=15, deadline=None)
@given(gap_m=st.floats(0.05, 2.5), speed_mps=st.sampled_from(SPEEDS), what=st.sampled_from(sorted(TIGHTER)))
def test_tightening_a_limit_never_raises_the_speed(gap_m: float, speed_mps: float, what: str) -> None:
    params, robot = TIGHTER[what]
    assert decided(params, gap_m, speed_mps, robot).speed_mps <= decided(STATIC, gap_m, speed_mps).speed_mps + 1e-9


@settings(max_examples=12, deadline=None)
@given(speed_mps=st.sampled_from(SPEEDS), profile=st.sampled_from([0, 1]))
def test_the_braking_distance_is_honoured_and_not_wasted(speed_mps: float, profile: int) -> None:
    """Free where the stop that is reported ends before the margin, and not where it ends behind it."""
    model = MODELS[profile]
    state, inp = approach(profile, 8.0, speed_mps)
    free = step(state, inp, model)[1]
    assert free.level == Level.DRIVE
    reach = dict(free.numbers)["stop_distance_m"]
    limits, actuation = JACKAL.limits, JACKAL.actuation
    late_s = actuation.action_delay_s + actuation.response_delay_s + model.checker.hold_s
    ideal = speed_mps * (late_s + actuation.motor_time_constant_s) + speed_mps**2 / (2.0 * limits.brake_mps2)
    assert reach == pytest.approx(ideal, abs=0.02 + 0.03 * speed_mps)
    keeps = STATIC.margin_m + model.params.obstacle_speed_mps_max * (late_s + speed_mps / limits.brake_mps2 + 0.3)
    assert step(state, replace(inp, scan=wall_scan(inp.now_ns, reach + keeps + 0.03)), model)[1].level == Level.DRIVE
    near = step(state, replace(inp, scan=wall_scan(inp.now_ns, reach + STATIC.margin_m - 0.01)), model)[1]
    assert near.reason in (Reason.CLEARANCE, Reason.NO_SAFE_COMMAND)
    assert near.speed_mps < speed_mps


@settings(max_examples=40, deadline=None)
@given(history=st.lists(inputs, min_size=1, max_size=5))
def test_the_same_history_gives_the_same_decisions_to_the_bit(history: list[GuardInput]) -> None:
    def run() -> list[str]:
        state, said = initial_state(), []
        for inp in history:
            state, decision = step(state, inp, MODELS[1])
            said.append(text_of(decision))
        return said

    assert run() == run()


@settings(max_examples=5, deadline=None)
@example(seed=32403)  # the ramp ended a last digit beside what was asked
@given(seed=st.integers(0, 10**6))
def test_every_intervention_has_a_reason_and_every_reason_its_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    discs = np.column_stack([rng.uniform(-2.5, 2.5, (20, 2)), np.full(20, 0.1)])
    asked = float(rng.uniform(0.3, 2.0)), float(rng.uniform(-1.5, 1.5))
    run = Run(World(discs=discs[np.hypot(*discs[:, :2].T) > 0.6]), replace(STATIC, blank_is_fault=False), seed=seed)
    run.drive(lambda run: asked, 2.0)
    for decision in run.decisions:
        same = (decision.speed_mps, decision.yaw_rate_radps) == asked
        assert same == (decision.reason == Reason.NONE)
        assert (decision.level == Level.DRIVE) == same
        assert same or decision.numbers
        assert all(math.isfinite(value) for _, value in decision.numbers)


@pytest.mark.parametrize("speed_mps", [0.2, 1.0, 2.0])
def test_drive_commands_obey_acceleration_and_jerk_and_stops_brake_at_once(speed_mps: float) -> None:
    run = Run(World(), replace(STATIC, blank_is_fault=False))
    run.drive(lambda run: (speed_mps, 0.5) if run.tick < 200 else (0.1, -0.5), 2.0)
    twists = np.array([(0.0, 0.0), *((d.speed_mps, d.yaw_rate_radps) for d in run.decisions)])
    rates = np.diff(twists, axis=0) / STATIC.period_s
    limits = JACKAL.limits
    assert (np.abs(rates) <= [limits.accel_mps2_max + 1e-6, limits.yaw_accel_radps2_max + 1e-6]).all()
    jerks = np.diff(np.vstack([np.zeros((1, 2)), rates]), axis=0) / STATIC.period_s
    assert (np.abs(jerks) <= [limits.jerk_mps3_max + 1e-3, limits.yaw_jerk_radps3_max + 1e-3]).all()
    moving = run.decisions[-1]
    run.inp = replace(run.inp, stop_requested=True)
    run.drive(lambda run: (0.1, -0.5), 0.02)
    part = run.decisions[-1].yaw_rate_radps / moving.yaw_rate_radps  # along the same arc, at the full rate of a stop
    assert part == pytest.approx(1.0 - limits.yaw_accel_radps2_max * STATIC.period_s / 0.5)
    assert run.decisions[-1].speed_mps == pytest.approx(part * moving.speed_mps)


def test_after_a_stop_the_acceleration_builds_up_anew() -> None:
    run = Run(World(), replace(STATIC, blank_is_fault=False, min_dwell_s=0.0))
    run.drive(lambda run: (2.0, 0.0), 0.14)
    before = run.decisions[-1].speed_mps
    run.inp = replace(run.inp, fault=Reason.ODOM_WRONG_FRAME)
    run.drive(lambda run: (2.0, 0.0), 0.02)
    stopped = run.decisions[-1].speed_mps
    assert stopped == pytest.approx(before - JACKAL.limits.brake_mps2 * 0.02)
    run.inp = replace(run.inp, fault=Reason.NONE)
    while run.decisions[-1].level == Level.STOP:  # a stop goes down to zero, though its fault is gone
        run.drive(lambda run: (2.0, 0.0), 0.02)
    assert run.decisions[-2].speed_mps == 0.0
    assert run.decisions[-1].speed_mps == pytest.approx(JACKAL.limits.jerk_mps3_max * 0.02**2)


@pytest.mark.parametrize(("level", "limit"), [(OodLevel.OK, 1.0), (OodLevel.CAUTION, 0.5)])
def test_caution_and_docking_bind_at_the_lower_of_their_speeds(level: OodLevel, limit: float) -> None:
    model = GuardModel.of(replace(STATIC, require_verdict=True), JACKAL)
    state, now, decision, x, yaw = initial_state(), NS, None, 0.0, 0.0
    for k in range(60):
        command = Command(now, 1.0, 0.4)
        verdict = Verdict(now, now, level, score=2.0, caution_threshold=1.0)
        dock = True if k == 30 else None
        speed, turn = (decision.speed_mps, decision.yaw_rate_radps) if decision else (0.0, 0.0)
        x, yaw = x + speed * 0.02, yaw + turn * 0.02
        inp = GuardInput(now, wall_scan(now, 9.0), Odom.from_yaw(now, x, 0.0, yaw, speed, turn), command, verdict)
        state, decision = step(state, replace(inp, dock=dock), model)
        if k == 29:
            assert decision.speed_mps == pytest.approx(limit)
            assert decision.reason == (Reason.OOD_CAUTION if level == OodLevel.CAUTION else Reason.NONE)
        now += PERIOD
    assert decision.speed_mps == pytest.approx(model.params.docking_speed_mps)
    assert decision.yaw_rate_radps == pytest.approx(0.4 * model.params.docking_speed_mps)
    assert dict(decision.numbers)["limit_mps"] == model.params.docking_speed_mps


@pytest.mark.parametrize(("moved_m", "frozen"), [(0.31, True), (0.29, False)])
def test_at_speed_a_frozen_scan_is_noticed_by_the_way_and_not_by_the_time(moved_m: float, frozen: bool) -> None:
    state, inp = approach(0, 8.0, 2.0)
    same, x_m = inp.scan, inp.odom.x_m
    steps = 10
    for k in range(steps + 1):
        now = inp.now_ns + k * PERIOD
        odom = Odom.from_yaw(now, x_m + moved_m * k / steps, 0.0, 0.0, 2.0, 0.0)
        given = GuardInput(now, replace(same, stamp_ns=now), odom, Command(now, 2.0, 0.0))
        state, decision = step(state, given, MODELS[0])
    assert (decision.reason == Reason.SCAN_FROZEN) == frozen


@pytest.mark.parametrize(("seconds", "frozen"), [(0.2, True), (0.14, False)])
def test_at_speed_frozen_odometry_is_noticed_before_its_time(seconds: float, frozen: bool) -> None:
    state, inp = approach(0, 8.0, 2.0)
    for k in range(round(seconds / STATIC.period_s) + 1):
        now = inp.now_ns + k * PERIOD
        given = GuardInput(now, wall_scan(now, 8.0), replace(inp.odom, stamp_ns=now), Command(now, 2.0, 0.0))
        state, decision = step(state, given, MODELS[0])
    assert (decision.reason == Reason.ODOM_FROZEN) == frozen


def test_a_scan_that_is_late_is_not_frozen_however_far_the_robot_went_meanwhile() -> None:
    patient = GuardModel.of(replace(STATIC, scan_timeout_s=1.0), JACKAL)
    state, inp = approach(0, 8.0, 2.0)
    for k in range(20):
        now = inp.now_ns + k * PERIOD
        odom = Odom.from_yaw(now, inp.odom.x_m + 0.04 * k, 0.0, 0.0, 2.0, 0.0)
        state, decision = step(state, replace(inp, now_ns=now, odom=odom, command=Command(now, 2.0, 0.0)), patient)
        assert decision.reason != Reason.SCAN_FROZEN


@pytest.mark.parametrize(
    ("step_s", "jumps"),
    [(-STATIC.future_tolerance_s, False), (-STATIC.future_tolerance_s - 1e-6, True),
     (STATIC.clock_jump_s, False), (STATIC.clock_jump_s + 1e-6, True)],
)  # fmt: skip
def test_a_clock_jumps_where_a_step_is_longer_than_the_limit_or_goes_back_by_more_than_stamps_may(
    step_s: float, jumps: bool
) -> None:
    state, now, _ = driving(0, 0.4)
    decision = step(state, GuardInput(now - PERIOD + ns(step_s)), MODELS[0])[1]
    assert (decision.reason == Reason.CLOCK_JUMP) == jumps


def test_in_a_short_time_a_small_turn_may_be_sent_instead_too() -> None:
    view = View(0, (0.0, 0.0, 0.0), 0.0, np.zeros((0, 2)), np.zeros(0, np.float32))
    here = 0, 0, (0.0, 0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0.005, np.zeros((0, 2)), view, Memory()
    commands, _ = candidates((0.0, 0.5), (0.0, 0.02), Situation(Checker.of(STATIC, JACKAL), *here), JACKAL)
    assert 0.02 in commands[:, 1]


@settings(max_examples=100, deadline=None)
@given(
    target=st.tuples(st.floats(-0.5, 2.0), st.floats(-2.0, 2.0)),
    last=st.tuples(st.floats(-0.5, 2.0), st.floats(-2.0, 2.0)),
)
def test_what_may_be_sent_instead_is_no_faster_than_asked_nor_slower_than_the_stop_and_within_the_rate(
    target: tuple[float, float], last: tuple[float, float]
) -> None:
    limits, period_s = JACKAL.limits, STATIC.period_s
    stop = stop_step(last, period_s, limits)
    limited = (max(stop[0], min(target[0], last[0] + 0.08)) if last[0] >= 0.0 else target[0]), target[1]
    view = View(0, (0.0, 0.0, 0.0), 0.0, np.zeros((0, 2)), np.zeros(0, np.float32))
    here = 0, 0, (0.0, 0.0, 0.0), last, last, period_s, np.zeros((0, 2)), view, Memory()
    at = Situation(Checker.of(STATIC, JACKAL), *here)
    commands, costs = candidates(target, limited, at, JACKAL)
    assert len(commands) == len(costs)
    if len(commands) == 0:
        return
    low, high = sorted((stop[0], limited[0]))
    assert low - 1e-9 <= commands[:, 0].min() and commands[:, 0].max() <= high + 1e-9
    assert np.abs(commands[:, 1] - last[1]).max() <= limits.yaw_accel_radps2_max * period_s + 1e-9
    assert np.abs(commands[:, 1]).max() <= limits.yaw_rate_radps_max + 1e-9
    spot = np.abs(commands[:, 0]) <= 0.1 * limits.accel_mps2_max * period_s
    assert (commands[spot, 1] * target[1] > 0.0).all(), "on the spot it turns as asked or not at all"
    assert (np.abs(commands[spot, 1]) <= abs(target[1])).all()
