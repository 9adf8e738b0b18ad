"""What the guard takes in: odometry with its slide and drift, scans by the pose at their stamp; what its faults say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_geometry import pose_at, pose_of
from dsac_robot.core.guard_inputs import Pairing, clamped, empty_scan_fault, odom_jump, odom_values_fault, paired
from dsac_robot.core.guard_sensed import DRIFT, SAMPLES_MAX, SLIDE, Sensed, sense
from dsac_robot.core.guard_types import GuardInput, GuardParams, Verdict
from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.core.values import NS, Command, Odom, Scan, ns
from tests.core.test_guard_faults import (
    JACKAL,
    MODEL,
    PARAMS,
    PERIOD,
    T0,
    command,
    decide,
    half_blind,
    healthy,
    odom,
    scan,
    scan_at,
    stamped,
    warmed_up,
)

LIMITS = JACKAL.limits
SIDEWAYS = replace(JACKAL, actuation=replace(JACKAL.actuation, side_slip_s=0.1))
Change = Callable[[GuardInput], GuardInput]


def at(now_ns: int, x: float, y: float, yaw: float, scan: Scan | None = None) -> GuardInput:
    return GuardInput(now_ns, scan=scan, odom=Odom.from_yaw(now_ns, x, y, yaw, 0.5, 0.0))


def taken(inputs: list[GuardInput], params: GuardParams = PARAMS) -> Sensed:
    """What is known after all these."""
    sensed = Sensed()
    for inp in inputs:
        sensed, _ = sense(sensed, inp, (), params, SIDEWAYS)
    return sensed


# -- odometry --------------------------------------------------------------------------------------------------------


def test_in_a_turn_the_way_is_placed_to_the_right_of_what_odometry_says_and_drift_grows_with_it() -> None:
    ways = [(0.0, 0.0, 0.0), (0.05, 0.01, 0.1), (0.09, 0.04, 0.15)]
    sensed = taken([at(T0 + k * PERIOD, *way) for k, way in enumerate(ways)])
    x, y = 0.0, 0.0
    for before, after in itertools.pairwise(ways):
        aside = -SLIDE * 0.1 * (after[2] - before[2]) / 0.02
        dx, dy = after[0] - before[0], after[1] - before[1]
        x, y = x + math.cos(aside) * dx - math.sin(aside) * dy, y + math.sin(aside) * dx + math.cos(aside) * dy
    assert pose_of(sensed.odoms[-1]) == pytest.approx((x, y, 0.15))
    assert sensed.drift_m == pytest.approx(DRIFT * (math.hypot(0.05, 0.01) + math.hypot(0.04, 0.03)))
    assert sensed.odom is not None and sensed.odom.x_m == 0.09


def test_odometry_is_kept_as_far_back_as_a_scan_may_need_it() -> None:
    kept = PARAMS.odom_timeout_s + PARAMS.scan_timeout_s + 0.1
    sensed = taken([at(T0 + k * PERIOD, 0.001 * k, 0.0, 0.0) for k in range(60)])
    newest = T0 + 59 * PERIOD
    assert [o.stamp_ns for o in sensed.odoms] == [newest - k * PERIOD for k in range(int(kept * 50), -1, -1)]
    fast = taken([at(T0 + k * NS // 500, 0.001 * k, 0.0, 0.0) for k in range(200)])
    assert len(fast.odoms) == SAMPLES_MAX


def test_a_jump_of_odometry_forgets_all_but_the_drift_and_that_the_robot_is_enabled() -> None:
    before = taken([at(T0 + k * PERIOD, 0.02 * k, 0.0, 0.0, scan_at(T0 + k * PERIOD)) for k in range(4)])
    assert before.view is not None and len(before.odoms) == 4
    after, fault = sense(before, at(T0 + 4 * PERIOD, 5.0, 0.0, 0.0), (), PARAMS, SIDEWAYS)
    assert fault is not None and fault.reason == Reason.SCAN_MISSING
    assert (len(after.odoms), after.drift_m, after.enabled, after.view) == (1, before.drift_m, True, None)


@pytest.mark.parametrize(
    ("moved", "turned", "jumps"),
    [(0.1 + 0.059, 0.0, False), (0.1 + 0.061, 0.0, True), (0.0, 0.2 + 0.079, False), (0.0, 0.2 + 0.081, True)],
)
def test_a_jump_is_more_than_the_robot_can_move_in_the_time_and_what_is_slack(
    moved: float, turned: float, jumps: bool
) -> None:
    a, b = (
        Odom.from_yaw(T0, 1.0, 2.0, 3.1, 0.0, 0.0),
        Odom.from_yaw(T0 + PERIOD, 1.0, 2.0 - moved, 3.1 + turned, 0.0, 0.0),
    )
    fault = odom_jump(a, b, LIMITS)
    assert (fault is not None) == jumps
    if fault is not None:
        expected = [moved, 0.16, turned, 0.28]
        assert [value for _, value in fault.numbers] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        ({"speed_mps": 4.99}, True),
        ({"speed_mps": -5.01}, False),
        ({"yaw_rate_radps": -5.99}, True),
        ({"yaw_rate_radps": 6.01}, False),
        ({"x_m": -1e6}, True),
        ({"y_m": -1.1e6}, False),
        ({"qz": 0.0, "qw": 0.91}, True),
        ({"qz": 0.0, "qw": 0.89}, False),
        ({"qz": 1.09, "qw": 0.0}, True),
        ({"qz": 1.11, "qw": 0.0}, False),
        ({"qz": -2.1, "qw": 0.0}, False),
        ({"qz": 1e200, "qw": 1e200}, False),
    ],
)
def test_the_values_of_odometry_are_bounded(change: dict[str, float], sound: bool) -> None:
    fault = odom_values_fault(replace(Odom.from_yaw(T0, 0.0, 0.0, 0.0, 0.0, 0.0), **change), LIMITS)
    assert (fault is None) == sound
    if fault is not None and fault.reason == Reason.ODOM_JUMP:
        assert dict(fault.numbers)["limit_mps"] == 5.0


# -- scans -----------------------------------------------------------------------------------------------------------


def test_a_scan_is_placed_where_the_robot_was_at_its_stamp_also_when_newer_odometry_says_better() -> None:
    inputs = [at(T0 + k * PERIOD, 0.02 * k, 0.0, 0.01 * k) for k in range(4)]
    last = replace(inputs[3], scan=scan_at(T0 + 3 * PERIOD + PERIOD // 2))
    sensed = taken([*inputs[:3], last])
    assert sensed.view is not None
    assert sensed.view.pose == pose_at(sensed.odoms, last.scan.stamp_ns)
    assert sensed.view.drift_m == sensed.drift_m
    late = at(T0 + 4 * PERIOD, 0.1, 0.01, 0.06, last.scan)
    after, _ = sense(sensed, late, (), PARAMS, SIDEWAYS)
    assert after.view is not None and after.view.pose != sensed.view.pose
    assert after.view.pose == pose_at(after.odoms, last.scan.stamp_ns)
    assert after.memory is sensed.memory


def test_activation_vouches_for_a_disc_where_the_robot_is_and_deactivation_ends_nothing_but_that_it_is_enabled() -> (
    None
):
    off = [replace(at(T0 + k * PERIOD, 0.02 * k, 0.01, 0.0, scan_at(T0 + k * PERIOD)), enabled=False) for k in range(3)]
    sensed = taken(off)
    assert sensed.memory.disc is None and not sensed.enabled and len(sensed.memory.frames) == 1
    on = taken([*off, at(T0 + 3 * PERIOD, 0.06, 0.01, 0.0)])
    assert on.enabled and on.memory.disc is not None and on.memory.frames == ()
    assert (on.memory.disc.pose, on.memory.disc.stamp_ns) == (pose_of(on.odoms[-1]), T0 + 3 * PERIOD)
    assert on.view is not None
    assert (on.memory.disc.drift_m, on.memory.disc.slip) == (on.drift_m, on.view.slip)
    first = taken([at(T0, 0.0, 0.0, 0.0)])
    assert first.memory.disc is not None and first.memory.disc.slip == (0.0, 0.0, 0.0)
    again = taken([at(T0, 0.0, 0.0, 0.0), replace(at(T0 + PERIOD, 0.01, 0.0, 0.0), enabled=False)])
    assert not again.enabled and again.memory.disc is not None and again.memory.disc.stamp_ns == T0


@pytest.mark.parametrize(("valid", "returns", "reason"), [
    (0, 0, Reason.SCAN_ALL_INVALID), (359, 9, Reason.SCAN_HALF_BLIND), (360, 9, None), (360, 1, None),
    (360, 0, Reason.SCAN_BLANK),
])  # fmt: skip
def test_a_scan_that_says_too_little_is_a_fault(valid: int, returns: int, reason: Reason | None) -> None:
    fault = empty_scan_fault(valid, 720, returns, PARAMS)
    assert (None if fault is None else fault.reason) == reason
    if reason == Reason.SCAN_HALF_BLIND:
        assert dict(fault.numbers) == {"valid_beams": 359.0, "limit": 360}


# -- numbers ---------------------------------------------------------------------------------------------------------

NUMBERS: list[tuple[Change, dict[str, float]]] = [
    (stamped("command", 0.25), {"age_s": 0.25, "limit_s": PARAMS.command_timeout_s}),
    (stamped("scan", -0.03), {"age_s": -0.03, "limit_s": -PARAMS.future_tolerance_s}),
    (stamped("scan", 0.03), {"back_s": 0.01}),
    (stamped("odom", 0.2), {"age_s": 0.2, "limit_s": PARAMS.odom_timeout_s}),
    (command(2.01), {"speed_mps": 2.01, "limit_mps": 2.0}),
    (command(-0.51), {"speed_mps": -0.51, "limit_mps": -0.5}),
    (command(0.0, -2.01), {"yaw_rate_radps": -2.01, "limit_radps": 2.0}),
    (odom(qz=0.0, qw=0.5), {"quaternion_norm": 0.5}),
    (odom(yaw_rate_radps=-6.5), {"speed_mps": 0.5, "limit_mps": 5.0, "yaw_rate_radps": -6.5}),
    (scan(ranges_m=np.full(719, 5.0, np.float32)), {"beams": 719.0, "limit": 720.0}),
    (scan(ranges_m=np.full(720, np.nan, np.float32)), {"valid_beams": 0.0}),
    (scan(ranges_m=np.full(720, np.inf, np.float32)), {"valid_beams": 720.0, "returns": 0.0}),
    (half_blind(300), {"valid_beams": 300.0, "limit": 360.0}),
    (
        lambda i: replace(i, verdict=Verdict(i.now_ns, i.now_ns, OodLevel.ALARM, Reason.NONE, 9.0, 3.0, 7.0)),
        {"score": 9.0, "threshold": 7.0},
    ),
    (lambda i: healthy(i.now_ns + NS), {"step_s": 1.02, "limit_s": PARAMS.clock_jump_s}),
    (lambda i: healthy(i.now_ns + ns(0.3)), {"step_s": 0.32, "limit_s": JACKAL.actuation.command_timeout_s}),
    (lambda i: replace(i, gap_s=0.3), {"gap_s": 0.3, "limit_s": JACKAL.actuation.command_timeout_s}),
]


@pytest.mark.parametrize(("change", "numbers"), NUMBERS, ids=[str(n) for n in range(len(NUMBERS))])
def test_a_fault_tells_the_number_that_was_wrong_and_its_limit(change: Change, numbers: dict[str, float]) -> None:
    assert dict(decide(change).numbers) == pytest.approx(numbers)


def test_a_verdict_that_waits_tells_how_long_and_how_old_the_judged_command_is() -> None:
    state, now = warmed_up()
    first = now
    for _ in range(9):
        state, decision = step(state, replace(healthy(now), command=Command(first, 0.5, 0.0), verdict=None), MODEL)
        now += PERIOD
    assert decision.reason == Reason.VERDICT_MISSING
    expected = {"waited_s": 0.16, "limit_s": 0.15, "judged_age_s": 0.18, "judged_limit_s": PARAMS.command_timeout_s}
    assert dict(decision.numbers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("handback_s", "numbers"), [(0.0, {"since_s": 0.02}), (2.0, {"since_s": 0.02, "handback_s": 2.0})]
)
def test_an_operator_who_let_go_is_named_with_the_time_since(handback_s: float, numbers: dict[str, float]) -> None:
    model = GuardModel.of(replace(PARAMS, teleop_handback_s=handback_s), JACKAL)
    state, now = warmed_up(model)
    state, _ = step(state, replace(healthy(now), teleop=Command(now, 0.3, 0.0)), model)
    _, decision = step(state, healthy(now + PERIOD), model)
    assert decision.reason == Reason.TELEOP_STALE
    assert dict(decision.numbers) == pytest.approx(numbers)


def test_a_command_is_clamped_to_the_robots_limits() -> None:
    assert clamped(Command(T0, 2.001, -2.001), JACKAL) == (2.0, -2.0)
    assert clamped(Command(T0, -0.5001, 2.001), JACKAL) == (-0.5, 2.0)
    assert clamped(Command(T0, 0.3, 0.4), JACKAL) == (0.3, 0.4)


# -- commands and verdicts -------------------------------------------------------------------------------------------


def verdict(stamp_ns: int) -> Verdict:
    return Verdict(T0, stamp_ns, OodLevel.OK)


def test_the_newest_four_commands_wait_for_their_verdict_each_once() -> None:
    pairing = Pairing()
    for k in (0, 1, 1, 0, 2, 3, 4):
        pairing = paired(pairing, Command(T0 + k, 0.1 * k, 0.0), None, T0 + 10 * k)
    assert [(w.command.stamp_ns - T0, w.since_ns - T0) for w in pairing.waiting] == [(k, 10 * k) for k in (1, 2, 3, 4)]
    judged = paired(pairing, None, verdict(T0 + 2), T0 + 50)
    assert judged.judged == Command(T0 + 2, 0.2, 0.0) and judged.verdict == verdict(T0 + 2)
    assert [w.command.stamp_ns - T0 for w in judged.waiting] == [3, 4]
    assert paired(judged, Command(T0 + 2, 0.2, 0.0), verdict(T0), T0 + 60) == judged
    assert paired(judged, Command(T0 + 9, math.nan, 0.0), None, T0 + 60) == judged
    done = paired(judged, None, verdict(T0 + 4), T0 + 60)
    assert done.waiting == () and paired(done, Command(T0 + 4, 0.4, 0.0), None, T0 + 70) == done
    assert len(paired(done, Command(T0 + 5, 0.4, 0.0), None, T0 + 70).waiting) == 1


# -- what is sent ----------------------------------------------------------------------------------------------------


def test_what_was_sent_is_known_as_far_back_as_a_roll_out_begins() -> None:
    state, now = initial_state(), T0
    for _ in range(40):
        state, decision = step(state, healthy(now), MODEL)
        now += PERIOD
    back_s = PARAMS.odom_timeout_s + MODEL.checker.motion.delay_s + 0.1
    oldest = state.sent[0].at_ns
    assert now - PERIOD - oldest == int(back_s / PARAMS.period_s + 1e-6) * PERIOD
    assert (state.sent[-1].at_ns, state.sent[-1].speed_mps) == (now - PERIOD, decision.speed_mps)
    for k in range(200):
        state, _ = step(state, healthy(now + k * NS // 500), MODEL)
    assert len(state.sent) == SAMPLES_MAX
    back, _ = step(state, healthy(T0), MODEL)
    assert [sent.at_ns for sent in back.sent] == [T0]


def test_caution_tells_the_score_its_threshold_and_the_limit() -> None:
    state, now = warmed_up()
    for _ in range(30):
        cautious = Verdict(now, now, OodLevel.CAUTION, Reason.NONE, 5.0, 3.0, 7.0)
        state, decision = step(state, replace(healthy(now, -0.5), verdict=cautious), MODEL)
        now += PERIOD
    assert decision.reason == Reason.OOD_CAUTION
    numbers = dict(decision.numbers)
    assert (numbers["score"], numbers["threshold"], numbers["limit_mps"]) == (5.0, 3.0, PARAMS.caution_speed_mps)


def test_a_command_behind_what_is_asked_for_the_rate_limits_tells_what_was_asked() -> None:
    state, now = initial_state(), T0
    for _ in range(3):
        state, decision = step(state, replace(healthy(now), command=Command(now, 0.5, -0.4)), MODEL)
        now += PERIOD
    assert decision.reason == Reason.RATE_LIMIT
    numbers = dict(decision.numbers)
    assert (numbers["asked_speed_mps"], numbers["asked_yaw_rate_radps"]) == (0.5, -0.4)
    assert state.rates == pytest.approx(
        tuple((a - b) / 0.02 for a, b in zip(
            (decision.speed_mps, decision.yaw_rate_radps), (state.sent[-2].speed_mps, state.sent[-2].yaw_rate_radps),
            strict=True,
        ))
    )  # fmt: skip
    state, decision = step(state, replace(healthy(now), stop_requested=True), MODEL)
    assert state.rates == (0.0, 0.0)
