"""Pictures of an evaluation on a family: the performance profile, the instances, and what the pace depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsac_robot.apps.eval_figures import PACE_MAX, matrix
from dsac_robot.apps.report_style import MUTED, pyplot, save

if TYPE_CHECKING:
    from dsac_robot.apps.eval_cmd import Episode
    from dsac_robot.apps.eval_figures import Summary
    from sim.family import Family, Instance

MAIN, BAD = "#2364aa", "#d7263d"
DPI = 130


def draw_all(
    result: Summary, episodes: Sequence[Episode], members: Sequence[Instance], family: Family, folder: Path
) -> list[Path]:
    """Write profile.png, instances.png and parameters.png to ``folder``; their paths."""
    return [
        _profile(result, folder / "profile.png"),
        _instances(result, episodes, folder / "instances.png"),
        _parameters(result, members, family, folder / "parameters.png"),
    ]


def _profile(result: Summary, path: Path) -> Path:
    figure, ax = pyplot().subplots(figsize=(5.5, 3.5), constrained_layout=True)
    curve = result.profile
    ax.fill_between(curve["pace"], curve["low"], curve["high"], color=MAIN, alpha=0.2, lw=0)
    ax.plot(curve["pace"], curve["share"], color=MAIN)
    ax.set(xlabel="pace τ", ylabel="share of episodes with a pace above τ", ylim=(0.0, 1.02), xlim=(0.0, PACE_MAX))
    ax.grid(True)
    return save(figure, path, DPI)


def _instances(result: Summary, episodes: Sequence[Episode], path: Path) -> Path:
    count = len(result.rows)
    paces = matrix(episodes, count, [episode.pace for episode in episodes])
    order = np.argsort([row["pace_mean"] for row in result.rows])
    figure, ax = pyplot().subplots(figsize=(6.5, 0.8 + 0.26 * count), constrained_layout=True)
    for place, i in enumerate(order):
        ax.plot(paces[:, i], np.full(len(paces), place), "|", ms=8, color=MUTED)
        ax.plot(paces[:, i].mean(), place, "o", ms=5, color=BAD if result.rows[i]["name"] == result.worst else MAIN)
    ax.set_yticks(range(count), [result.rows[i]["name"] for i in order])
    ax.set(xlabel="pace (strokes: episodes; dot: mean)", xlim=(-0.01, PACE_MAX + 0.01))
    ax.grid(True, axis="x")
    return save(figure, path, DPI)


def _parameters(result: Summary, members: Sequence[Instance], family: Family, path: Path) -> Path:
    """Mean pace of each instance against each parameter's true value."""
    from sim.family import nominal_value

    keys = list(family.ranges)
    columns = min(3, len(keys))
    lines = -(-len(keys) // columns)
    figure, axes = pyplot().subplots(
        lines, columns, figsize=(3.2 * columns, 2.3 * lines), sharey=True, squeeze=False, constrained_layout=True
    )
    paces = [row["pace_mean"] for row in result.rows]
    for ax, key in zip(axes.flat, keys, strict=False):
        nominal = nominal_value(family.nominal, key)
        values = [member.values.get(key, nominal) for member in members]
        ax.axvline(nominal, color=MUTED, lw=0.8, ls=":")
        ax.plot(values, paces, "o", ms=4, color=MAIN)
        if family.ranges[key].spread == "log":
            ax.set_xscale("log")
            ends = [family.ranges[key].at(unit, nominal) for unit in (0.0, 1.0)]
            ax.set_xticks(sorted({*ends, nominal}), [f"{value:.2g}" for value in sorted({*ends, nominal})])
            ax.minorticks_off()
        ax.set_xlabel(key)
        ax.grid(True)
    for ax in axes.flat[len(keys) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("mean pace")
    return save(figure, path, DPI)
