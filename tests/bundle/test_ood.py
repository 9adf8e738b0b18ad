"""The decision of the OOD monitor: hysteresis, faults, and the conformal promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core.ood import (
    MonitorSpec,
    OodState,
    ScoreSpec,
    conformal_threshold,
    episode_maximum,
    judge,
)
from dsac_robot.core.reasons import OodLevel, Reason

SPEC = MonitorSpec((ScoreSpec("a", 1.0, 2.0), ScoreSpec("b", 10.0, 20.0)), raise_after=3, clear_after=4)


def levels(scores: list, spec: MonitorSpec = SPEC) -> str:
    """The level of each tick as a letter: o, c or a."""
    state, letters = OodState(), ""
    for row in scores:
        state, judgement = judge(state, np.asarray(row, float), spec)
        letters += "oca"[judgement.level]
    return letters


def one(values: list[float], spec: MonitorSpec | None = None) -> str:
    spec = spec or MonitorSpec((ScoreSpec("a", 1.0, 2.0),), raise_after=3, clear_after=4)
    return levels([[value] for value in values], spec)


def test_a_level_is_raised_by_the_third_tick_in_a_row() -> None:
    assert one([1.5, 1.5, 1.5]) == "ooc"
    assert one([2.5, 2.5, 2.5]) == "ooa"
    assert one([2.5, 2.5, 0.0, 2.5, 2.5, 0.0]) == "oooooo"
    assert one([2.5, 1.5, 2.5]) == "ooc"


def test_a_score_at_its_threshold_is_not_above_it() -> None:
    assert one([1.0] * 5) == "ooooo"
    assert one([np.nextafter(1.0, 2.0)] * 3) == "ooc"
    assert one([2.0] * 3) == "ooc"


def test_ticks_of_different_scores_do_not_add_up() -> None:
    assert levels([[3, 0], [0, 30], [3, 0], [0, 30]]) == "oooo"
    assert levels([[0, 30]] * 3) == "ooa"


def test_a_level_clears_after_four_ticks_below_the_clearing_threshold() -> None:
    assert one([2.5] * 3 + [0.0] * 5) == "ooaaaaoo"
    assert one([2.5] * 3 + [0.0] * 3 + [0.95] + [0.0] * 4) == "ooa" + "aaa" + "c" + "ccco"
    assert one([1.5] * 3 + [0.9] * 4) == "ooccc" + "co"  # the clearing threshold itself clears
    assert one([1.5] * 3 + [0.91] * 9) == "oo" + "c" * 10


def test_an_alarm_falls_back_to_caution_where_the_scores_still_caution() -> None:
    assert one([2.5] * 3 + [1.5] * 5) == "ooaaaa" + "cc"


def test_a_negative_threshold_clears_below_itself() -> None:
    spec = MonitorSpec((ScoreSpec("minus_value", -10.0, -5.0),), raise_after=1, clear_after=1)
    assert one([-9.0, -10.5, -11.0], spec) == "cco"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_alarm_at_once(value: float) -> None:
    state, judgement = judge(OodState(), np.array([0.0, value]), SPEC)
    assert (judgement.level, judgement.reason, judgement.worst) == (OodLevel.ALARM, Reason.MONITOR_FAULT, 1)
    _, after = judge(state, np.zeros(2), SPEC)
    assert (after.level, after.reason) == (OodLevel.ALARM, Reason.OOD_ALARM)
    assert one([value, 0, 0, 0, 0]) == "aaaao"


def test_the_worst_score_is_the_one_farthest_above_its_own_alarm() -> None:
    _, judgement = judge(OodState(), np.array([2.2, 40.0]), SPEC)
    assert (judgement.worst, judgement.score) == (1, 40.0)
    assert (judgement.caution_threshold, judgement.alarm_threshold) == (10.0, 20.0)
    assert judge(OodState(), np.array([1.9, 1.0]), SPEC)[1].worst == 0


def test_another_number_of_scores_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1,\), the monitor's card lists 2"):
        judge(OodState(), np.zeros(1), SPEC)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MonitorSpec(()), "at least one"),
        (lambda: MonitorSpec((ScoreSpec("a", 1, 2), ScoreSpec("a", 1, 2))), "its own name"),
        (lambda: MonitorSpec((ScoreSpec("a", 3.0, 2.0),)), "must not exceed"),
        (lambda: MonitorSpec((ScoreSpec("a", 1.0, float("inf")),)), "must be finite"),
        (lambda: MonitorSpec((ScoreSpec("a", 1, 2),), raise_after=0), "raise_after = 0"),
        (lambda: MonitorSpec((ScoreSpec("a", 1, 2),), clear_after=0), "clear_after = 0"),
        (lambda: MonitorSpec((ScoreSpec("a", 1, 2),), clear_fraction=1.1), "clear_fraction = 1.1"),
    ],
)
def test_a_monitor_that_makes_no_sense_is_refused_by_field(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@settings(max_examples=300)
@given(
    scores=st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30),
    raise_after=st.integers(1, 5),
    threshold=st.integers(0, 6).map(float),
)
def test_the_alarm_is_raised_exactly_if_the_episode_maximum_exceeds_the_threshold(
    scores: list[float], raise_after: int, threshold: float
) -> None:
    spec = MonitorSpec((ScoreSpec("a", threshold, threshold),), raise_after=raise_after)
    assert ("a" in one(scores, spec)) == bool(episode_maximum(scores, raise_after) > threshold)


def test_the_episode_maximum_is_taken_per_score() -> None:
    scores = np.array([[1.0, 9.0], [3.0, 1.0], [2.0, 1.0]])
    assert episode_maximum(scores, 1).tolist() == [3.0, 9.0]
    assert episode_maximum(scores, 2).tolist() == [2.0, 1.0]
    assert episode_maximum(scores, 4).tolist() == [-np.inf, -np.inf]
    with pytest.raises(ValueError, match="NaN"):
        episode_maximum([1.0, np.nan])


def test_the_threshold_is_the_stated_order_statistic() -> None:
    assert conformal_threshold(np.arange(1.0, 20.0), 0.05) == 19.0  # n = 19: ceil(20 * 0.95) = 19
    assert conformal_threshold(np.arange(1.0, 200.0), 0.05) == 190.0
    assert conformal_threshold(np.arange(1.0, 201.0), 0.05) == 191.0  # ceil(201 * 0.95) = ceil(190.95)
    assert conformal_threshold([3.0, 1.0, 2.0], 0.5) == 2.0


@pytest.mark.parametrize(
    ("n", "alpha", "needed"), [(18, 0.05, 19), (98, 0.01, 99), (0, 0.1, 9), (8, 0.1, 9), (2, 0.3, 3)]
)
def test_too_few_episodes_are_refused_with_the_number_needed(n: int, alpha: float, needed: int) -> None:
    with pytest.raises(ValueError, match=f"needs at least {needed} calibration episodes, got {n}"):
        conformal_threshold(np.arange(float(n)), alpha)
    assert conformal_threshold(np.arange(float(needed)), alpha) == needed - 1.0


@pytest.mark.parametrize(("maxima", "alpha"), [([1.0, np.nan], 0.5), ([1.0], 0.0), ([1.0], 1.0), ([np.inf], 0.5)])
def test_maxima_and_rates_that_make_no_sense_are_refused(maxima: list[float], alpha: float) -> None:
    with pytest.raises(ValueError, match=r"NaN|outside \(0, 1\)|would be inf"):
        conformal_threshold(maxima, alpha)


def autoregressive(rng: np.random.Generator, episodes: int, ticks: int = 150, memory: float = 0.95) -> np.ndarray:
    """AR(1) scores with a scale of its own for each episode: steps are far from independent. # (E, T)"""
    noise = rng.normal(size=(episodes, ticks))
    scores = np.empty_like(noise)
    scores[:, 0] = noise[:, 0]
    for t in range(1, ticks):
        scores[:, t] = memory * scores[:, t - 1] + np.sqrt(1.0 - memory**2) * noise[:, t]
    return scores * rng.uniform(0.8, 1.2, size=(episodes, 1))


