"""``dsac-robot compare RUN...``: learning curves and scores of groups of training runs, with honest intervals.

Statistics as Agarwal et al. 2021 (arXiv:2108.13264) ask for: interquartile mean, stratified bootstrap intervals over
seeds, probability of improvement, performance profiles.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.params import ParameterError

if TYPE_CHECKING:
    from dsac_robot.apps.compare_data import Group, Table
    from dsac_robot.apps.compare_stats import Statistics
    from dsac_robot.core.values import Floats

AXES = ("updates", "steps", "elapsed_s")
LOWER_IS_BETTER = ("cost", "collisions", "timeouts")
SEEDS_MIN = 3  # below it, an interval says little


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("compare")
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]RUN",
        help="a group: a run folder, or a folder with the run folders of its seeds",
    )
    parser.add_argument("--metric", default="return", help="column of eval.csv, or train/COLUMN of progress.csv")
    parser.add_argument("--x", choices=AXES, default="updates", help="axis of the curves (default: updates)")
    parser.add_argument("--by", choices=("folder", "recipe"), default="folder", help="what makes a group")
    parser.add_argument("--last", type=float, default=0.1, help="score: mean over this last part (default: 0.1)")
    parser.add_argument("--reference", metavar="NAME", help="divide scores by this group's mean on each task")
    parser.add_argument("--ratio-min", type=float, help="target of the lower bound of the IQM's ratio to --reference")
    parser.add_argument("--reps", type=int, default=2000, help="bootstrap samples (default: 2000)")
    parser.add_argument("--out", type=Path, default=Path("out/compare"), metavar="DIR", help="default: out/compare")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, scores and curves")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare; returns the exit status."""
    from dsac_robot.apps.compare_data import normalised, read_groups, tabulate

    _check(args)
    groups = read_groups(args.runs, args.by == "recipe")
    names = [group.name for group in groups]
    if args.reference is not None and args.reference not in names:
        raise ParameterError(f"--reference {args.reference}: no such group; there are {', '.join(names)}")
    table = tabulate(groups, args.metric, args.x, args.last)
    if len(table.tasks) > 1 and args.reference is None:
        raise ParameterError(
            f"{len(table.tasks)} tasks ({', '.join(table.tasks)}) have scores of different units: "
            f"give --reference NAME ({' or '.join(names)}) to divide by, or compare each task alone"
        )
    scores, curves = table.scores, table.curves
    if args.reference is not None:
        scores, curves, _ = normalised(table, args.reference)
    notes = list(table.notes)
    for name, values in scores.items():
        if len(values) < SEEDS_MIN:
            notes.append(f"{name} has {len(values)} seeds: intervals of fewer than {SEEDS_MIN} say little")
    try:
        found, paths, extra = _work(args, table, scores, curves)
    except ModuleNotFoundError as error:
        raise ParameterError(f"{error}: pip install dsac_robot[report]") from error
    figures = figures_of(found, scores, args.reference, args.ratio_min)
    _print(args, groups, table, scores, found, notes)
    print("\n".join(f"picture {path}" for path in paths))
    write_json(args.json, report(figures, **_content(args, table, scores, found, notes), **extra))
    return status(figures, args.strict)


def _check(args: argparse.Namespace) -> None:
    if not 0.0 < args.last <= 1.0:
        raise ParameterError(f"--last {args.last} is outside (0, 1]")
    if not 100 <= args.reps <= 10**6:
        raise ParameterError(f"--reps {args.reps} is outside [100, 1000000]")
    if args.ratio_min is not None and args.reference is None:
        raise ParameterError("--ratio-min is of the ratio to a reference: give --reference NAME")


def _work(
    args: argparse.Namespace, table: Table, scores: Mapping[str, Floats], curves: Mapping[str, Floats]
) -> tuple[Statistics, list[Path], dict[str, Any]]:
    """Statistics, pictures, and the curves for the JSON."""
    from dsac_robot.apps.compare_figures import Words, draw_aggregates, draw_curves, draw_improvement, draw_profiles
    from dsac_robot.apps.compare_stats import curve_band, statistics

    found = statistics(scores, args.metric.removeprefix("train/") in LOWER_IS_BETTER, args.reps)
    bands = {
        name: [curve_band(values[:, t : t + 1]) for t in range(len(table.tasks))]
        for name, values in table.curves.items()
    }
    pooled = {name: curve_band(values) for name, values in curves.items()}
    score = args.metric if args.reference is None else f"{args.metric} / mean of {args.reference}"
    words = Words(args.metric, score, args.x)
    args.out.mkdir(parents=True, exist_ok=True)
    paths = [
        draw_curves(args.out / "curves.png", table, bands, pooled, words),
        draw_aggregates(args.out / "aggregates.png", found, words),
        draw_profiles(args.out / "profiles.png", found, words),
    ]
    if found.improvement:
        paths.append(draw_improvement(args.out / "improvement.png", found))
    drawn = {
        task: {
            args.x: table.x[t].tolist(),
            **{name: {key: _plain(value) for key, value in vars(bands[name][t]).items()} for name in bands},
        }
        for t, task in enumerate(table.tasks)
    }
    return found, paths, {"curves": drawn}


