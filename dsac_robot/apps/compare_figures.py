"""The pictures of ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.compare_data import Table
from dsac_robot.apps.compare_stats import AGGREGATES, Band, Statistics
from dsac_robot.apps.report_style import MUTED, WIDTH_IN, pyplot, save
from dsac_robot.core.values import Floats

HUES = ("#2364aa", "#e8702a", "#1b9e5a", "#8f5bd6", "#d7263d", "#5f7a61", "#b3127f", "#9aa5b1")
AXIS_WORDS = {"updates": "updates", "steps": "environment steps", "elapsed_s": "wall time, s"}
AGGREGATE_WORDS = {"iqm": "interquartile mean", "median": "median", "mean": "mean"}


@dataclass(frozen=True)
class Words:
    """What the pictures say: ``score`` names the metric with its normalisation."""

    metric: str
    score: str
    axis: str


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each group, the same in every picture."""
    return {name: HUES[i % len(HUES)] for i, name in enumerate(names)}


def draw_curves(
    path: Path, table: Table, bands: Mapping[str, Sequence[Band]], pooled: Mapping[str, Band], words: Words
) -> Path:
    """A panel for each task, single runs thin, IQM and its interval thick; with several tasks one more for all."""
    several = len(table.tasks) > 1
    panels = len(table.tasks) + several
    columns = min(panels, 3)
    rows = -(-panels // columns)
    plt = pyplot()
    width = min(WIDTH_IN, 5.8 * columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width, 3.5 * rows), layout="constrained", squeeze=False)
    flat = list(axes.ravel())
    hues = colours(list(table.scores))
    for number, task in enumerate(table.tasks):
        axis = flat[number]
        for name, hue in hues.items():
            for run in table.curves[name][:, number]:
                axis.plot(table.x[number], run, color=hue, lw=0.7, alpha=0.35)
            _band(axis, table.x[number], bands[name][number], hue, name)
        _dress(axis, task, AXIS_WORDS[words.axis], words.metric)
    if several:
        axis = flat[len(table.tasks)]
        for name, hue in hues.items():
            _band(axis, np.linspace(0.0, 100.0, table.x.shape[1]), pooled[name], hue, name)
        _dress(axis, "all tasks", f"% of {AXIS_WORDS[words.axis]}", words.score)
    for axis in flat[panels:]:
        axis.set_visible(False)
    flat[0].legend(loc="best", fontsize=8)
    return save(figure, path)


def draw_aggregates(path: Path, found: Statistics, words: Words) -> Path:
    """Point estimates and intervals of the aggregates, a panel each."""
    plt = pyplot()
    names = list(found.aggregates)
    hues = colours(names)
    figure, axes = plt.subplots(
        1, len(AGGREGATES), figsize=(WIDTH_IN, 1.0 + 0.42 * len(names)), layout="constrained", sharey=True
    )
    for axis, key in zip(axes, AGGREGATES, strict=True):
        for row, name in enumerate(names):
            _bar(axis, row, found.aggregates[name][key], hues[name])
        _dress(axis, AGGREGATE_WORDS[key], words.score, "")
        axis.locator_params(axis="x", nbins=5)
    _rows(axes[0], names)
    return save(figure, path)


def draw_improvement(path: Path, found: Statistics) -> Path:
    """Probability that a run of one group beats one of the other, with the line of no difference."""
    plt = pyplot()
    pairs = list(found.improvement)
    figure, axis = plt.subplots(figsize=(0.6 * WIDTH_IN, 1.0 + 0.42 * len(pairs)), layout="constrained")
    axis.axvline(0.5, color=MUTED, lw=0.8, ls="--")
    for row, pair in enumerate(pairs):
        _bar(axis, row, found.improvement[pair], HUES[0])
    _dress(axis, "probability that a run of the first is better", "", "")
    axis.set_xlim(-0.02, 1.02)
    _rows(axis, [f"{first}  over  {second}" for first, second in pairs])
    return save(figure, path)


def draw_profiles(path: Path, found: Statistics, words: Words) -> Path:
    """Performance profiles: the share of runs above each score."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(0.6 * WIDTH_IN, 3.6), layout="constrained")
    for name, hue in colours(list(found.profiles)).items():
        _band(axis, found.thresholds, found.profiles[name], hue, name)
    _dress(axis, "performance profile", f"score τ ({words.score})", "share of runs above τ")
    axis.set_ylim(-0.02, 1.02)
    axis.legend(loc="best", fontsize=8)
    return save(figure, path)


def _band(axis: Any, x: Floats, band: Band, hue: str, label: str) -> None:
    axis.fill_between(x, band.low, band.high, color=hue, alpha=0.18, lw=0)
    axis.plot(x, band.value, color=hue, lw=1.8, label=label)


def _bar(axis: Any, row: int, interval: Any, hue: str) -> None:
    axis.barh(row, interval.high - interval.low, left=interval.low, height=0.55, color=hue, alpha=0.35)
    axis.use_sticky_edges = False  # else a bar's left end is the axis's
    axis.vlines(interval.value, row - 0.275, row + 0.275, color=hue, lw=2.0)


def _rows(axis: Any, labels: Sequence[str]) -> None:
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def _dress(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9, color=MUTED, loc="left")
    axis.set(xlabel=x, ylabel=y)
    axis.grid(True, lw=0.6)