@pytest.mark.parametrize("raise_after", [1, 3])
def test_false_alarms_per_episode_stay_at_alpha_on_autocorrelated_scores(raise_after: int) -> None:
    """Mean over calibrations of the rate on new episodes is ceil((n + 1)(1 - alpha)) / (n + 1) short of 1: 0.05."""
    rng, alpha, rates = np.random.default_rng(7), 0.05, []
    for _ in range(60):
        maxima = episode_maximum(autoregressive(rng, 199).T, raise_after)
        threshold = conformal_threshold(maxima, alpha)
        fresh = episode_maximum(autoregressive(rng, 400).T, raise_after)
        rates.append(float(np.mean(fresh > threshold)))
    standard_error = np.std(rates) / np.sqrt(len(rates))
    assert abs(np.mean(rates) - alpha) < 4.0 * standard_error
    per_step = np.quantile(autoregressive(rng, 199), 1.0 - alpha)
    assert np.mean(autoregressive(rng, 400).max(axis=1) > per_step) > 0.5  # what a per-step threshold would do


def test_judge_alarms_in_as_many_episodes_as_the_maxima_say() -> None:
    rng = np.random.default_rng(3)
    threshold = conformal_threshold(episode_maximum(autoregressive(rng, 99, 60).T, 2), 0.1)
    spec = MonitorSpec((ScoreSpec("a", threshold, threshold),), raise_after=2)
    fresh = autoregressive(rng, 100, 60)
    alarms = ["a" in one(list(episode), spec) for episode in fresh]
    assert alarms == (episode_maximum(fresh.T, 2) > threshold).tolist()
    assert 0 < sum(alarms) < 25