def figures_of(
    found: Statistics, scores: Mapping[str, Floats], reference: str | None, ratio_min: float | None
) -> list[Figure]:
    """The figures (DESIGN section 12). ``iqm_ratio_A_over_B`` is there where all scores are above 0."""
    figures = []
    for name, aggregates in found.aggregates.items():
        for key, interval in aggregates.items():
            figures += [
                Figure(f"{key}_{name}", interval.value),
                Figure(f"{key}_{name}_low", interval.low),
                Figure(f"{key}_{name}_high", interval.high),
            ]
        figures.append(Figure(f"runs_{name}", scores[name].size))
    for (first, second), interval in found.improvement.items():
        label = f"probability_of_improvement_{first}_over_{second}"
        figures += [Figure(label, interval.value), Figure(f"{label}_low", interval.low)]
        figures.append(Figure(f"{label}_high", interval.high))
    for (first, second), interval in found.ratio.items():
        label = f"iqm_ratio_{first}_over_{second}"
        value, low, high = interval.value, interval.low, interval.high
        if first == reference:  # the reference is the denominator
            label = f"iqm_ratio_{second}_over_{first}"
            value, low, high = 1.0 / value, 1.0 / high, 1.0 / low
        target = ratio_min if reference in (first, second) else None
        figures += [Figure(label, value), Figure(f"{label}_low", low, "", target), Figure(f"{label}_high", high)]
    return figures


def _print(
    args: argparse.Namespace,
    groups: list[Group],
    table: Table,
    scores: Mapping[str, Floats],
    found: Statistics,
    notes: list[str],
) -> None:
    print(
        f"{args.metric}, mean over the last {100.0 * args.last:g} % of {args.x}; intervals: 95 %, stratified bootstrap"
    )
    width = max(len(group.name) for group in groups)
    for t, task in enumerate(table.tasks):
        print(f"\n{task}, to {args.x} {table.x[t, -1]:g}")
        for name, values in table.scores.items():
            listed = " ".join(f"{value:.5g}" for value in values[:, t])
            print(
                f"  {name:<{width}}  mean {values[:, t].mean():.5g}  seeds {_numbers(table.seeds[name][t])}: {listed}"
            )
    print("\nall tasks" if len(table.tasks) > 1 else "")
    for name, aggregates in found.aggregates.items():
        iqm = aggregates["iqm"]
        print(f"  {name:<{width}}  IQM {iqm.value:.5g} [{iqm.low:.5g}, {iqm.high:.5g}]  of {scores[name].size} runs")
    for (first, second), interval in found.improvement.items():
        print(f"  P({first} better than {second}) = {interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
    for (first, second), interval in found.ratio.items():
        print(f"  IQM of {first} / IQM of {second} = {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    for note in notes:
        print(f"note: {note}")


def _numbers(seeds: tuple[int, ...]) -> str:
    return ",".join(str(seed) for seed in seeds)


def _content(
    args: argparse.Namespace, table: Table, scores: Mapping[str, Floats], found: Statistics, notes: list[str]
) -> dict[str, Any]:
    return {
        "metric": args.metric,
        "axis": args.x,
        "last": args.last,
        "reference_group": args.reference,
        "tasks": list(table.tasks),
        "scores": {name: values.tolist() for name, values in table.scores.items()},
        "scores_normalised": {name: values.tolist() for name, values in scores.items()},
        "seeds": {name: [list(seeds) for seeds in by_task] for name, by_task in table.seeds.items()},
        "profiles": {
            "thresholds": found.thresholds.tolist(),
            **{
                name: {key: _plain(value) for key, value in vars(band).items()} for name, band in found.profiles.items()
            },
        },
        "aggregates": {
            name: {key: asdict(interval) for key, interval in by_key.items()}
            for name, by_key in found.aggregates.items()
        },
        "notes": notes,
    }


def _plain(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
