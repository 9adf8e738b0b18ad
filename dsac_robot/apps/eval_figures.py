"""Figures of an evaluation on a family, as Agarwal et al. (2021) ask for: interquartile mean and performance profile
over all episodes, with bootstrap intervals stratified by instance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.figures import Figure
from dsac_robot.core.values import Floats

if TYPE_CHECKING:
    from dsac_robot.apps.eval_cmd import Episode

DRAWS = 2000
PACE_MAX = 1.25
THRESHOLDS = 51


@dataclass(frozen=True)
class Summary:
    """What the episodes come to."""

    figures: list[Figure]
    rows: list[dict[str, Any]]  # one for each instance
    worst: str  # the instance of the lowest mean pace
    profile: dict[str, list[float]]  # pace: threshold; share: of episodes above it; low, high: its interval


def summary(episodes: Sequence[Episode], names: Sequence[str], covered: Sequence[bool]) -> Summary:
    """Figures of all instances together and of each; ``names`` and ``covered`` (the guard's assumptions hold) in the
    order of the instances' numbers."""
    from rliable import library, metrics

    count = len(names)
    paces = matrix(episodes, count, [episode.pace for episode in episodes])
    scores = matrix(episodes, count, [episode.score for episode in episodes])
    success = matrix(episodes, count, [float(episode.outcome == "success") for episode in episodes])
    contact = matrix(episodes, count, [float(episode.outcome == "contact") for episode in episodes])
    caused = matrix(episodes, count, [float(episode.caused) for episode in episodes])
    thresholds = np.linspace(0.0, PACE_MAX, THRESHOLDS)

    def numbers(values: Floats) -> Floats:
        return np.array([metrics.aggregate_iqm(values), values.mean()])

    def shares(values: Floats) -> Floats:
        return np.asarray((values[..., None] > thresholds).mean(axis=(0, 1)))

    def interval(values: Floats, function: Any) -> tuple[Floats, Floats]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # rliable's way of seeding, which its own library will drop
            points, bounds = library.get_interval_estimates(
                {"policy": values}, function, reps=DRAWS, random_state=np.random.RandomState(0)
            )
        return points["policy"], bounds["policy"]

    (iqm, mean), ((iqm_low, mean_low), (iqm_high, mean_high)) = interval(paces, numbers)
    (_, score), ((_, score_low), (_, score_high)) = interval(scores, numbers)
    (_, good), ((_, good_low), (_, good_high)) = interval(success, numbers)
    shown, bounds = interval(paces, shares)
    by_instance = paces.mean(axis=0)
    worst = int(np.lexsort((success.mean(axis=0), by_instance))[0])
    figures = [
        Figure("pace_iqm", float(iqm)),
        Figure("pace_iqm_low", float(iqm_low)),
        Figure("pace_iqm_high", float(iqm_high)),
        Figure("pace_mean", float(mean)),
        Figure("pace_mean_low", float(mean_low)),
        Figure("pace_mean_high", float(mean_high)),
        Figure("score_mean", float(score)),
        Figure("score_mean_low", float(score_low)),
        Figure("score_mean_high", float(score_high)),
        Figure("success_rate", float(good)),
        Figure("success_rate_low", float(good_low)),
        Figure("success_rate_high", float(good_high)),
        Figure("collision_rate", float(contact.mean())),
        Figure("caused_contacts", float(caused.sum())),
        Figure("caused_contacts_guard_covers", float(caused[:, np.asarray(covered)].sum())),
        Figure("nominal_pace_mean", float(by_instance[0])),
        Figure("worst_pace_mean", float(by_instance[worst])),
        Figure("worst_success_rate", float(success[:, worst].mean())),
        Figure("instances", float(count)),
        Figure("episodes", float(len(episodes))),
    ]
    rows = [
        {
            "name": name,
            "pace_mean": float(by_instance[i]),
            "pace_iqm": float(metrics.aggregate_iqm(paces[:, i : i + 1])),
            "score_mean": float(scores[:, i].mean()),
            "success_rate": float(success[:, i].mean()),
            "collision_rate": float(contact[:, i].mean()),
        }
        for i, name in enumerate(names)
    ]
    curves = {"pace": thresholds, "share": shown, "low": bounds[0], "high": bounds[1]}
    return Summary(figures, rows, names[worst], {key: [float(v) for v in row] for key, row in curves.items()})


def matrix(episodes: Sequence[Episode], instances: int, values: Sequence[float]) -> Floats:
    """``values`` of the episodes as rliable wants them: runs by tasks. # (episodes of an instance, instances)"""
    runs = len(episodes) // instances
    found = np.full((runs, instances), np.nan)
    for episode, value in zip(episodes, values, strict=True):
        found[episode.episode, episode.instance] = value
    return found
