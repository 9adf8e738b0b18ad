"""Each input fault stops with its own reason, just beyond its limit and not at it; latches hold until reset."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.guard import GuardModel, GuardState, initial_state, step
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams, Verdict
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, Odom, Scan, ns

JACKAL = load_robot("jackal")
LIDAR = JACKAL.lidar
PARAMS = GuardParams()
MODEL = GuardModel.of(PARAMS, JACKAL)
T0 = 100 * NS
PERIOD = ns(PARAMS.period_s)


def scan_at(stamp_ns: int, range_m: float = 8.0) -> Scan:
    ranges = np.full(LIDAR.beams, range_m, np.float32)
    ranges[0] += np.float32((stamp_ns % NS) / NS)  # no two scans are alike
    return Scan(stamp_ns, ranges, LIDAR.angle_min_rad, LIDAR.angle_increment_rad, LIDAR.frame_id)


def healthy(now_ns: int, speed_mps: float = 0.5) -> GuardInput:
    return GuardInput(
        now_ns,
        scan=scan_at(now_ns),
        odom=Odom.from_yaw(now_ns, 0.5 * (now_ns - T0) / NS, 0.0, 0.0, 0.5, 0.0),
        command=Command(now_ns, speed_mps, 0.0),
        verdict=Verdict(now_ns, now_ns, OodLevel.OK),
    )


def warmed_up(model: GuardModel = MODEL) -> tuple[GuardState, int]:
    """A guard that drives, and the time of its next step."""
    state, now = initial_state(), T0
    for _ in range(10):
        state, decision = step(state, healthy(now), model)
        now += PERIOD
    assert decision.level <= Level.LIMITED
    return state, now


def decide(change: Callable[[GuardInput], GuardInput], model: GuardModel = MODEL) -> Decision:
    state, now = warmed_up(model)
    return step(state, change(healthy(now)), model)[1]


def no_ranges(value: float) -> Callable[[GuardInput], GuardInput]:
    ranges = np.full(LIDAR.beams, value, np.float32)
    return lambda i: replace(i, scan=replace(scan_at(i.now_ns), ranges_m=ranges))


def odom(**changes: float) -> Callable[[GuardInput], GuardInput]:
    return lambda i: replace(i, odom=replace(i.odom, **changes))


def command(speed: float, turn: float = 0.0) -> Callable[[GuardInput], GuardInput]:
    return lambda i: replace(i, command=Command(i.now_ns, speed, turn))


def stamped(field: str, age_s: float) -> Callable[[GuardInput], GuardInput]:
    return lambda i: replace(i, **{field: replace(getattr(i, field), stamp_ns=i.now_ns - ns(age_s))})


def scan(**changes: object) -> Callable[[GuardInput], GuardInput]:
    return lambda i: replace(i, scan=replace(scan_at(i.now_ns), **changes))


def half_blind(valid: int) -> Callable[[GuardInput], GuardInput]:
    ranges = np.where(np.arange(LIDAR.beams) < valid, 8.0, np.nan).astype(np.float32)
    return scan(ranges_m=ranges)


FAULTS: list[tuple[Reason, Callable[[GuardInput], GuardInput]]] = [
    (Reason.NOT_ENABLED, lambda i: replace(i, enabled=False)),
    (Reason.COMMAND_MISSING, lambda i: replace(i, command=None)),
    (Reason.COMMAND_STALE, stamped("command", PARAMS.command_timeout_s + 0.001)),
    (Reason.COMMAND_NOT_FINITE, command(math.nan)),
    (Reason.COMMAND_NOT_FINITE, command(0.5, -math.inf)),
    (Reason.COMMAND_OUT_OF_RANGE, command(2.01)),
    (Reason.COMMAND_OUT_OF_RANGE, command(-0.51)),
    (Reason.COMMAND_OUT_OF_RANGE, command(0.0, 2.01)),
    (Reason.COMMAND_FROM_FUTURE, stamped("command", -PARAMS.future_tolerance_s - 0.001)),
    (Reason.COMMAND_SECOND_PUBLISHER, lambda i: replace(i, fault=Reason.COMMAND_SECOND_PUBLISHER)),
    (Reason.SCAN_MISSING, lambda i: replace(i, scan=None)),
    (Reason.SCAN_STALE, stamped("scan", PARAMS.scan_timeout_s + 0.001)),
    (Reason.SCAN_FROM_FUTURE, stamped("scan", -PARAMS.future_tolerance_s - 0.001)),
    (Reason.SCAN_ALL_INVALID, no_ranges(math.nan)),
    (Reason.SCAN_ALL_INVALID, no_ranges(0.0)),
    (Reason.SCAN_BLANK, no_ranges(math.inf)),
    (Reason.SCAN_BLANK, no_ranges(LIDAR.range_max_m)),
    (Reason.SCAN_WRONG_COUNT, scan(ranges_m=np.full(719, 5.0, np.float32))),
    (Reason.SCAN_WRONG_COUNT, scan(ranges_m=np.zeros(0, np.float32))),
    (Reason.SCAN_WRONG_FRAME, scan(frame_id="camera")),
    (Reason.SCAN_WRONG_GEOMETRY, scan(angle_min_rad=LIDAR.angle_min_rad + 0.003)),
    (Reason.SCAN_WRONG_GEOMETRY, scan(angle_increment_rad=LIDAR.angle_increment_rad * 1.001)),
    (Reason.SCAN_WRONG_GEOMETRY, scan(angle_min_rad=math.nan)),
    (Reason.SCAN_HALF_BLIND, half_blind(LIDAR.beams // 2 - 1)),
    (Reason.SCAN_OUT_OF_ORDER, stamped("scan", PARAMS.period_s + 0.001)),
    (Reason.SCAN_OUT_OF_ORDER, stamped("scan", PARAMS.period_s)),
    (Reason.ODOM_MISSING, lambda i: replace(i, odom=None)),
    (Reason.ODOM_STALE, stamped("odom", PARAMS.odom_timeout_s + 0.001)),
    (Reason.ODOM_FROM_FUTURE, stamped("odom", -PARAMS.future_tolerance_s - 0.001)),
    (Reason.ODOM_NOT_FINITE, odom(speed_mps=math.nan)),
    (Reason.ODOM_NOT_FINITE, odom(x_m=math.inf)),
    (Reason.ODOM_NOT_FINITE, odom(x_m=1e300)),
    (Reason.ODOM_NOT_FINITE, odom(qz=0.0, qw=0.0)),
    (Reason.ODOM_JUMP, odom(x_m=0.27)),
    (Reason.ODOM_JUMP, odom(qz=math.sin(0.15), qw=math.cos(0.15))),
    (Reason.ODOM_JUMP, odom(speed_mps=5.1)),
    (Reason.ODOM_WRONG_FRAME, lambda i: replace(i, fault=Reason.ODOM_WRONG_FRAME)),
    (Reason.OOD_ALARM, lambda i: replace(i, verdict=Verdict(i.now_ns, i.now_ns, OodLevel.ALARM))),
    (
        Reason.MONITOR_FAULT,
        lambda i: replace(i, verdict=Verdict(i.now_ns, i.now_ns, OodLevel.ALARM, Reason.MONITOR_FAULT)),
    ),
    (Reason.CLOCK_LOST, lambda i: replace(i, clock_lost=True)),
    (Reason.CLOCK_JUMP, lambda i: healthy(i.now_ns + ns(PARAMS.clock_jump_s))),
    (Reason.LOOP_OVERRUN, lambda i: healthy(i.now_ns + ns(JACKAL.actuation.command_timeout_s))),
    (Reason.LOOP_OVERRUN, lambda i: healthy(i.now_ns + ns(PARAMS.clock_jump_s - PARAMS.period_s))),
    (Reason.CLOCK_JUMP, lambda i: healthy(i.now_ns - ns(0.06))),
]


@pytest.mark.parametrize(("reason", "change"), FAULTS, ids=[f"{r.name}-{n}" for n, (r, _) in enumerate(FAULTS)])
def test_a_faulty_input_stops_with_its_own_reason(reason: Reason, change: Callable[[GuardInput], GuardInput]) -> None:
    decision = decide(change)
    assert (decision.level, decision.reason) == (Level.STOP, reason)
    assert 0.0 <= decision.speed_mps < 0.5


HARMLESS: list[tuple[str, Callable[[GuardInput], GuardInput]]] = [
    ("command at its age limit", lambda i: replace(stamped("command", PARAMS.command_timeout_s)(i), verdict=None)),
    ("command at the limits", command(2.0, -2.0)),
    ("command a float32 digit beyond", command(2.0000002, 0.0)),
    ("command at the future tolerance", stamped("command", -PARAMS.future_tolerance_s)),
    ("scan at the future tolerance", stamped("scan", -PARAMS.future_tolerance_s)),
    ("scan angle in float32", scan(angle_min_rad=float(np.float32(LIDAR.angle_min_rad)))),
    ("odometry at its age limit", stamped("odom", PARAMS.odom_timeout_s)),
    ("odometry at the future tolerance", stamped("odom", -PARAMS.future_tolerance_s)),
    ("odometry that moved fast", odom(x_m=0.15)),
    ("odometry faster than the robot may be", odom(speed_mps=4.9)),
    ("clock late", lambda i: healthy(i.now_ns + ns(0.07 + PARAMS.late_s_max - PARAMS.period_s) - 1000)),
    ("clock slewed", lambda i: healthy(i.now_ns - ns(0.019))),
    ("scan half valid", lambda i: half_blind(LIDAR.beams // 2)(i)),
]


@pytest.mark.parametrize(
    ("asked", "broken"),
    [((2.5, 0.0), JACKAL.limits.speed_mps_max), ((-0.6, 0.0), JACKAL.limits.speed_mps_min), ((0.0, -3.0), 2.0)],
)
def test_a_command_out_of_range_names_the_limit_that_it_breaks(asked: tuple[float, float], broken: float) -> None:
    (_, value), (_, limit) = decide(command(*asked)).numbers
    assert value in asked
    assert limit == broken


@pytest.mark.parametrize(("name", "change"), HARMLESS, ids=[name for name, _ in HARMLESS])
def test_an_input_at_its_limit_does_not_stop(name: str, change: Callable[[GuardInput], GuardInput]) -> None:
    model = GuardModel.of(replace(PARAMS, require_verdict=False), JACKAL)
    assert decide(change, model).level <= Level.LIMITED, name


def test_a_scan_that_is_delivered_again_is_used_up_to_its_age_limit() -> None:
    state, now = warmed_up()
    last = healthy(now).scan
    for k in range(9):
        state, decision = step(state, replace(healthy(now), scan=replace(last) if k % 2 else last), MODEL)
        assert (decision.reason == Reason.SCAN_STALE) == (now - last.stamp_ns > ns(PARAMS.scan_timeout_s))
        now += PERIOD


@pytest.mark.parametrize(("speed", "seconds", "frozen"), [(0.5, 0.6, True), (0.5, 0.44, False), (0.05, 2.0, False)])
def test_odometry_that_stays_the_same_to_the_bit_while_driving_is_frozen_until_it_changes(
    speed: float, seconds: float, frozen: bool
) -> None:
    state, now = warmed_up()
    still, reasons = healthy(now).odom, []
    for _ in range(round(seconds / PARAMS.period_s)):
        inp = replace(healthy(now, speed), odom=replace(still, stamp_ns=now))
        state, decision = step(state, inp, MODEL)
        reasons.append(decision.reason)
        now += PERIOD
    assert (reasons[-1] == Reason.ODOM_FROZEN) == frozen
    for _ in range(100):  # at rest now, and frozen all the same
        state, decision = step(state, replace(healthy(now), odom=replace(still, stamp_ns=now)), MODEL)
        now += PERIOD
    assert decision.reason == Reason.ODOM_FROZEN
    for _ in range(30):
        state, decision = step(state, healthy(now), MODEL)
        now += PERIOD
    assert decision.level <= Level.LIMITED


def test_a_reset_frees_from_frozen_odometry() -> None:
    state, now = warmed_up()
    still = healthy(now).odom
    for _ in range(40):
        state, decision = step(state, replace(healthy(now), odom=replace(still, stamp_ns=now)), MODEL)
        now += PERIOD
    assert decision.reason == Reason.ODOM_FROZEN
    state, _ = step(state, replace(healthy(now), odom=replace(still, stamp_ns=now), reset_requested=True), MODEL)
    for _ in range(20):
        now += PERIOD
        state, decision = step(state, replace(healthy(now), odom=replace(still, stamp_ns=now)), MODEL)
    assert decision.level <= Level.LIMITED


def test_a_scan_with_one_return_is_no_fault_and_a_blank_one_is_none_on_open_ground() -> None:
    one = np.full(LIDAR.beams, np.inf, np.float32)
    one[300] = 5.0
    assert decide(scan(ranges_m=one)).level <= Level.LIMITED
    assert decide(no_ranges(math.inf), GuardModel.of(replace(PARAMS, blank_is_fault=False), JACKAL)).level <= 1


@pytest.mark.parametrize(
    ("moved_m", "seconds", "frozen"), [(0.06, 0.5, True), (0.04, 0.5, False), (0.06, 0.46, False), (0.0, 2.0, False)]
)
def test_a_scan_is_frozen_if_it_stays_the_same_for_so_long_while_the_robot_moved(
    moved_m: float, seconds: float, frozen: bool
) -> None:
    state, now = warmed_up()
    ranges, steps = scan_at(1).ranges_m, round(seconds / PARAMS.period_s)
    for k in range(steps + 1):
        inp = healthy(now, 0.1)
        moved = replace(inp.odom, x_m=0.1 + moved_m * k / steps, speed_mps=moved_m / seconds)
        inp = replace(inp, odom=moved, scan=replace(scan_at(now), ranges_m=ranges))
        state, decision = step(state, inp, MODEL)
        now += PERIOD
    assert (decision.reason == Reason.SCAN_FROZEN) == frozen


def test_a_command_without_its_verdict_is_not_used_and_the_last_judged_one_goes_on() -> None:
    state, now = warmed_up()
    judged = now - PERIOD
    for _ in range(7):  # 0.14 s: within ood_timeout_s
        inp = replace(healthy(now), command=Command(judged + PERIOD, -0.5, 1.0), verdict=Verdict(judged, judged, 0))
        state, decision = step(state, inp, MODEL)
        assert decision.level <= Level.LIMITED
        assert decision.speed_mps > 0.4
        now += PERIOD


def test_a_command_that_waits_for_its_verdict_too_long_stops() -> None:
    state, now = warmed_up()
    stamp, reasons = now, []
    for _ in range(10):
        inp = replace(
            healthy(now), command=Command(stamp, 0.5, 0.0), verdict=Verdict(stamp - PERIOD, stamp - PERIOD, 0)
        )
        state, decision = step(state, inp, MODEL)
        reasons.append(decision.reason)
        now += PERIOD
    assert Reason.VERDICT_MISSING not in reasons[:8]  # up to 0.14 s
    assert reasons[8] == Reason.VERDICT_MISSING  # 0.16 s


def test_a_dead_monitor_is_named_even_though_new_commands_come() -> None:
    state, now = warmed_up()
    verdict, command_ns, reasons = Verdict(now - PERIOD, now - PERIOD, OodLevel.OK), now, []
    for k in range(20):
        if k % 5 == 0:
            command_ns = now
        inp = replace(healthy(now), command=Command(command_ns, 0.5, 0.0), verdict=verdict)
        state, decision = step(state, inp, MODEL)
        if decision.level == Level.STOP:
            reasons.append((k, decision.reason))
        now += PERIOD
    assert reasons[0] == (8, Reason.VERDICT_MISSING)
    assert {reason for _, reason in reasons} == {Reason.VERDICT_MISSING}


def test_a_late_verdict_still_pairs_with_its_command() -> None:
    state, now = warmed_up()
    first = now
    state, _ = step(state, replace(healthy(now), command=Command(first, 0.3, 0.0), verdict=None), MODEL)
    now += PERIOD
    state, _ = step(state, replace(healthy(now), verdict=None), MODEL)
    now += PERIOD
    inp = replace(healthy(now), command=Command(now - PERIOD, 0.5, 0.0), verdict=Verdict(now, first, OodLevel.OK))
    state, decision = step(state, inp, MODEL)
    assert state.pairing.judged == Command(first, 0.3, 0.0)
    assert decision.level <= Level.LIMITED


def test_without_a_monitor_commands_are_used_directly() -> None:
    model = GuardModel.of(replace(PARAMS, require_verdict=False), JACKAL)
    assert decide(lambda i: replace(i, verdict=None), model).level <= Level.LIMITED


def test_caution_limits_the_speed_and_keeps_the_arc() -> None:
    state, now = warmed_up()
    for _ in range(50):
        inp = replace(healthy(now), command=Command(now, 2.0, 1.0), verdict=Verdict(now, now, OodLevel.CAUTION))
        state, decision = step(state, inp, MODEL)
        now += PERIOD
    assert (decision.level, decision.reason) == (Level.LIMITED, Reason.OOD_CAUTION)
    assert decision.speed_mps == pytest.approx(PARAMS.caution_speed_mps)
    assert decision.yaw_rate_radps == pytest.approx(0.5 * PARAMS.caution_speed_mps)


def test_a_stop_lasts_its_dwell_time_and_then_leaves_by_itself() -> None:
    state, now = warmed_up()
    state, _ = step(state, command(math.nan)(healthy(now)), MODEL)
    levels = []
    for _ in range(20):
        now += PERIOD
        state, decision = step(state, healthy(now), MODEL)
        levels.append(decision.level)
    stays = round(PARAMS.min_dwell_s / PARAMS.period_s) - 1
    assert levels[:stays] == [Level.STOP] * stays
    assert max(levels[stays:]) <= Level.LIMITED


def test_a_fault_that_comes_and_goes_is_one_stop() -> None:
    state, now = warmed_up()
    decisions = []
    for k in range(60):
        inp = healthy(now) if k % 3 else command(math.nan)(healthy(now))
        state, decision = step(state, inp, MODEL)
        decisions.append(decision)
        now += PERIOD
    assert {(d.level, d.reason) for d in decisions} == {(Level.STOP, Reason.COMMAND_NOT_FINITE)}
    assert decisions[-1].speed_mps == 0.0


@pytest.mark.parametrize(
    ("cause", "reason"), [({"contact": True}, Reason.CONTACT), ({"stop_requested": True}, Reason.OPERATOR_STOP)]
)
def test_contact_and_operator_stop_latch_until_reset_without_cause(cause: dict[str, bool], reason: Reason) -> None:
    state, now = warmed_up()
    script = [cause, {}, {**cause, "reset_requested": True}, {}, {"enabled": False}, {}]
    for events in script:
        state, decision = step(state, replace(healthy(now), **events), MODEL)
        assert (decision.level, decision.reason) == (Level.EMERGENCY, reason)
        now += PERIOD
    state, decision = step(state, replace(healthy(now), reset_requested=True), MODEL)
    assert decision.level <= Level.LIMITED


def test_contact_sends_zero_at_once_and_an_operator_stop_ramps() -> None:
    assert decide(lambda i: replace(i, contact=True)).speed_mps == 0.0
    assert 0.0 < decide(lambda i: replace(i, stop_requested=True)).speed_mps < 0.5


def test_contact_outranks_an_operator_stop_and_a_clock_jump_frees_no_latch() -> None:
    state, now = warmed_up()
    state, _ = step(state, replace(healthy(now), stop_requested=True), MODEL)
    state, decision = step(state, replace(healthy(now + PERIOD), contact=True), MODEL)
    assert decision.reason == Reason.CONTACT
    state, decision = step(state, healthy(now - 5 * NS), MODEL)
    assert (decision.level, decision.reason) == (Level.EMERGENCY, Reason.CONTACT)


def test_the_guard_recovers_from_a_clock_that_jumped_back() -> None:
    state, now = warmed_up()
    now -= 50 * NS
    for _ in range(20):
        state, decision = step(state, healthy(now), MODEL)
        now += PERIOD
    assert decision.level <= Level.LIMITED


def test_a_stop_reaches_zero_even_if_the_clock_stands_still() -> None:
    state, now = warmed_up()
    for _ in range(10):
        state, decision = step(state, replace(healthy(now), clock_lost=True), MODEL)
    assert (decision.speed_mps, decision.yaw_rate_radps, decision.reason) == (0.0, 0.0, Reason.CLOCK_LOST)


def test_teleop_drives_without_a_policy_through_the_same_checks_and_stops_when_let_go() -> None:
    state, now = warmed_up()
    stamp = now
    reasons = []
    for k in range(60):
        stamp = now if k < 20 else stamp
        inp = replace(healthy(now), command=None, verdict=None, teleop=Command(stamp, 0.3, 0.0))
        state, decision = step(state, inp, MODEL)
        reasons.append(decision.reason)
        now += PERIOD
    assert reasons[19] == Reason.TELEOP
    assert reasons[19 + round(PARAMS.teleop_timeout_s / PARAMS.period_s)] == Reason.TELEOP
    assert reasons[20 + round(PARAMS.teleop_timeout_s / PARAMS.period_s)] == Reason.TELEOP_STALE
    assert reasons[-1] == Reason.TELEOP_STALE
    assert decide(lambda i: replace(i, teleop=Command(i.now_ns, math.nan, 0.0))).reason == Reason.COMMAND_NOT_FINITE
    assert decide(lambda i: replace(i, teleop=Command(i.now_ns, 0.3, 0.0), scan=None)).reason == Reason.SCAN_MISSING


@pytest.mark.parametrize("age_s", [1.0, 100.0], ids=["late", "no clock"])
def test_an_operator_whose_commands_come_with_old_stamps_is_not_overruled_by_the_policy(age_s: float) -> None:
    state, now = warmed_up()
    reasons = []
    for k in range(40):  # a message every other period
        inp = replace(healthy(now), teleop=Command(now - ns(age_s), 0.3, 0.0), teleop_heard=k % 2 == 0)
        state, decision = step(state, inp, MODEL)
        reasons.append(decision.reason)
        now += PERIOD
    assert set(reasons) == {Reason.TELEOP_STALE}
    for k in range(60):  # the stick is put down, and later the robot is handed back: the policy drives
        given = replace(healthy(now), teleop=inp.teleop, reset_requested=k == 40)
        state, decision = step(state, given, MODEL)
        assert (decision.reason == Reason.TELEOP_STALE) == (k < 40 or decision.level == Level.STOP)
        now += PERIOD
    assert decision.level <= Level.LIMITED


def let_go(params: GuardParams, seconds: float, **given: object) -> list[Decision]:
    """What a guard decides after an operator drove and let go; ``given`` goes into its input after half that time."""
    model = GuardModel.of(params, JACKAL)
    state, now = warmed_up(model)
    decisions = []
    teleop = Command(now, 0.3, 0.0)
    steps = round(seconds / params.period_s)
    for k in range(steps):
        inp = replace(healthy(now), teleop=teleop, **(given if k == steps // 2 else {}))
        state, decision = step(state, inp, model)
        decisions.append(decision)
        now += PERIOD
    return decisions


def test_the_policy_does_not_drive_again_by_itself_after_the_operator_let_go() -> None:
    decisions = let_go(PARAMS, 10.0)
    assert (decisions[-1].level, decisions[-1].reason) == (Level.STOP, Reason.TELEOP_STALE)
    assert decisions[-1].speed_mps == 0.0


@pytest.mark.parametrize("given", [{"reset_requested": True}, {"enabled": False}], ids=["reset", "enable"])
def test_an_operator_who_let_go_hands_the_robot_back_explicitly(given: dict[str, object]) -> None:
    decisions = let_go(PARAMS, 4.0, **given)
    assert {d.level for d in decisions[25 : len(decisions) // 2]} == {Level.STOP}
    assert decisions[-1].level <= Level.LIMITED


def test_a_reset_under_the_operators_hand_hands_nothing_back() -> None:
    state, now = warmed_up()
    for k in range(100):
        held = k < 40
        teleop = Command(T0 + (10 + min(k, 39)) * PERIOD, 0.3, 0.0)
        inp = replace(healthy(now), teleop=teleop, teleop_heard=held, reset_requested=k == 39)
        state, decision = step(state, inp, MODEL)
        now += PERIOD
    assert decision.reason == Reason.TELEOP_STALE


@pytest.mark.parametrize("handback_s", [1.0, 3.0])
def test_with_a_time_to_hand_back_the_policy_drives_again_that_long_after_the_stick_was_let_go(
    handback_s: float,
) -> None:
    decisions = let_go(replace(PARAMS, teleop_handback_s=handback_s), handback_s + 2.0)
    drives = [k for k, decision in enumerate(decisions) if decision.reason == Reason.NONE]
    passed = PARAMS.teleop_timeout_s + handback_s
    assert passed <= drives[0] * PARAMS.period_s <= passed + PARAMS.min_dwell_s + 0.3
    assert decisions[-1].level <= Level.LIMITED


def test_a_clock_that_goes_back_does_not_hand_the_robot_back() -> None:
    state, now = warmed_up()
    state, _ = step(state, replace(healthy(now), teleop=Command(now, 0.3, 0.0)), MODEL)
    for k in range(100):
        at = now - 50 * NS + k * PERIOD
        state, decision = step(state, healthy(at), MODEL)
    assert decision.reason == Reason.TELEOP_STALE


def test_a_stamp_from_the_future_does_not_lock_out_later_samples() -> None:
    state, now = warmed_up()
    for field in ("command", "odom", "scan"):
        state, _ = step(state, stamped(field, -1000.0)(healthy(now)), MODEL)
        now += PERIOD
    for _ in range(20):
        state, decision = step(state, healthy(now), MODEL)
        now += PERIOD
    assert decision.level <= Level.LIMITED


def test_old_samples_are_not_taken_in() -> None:
    state, now = warmed_up()
    again, _ = step(state, healthy(now), MODEL)
    old = replace(healthy(now + PERIOD), odom=healthy(now - PERIOD).odom, scan=healthy(now - PERIOD).scan)
    after, decision = step(again, old, MODEL)
    assert decision.reason == Reason.SCAN_OUT_OF_ORDER
    assert after.sensed.odoms == again.sensed.odoms
    assert after.sensed.scan is again.sensed.scan
