"""The guard's own lateness: one long silence, many short ones, and what the steady clock sees before ROS time does.

All times here are stamps that the tests make up; nothing waits for a clock.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsac_robot.core.guard import GuardModel, GuardState, step
from dsac_robot.core.guard_pace import fitted, late_after_s
from dsac_robot.core.guard_types import Decision
from dsac_robot.core.params import ParameterError
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, ns
from tests.core.test_guard_faults import JACKAL, MODEL, PARAMS, PERIOD, healthy, warmed_up

SILENT_S = JACKAL.actuation.command_timeout_s
LATE_NS = ns(late_after_s(PARAMS, JACKAL))


def driven(
    state: GuardState, now_ns: int, gaps_ns: list[int], model: GuardModel = MODEL
) -> tuple[GuardState, int, Decision]:
    """The guard after steps that come ``gaps_ns`` after one another, the first at ``now_ns``."""
    for gap_ns in gaps_ns:
        state, decision = step(state, replace(healthy(now_ns), gap_s=gap_ns / NS), model)
        now_ns += gap_ns
    return state, now_ns, decision


def late(by_s: list[float], model: GuardModel = MODEL) -> tuple[GuardState, int, Decision]:
    """A driving guard, some of whose steps then came later than allowed, one after the other."""
    state, now = warmed_up(model)
    return driven(state, now, [LATE_NS + ns(by) for by in by_s] + [PERIOD], model)


def kept(by_s: list[float]) -> float:
    """The lateness that such steps leave, less what is forgotten meanwhile."""
    sum_s = 0.0
    for by in by_s:
        sum_s = max(0.0, sum_s - 0.1 * (LATE_NS / NS + by)) + by
    return sum_s


@pytest.mark.parametrize("by_s", [0.02, 0.05, 0.1, 0.12])
def test_lateness_up_to_its_limit_is_borne_and_a_step_more_is_a_stop(by_s: float) -> None:
    count = next(n for n in range(1, 50) if kept([by_s] * n) > PARAMS.late_s_max)
    assert late([by_s] * (count - 1))[2].level <= Level.LIMITED
    decision = late([by_s] * count)[2]
    assert (decision.level, decision.reason) == (Level.STOP, Reason.LOOP_OVERRUN)
    assert dict(decision.numbers)["late_s"] == pytest.approx(kept([by_s] * count), abs=1e-6)


def test_steps_just_within_the_reaction_time_are_not_late_however_many() -> None:
    state, _, decision = late([0.0] * 100)
    assert (decision.level <= Level.LIMITED, state.late_s) == (True, 0.0)


def test_a_loop_that_takes_nearly_as_long_as_the_bases_timeout_is_stopped_within_half_a_second() -> None:
    state, now = warmed_up()
    began, reason, gap = now, Reason.NONE, ns(SILENT_S - 0.01)
    while reason != Reason.LOOP_OVERRUN:
        state, now, decision = driven(state, now, [gap])
        reason = decision.reason
    assert (now - gap - began) / NS <= 0.5


def test_no_more_than_twice_the_limit_is_remembered() -> None:
    state, _, _ = late([0.1] * 20)
    assert state.late_s <= 2.0 * PARAMS.late_s_max


def test_late_s_max_says_how_much_is_borne() -> None:
    wide = GuardModel.of(replace(PARAMS, late_s_max=10.0), JACKAL)
    assert late([0.1] * 20, wide)[2].level <= Level.LIMITED


def test_a_silence_of_the_bases_timeout_is_borne_where_so_much_lateness_is_and_a_longer_one_never() -> None:
    wide = GuardModel.of(replace(PARAMS, late_s_max=10.0), JACKAL)
    state, now = warmed_up(wide)
    now += ns(SILENT_S) - PERIOD
    assert step(state, healthy(now), wide)[1].level <= Level.LIMITED
    decision = step(state, healthy(now + 1000), wide)[1]
    assert (decision.level, decision.reason) == (Level.STOP, Reason.LOOP_OVERRUN)
    assert dict(decision.numbers)["limit_s"] == SILENT_S


def test_a_wide_reaction_time_bears_later_steps() -> None:
    wide = GuardModel.of(replace(PARAMS, reaction_s=PARAMS.reaction_s + 0.1), JACKAL)
    assert late([0.1] * 20, wide)[2].level <= Level.LIMITED


def test_the_stop_for_lateness_ends_when_enough_of_it_is_forgotten() -> None:
    state, now, decision = late([0.1] * 4)
    stopped, left_s = 0, state.late_s
    while decision.reason == Reason.LOOP_OVERRUN:
        state, now, decision = driven(state, now, [PERIOD])
        stopped += 1
    forgotten_s = (left_s - PARAMS.late_s_max) / 0.1
    assert stopped * PARAMS.period_s == pytest.approx(forgotten_s + PARAMS.min_dwell_s, abs=3 * PARAMS.period_s)
    assert decision.level <= Level.LIMITED


def test_the_steady_clock_stops_a_guard_that_ros_time_has_not_told_yet_that_it_was_held_up() -> None:
    state, now = warmed_up()
    at_limit = step(state, replace(healthy(now), gap_s=SILENT_S), MODEL)[1]
    assert at_limit.level <= Level.LIMITED
    after, decision = step(state, replace(healthy(now), gap_s=SILENT_S + 1e-3), MODEL)
    assert (decision.level, decision.reason) == (Level.STOP, Reason.LOOP_OVERRUN)
    assert decision.speed_mps < at_limit.speed_mps
    # Simulated time stood still as well: it was not the guard that was held up.
    assert driven(after, now + PERIOD, [PERIOD])[2].level <= Level.LIMITED
    # Simulated time went on: it was.
    held = step(after, healthy(now + ns(SILENT_S + 0.1)), MODEL)[1]
    assert (held.level, held.reason) == (Level.STOP, Reason.LOOP_OVERRUN)


@pytest.mark.parametrize("silence_s", [SILENT_S + 0.01, 0.35, PARAMS.clock_jump_s - 0.02, PARAMS.clock_jump_s + 1.0])
def test_after_a_silence_a_stop_is_as_far_as_if_it_had_gone_on_all_the_time(silence_s: float) -> None:
    state, now = warmed_up()
    for _ in range(60):
        state, decision = step(state, healthy(now, 2.0), MODEL)
        now += PERIOD
    before = decision.speed_mps
    now += ns(silence_s) - PERIOD
    _, decision = step(state, replace(healthy(now, 2.0), gap_s=silence_s), MODEL)
    assert decision.level == Level.STOP
    assert decision.speed_mps == pytest.approx(max(0.0, before - JACKAL.limits.brake_mps2 * silence_s))


def test_a_clock_that_leaps_is_not_lateness_and_takes_a_stop_down_by_no_more_than_is_known() -> None:
    state, now = warmed_up()
    before = step(state, healthy(now), MODEL)[1].speed_mps
    after, decision = step(state, healthy(now + 5 * NS), MODEL)
    assert (decision.reason, after.late_s) == (Reason.CLOCK_JUMP, 0.0)
    assert decision.speed_mps == pytest.approx(max(0.0, state.sent[-1].speed_mps - 0.1 * JACKAL.limits.brake_mps2))
    assert before > 0.0


def test_a_reaction_time_below_what_the_base_needs_is_refused_with_both_figures() -> None:
    slow = replace(JACKAL, actuation=replace(JACKAL.actuation, action_delay_s=0.07, delay_jitter_s=0.01))
    assert fitted(PARAMS, slow).reaction_s == 0.1
    late = replace(slow, actuation=replace(slow.actuation, delay_jitter_s=0.02))
    with pytest.raises(ParameterError, match=r"reaction_s = 0.1 must be at least 0.11: .*delay_jitter_s = 0.02"):
        GuardModel.of(PARAMS, late)


def test_time_outs_are_those_asked_for_but_never_shorter_than_a_slow_sensor_allows() -> None:
    assert fitted(PARAMS, JACKAL) == PARAMS
    burger = load_robot("burger")
    slow = GuardModel.of(PARAMS, replace(burger, odometry=replace(burger.odometry, rate_hz=5.0))).params
    assert (slow.scan_timeout_s, slow.odom_timeout_s, slow.command_timeout_s) == pytest.approx((0.3, 0.3, 0.36))
    wide = replace(PARAMS, scan_timeout_s=0.5, odom_timeout_s=0.4, command_timeout_s=0.6)
    assert fitted(wide, burger) == wide
