"""Aggregates with stratified bootstrap intervals, as rliable does them (Agarwal et al. 2021, arXiv:2108.13264)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from dsac_robot.core.values import Floats

LEVEL = 0.95
CURVE_REPS = 1000
AGGREGATES = ("iqm", "median", "mean")
PROFILE_POINTS = 101


@dataclass(frozen=True)
class Interval:
    """A point estimate and its interval at 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """A curve with its interval. # (P,) each"""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Statistics:
    """What ``compare`` reports. Pairs are (first, second) in the order of the groups."""

    aggregates: Mapping[str, Mapping[str, Interval]]  # group -> iqm, median, mean over runs and tasks
    improvement: Mapping[tuple[str, str], Interval]  # P(a run of the first is better than one of the second)
    ratio: Mapping[tuple[str, str], Interval]  # of the pooled IQMs, first to second; only where all scores allow it
    thresholds: Floats  # (P,)
    profiles: Mapping[str, Band]  # share of runs above each threshold


def iqm(values: Floats) -> Floats:
    """Interquartile mean along the first axis, whole numbers of values cut at both ends. # (N, ...) -> (...)

    Equal to scipy's 25 % trimmed mean, which rliable uses and whose overhead is most of a bootstrap's time.
    """
    cut = len(values) // 4
    return np.asarray(np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0))


def probability_of_improvement(first: Floats, second: Floats) -> float:
    """P(X > Y) + P(X = Y) / 2 for runs X, Y drawn from the same task, averaged over tasks. # (S, T), (R, T) -> ()

    Equal to rliable's, which calls a test of scipy's for it and takes twenty times as long.
    """
    difference = first[:, None] - second[None]  # (S, R, T)
    return float((difference > 0.0).mean() + 0.5 * (difference == 0.0).mean())


def statistics(scores: Mapping[str, Floats], lower_is_better: bool, reps: int, seed: int = 0) -> Statistics:
    """Statistics of the groups' scores; the same seed gives the same intervals. # (S, T) each"""
    from rliable import library

    functions: tuple[Callable[[Floats], Any], ...] = (iqm, np.median, np.mean)
    with _repeatable(seed):
        points, bounds = library.get_interval_estimates(
            dict(scores), lambda x: np.array([function(x.ravel()) for function in functions]), reps=reps
        )
        aggregates = {
            name: {key: _interval(points[name][k], bounds[name][:, k]) for k, key in enumerate(AGGREGATES)}
            for name in scores
        }
        sign = -1.0 if lower_is_better else 1.0
        improvement, ratio = {}, {}
        for first, second in combinations(scores, 2):
            pair = {"pair": [sign * scores[first], sign * scores[second]]}
            point, bound = library.get_interval_estimates(pair, probability_of_improvement, reps=reps)
            improvement[first, second] = _interval(point["pair"], bound["pair"])
            if min(scores[first].min(), scores[second].min()) > 0.0:
                pair = {"pair": [scores[first], scores[second]]}
                point, bound = library.get_interval_estimates(pair, _ratio_of_iqms, reps=reps)
                ratio[first, second] = _interval(point["pair"], bound["pair"])
        everything = np.concatenate([values.ravel() for values in scores.values()])
        margin = 0.02 * (np.ptp(everything) or 1.0)
        thresholds = np.linspace(everything.min() - margin, everything.max() + margin, PROFILE_POINTS)
        shares, bounds = library.create_performance_profile(
            dict(scores), thresholds, custom_profile_func=_shares_above, reps=reps
        )
    profiles = {name: Band(shares[name], bounds[name][0], bounds[name][1]) for name in scores}
    return Statistics(aggregates, improvement, ratio, thresholds, profiles)


def _shares_above(scores: Floats, thresholds: Floats) -> Floats:
    """Share of all runs above each threshold. # (S, T), (P,) -> (P,)"""
    return 1.0 - np.searchsorted(np.sort(scores, axis=None), thresholds, side="right") / scores.size


def _ratio_of_iqms(first: Floats, second: Floats) -> float:
    return float(iqm(first.ravel()) / iqm(second.ravel()))


def curve_band(curves: Floats, seed: int = 0) -> Band:
    """IQM over runs and tasks at each point, with its interval. Points where a run has no value yet are NaN.

    # (S, T, P)
    """
    from rliable import library

    known = np.isfinite(curves).all(axis=(0, 1))
    value, low, high = (np.full(curves.shape[-1], np.nan) for _ in range(3))
    if known.any():
        with _repeatable(seed):
            points, bounds = library.get_interval_estimates(
                {"all": curves[..., known]},
                lambda x: iqm(x.reshape(-1, x.shape[-1])),
                reps=CURVE_REPS,
            )
        value[known], (low[known], high[known]) = points["all"], bounds["all"]
    return Band(value, low, high)


def _interval(value: Floats | float, bounds: Floats) -> Interval:
    low, high = np.ravel(bounds)
    return Interval(float(np.ravel(value)[0]), float(low), float(high))


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """rliable draws from numpy's global generator, whatever it is given: seed that, and put it back afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
