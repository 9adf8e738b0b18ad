"""Runs in groups for ``compare``: who belongs together, and their scores and curves as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsac_robot.apps.run_curves import TrainRun, read_run, run_folders
from dsac_robot.apps.run_record import method_of
from dsac_robot.core.params import ParameterError
from dsac_robot.core.values import Floats

POINTS = 50  # of a resampled curve


@dataclass(frozen=True)
class Group:
    """Runs of one method: by task, in the order of their seeds."""

    name: str
    runs: Mapping[str, tuple[TrainRun, ...]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, sorted."""
        return tuple(sorted(self.runs))


@dataclass(frozen=True)
class Table:
    """Numbers of all groups, tasks in one order; S is each group's own number of seeds."""

    tasks: tuple[str, ...]
    scores: Mapping[str, Floats]  # (S, T) mean of the metric over the last part of training
    curves: Mapping[str, Floats]  # (S, T, POINTS)
    x: Floats  # (T, POINTS) where the curves were sampled
    seeds: Mapping[str, tuple[tuple[int, ...], ...]]  # of each task
    notes: tuple[str, ...]  # what was left out, and why


def read_groups(arguments: Sequence[str], by_recipe: bool) -> list[Group]:
    """The groups of the command line: one for each ``PATH`` or ``NAME=PATH``, or one for each method that is found.

    ParameterError names a folder without runs, a name given twice, and a seed that is twice in a group.
    """
    named: dict[str, list[TrainRun]] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        path = Path(text if equals else argument)
        runs = [read_run(folder) for folder in run_folders(path)]
        label = name if equals else path.resolve().name
        if label in named and not by_recipe:
            raise ParameterError(f"two groups are named {label}: give names, such as first={path}")
        named.setdefault(label, []).extend(runs)
    if by_recipe:
        named = _by_recipe([run for runs in named.values() for run in runs])
    return [_group(name, runs) for name, runs in named.items()]


def _group(name: str, runs: Sequence[TrainRun]) -> Group:
    by_task: dict[str, list[TrainRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        others = by_task.setdefault(run.task, [])
        twin = next((other for other in others if other.seed == run.seed), None)
        if twin is not None:
            raise ParameterError(
                f"group {name}: seed {run.seed} of {run.task} is there twice: {twin.folder} and {run.folder}; "
                "runs of one seed are not independent: leave one out, or name two groups"
            )
        others.append(run)
    return Group(name, {task: tuple(runs) for task, runs in by_task.items()})


def _by_recipe(runs: Sequence[TrainRun]) -> dict[str, list[TrainRun]]:
    """Groups of equal method, named by the settings in which they differ. The environment's id is the task's."""
    methods = [{k: v for k, v in method_of(run.record["recipe"]).items() if k != "environment.id"} for run in runs]
    keys = sorted({key for method in methods for key in method})
    differing = [key for key in keys if len({repr(method.get(key)) for method in methods}) > 1]
    found: dict[str, list[TrainRun]] = {}
    for run, method in zip(runs, methods, strict=True):
        label = ", ".join(f"{key.partition('.')[2]}={method.get(key)}" for key in differing) or "all runs"
        found.setdefault(label, []).append(run)
    return found


def tabulate(groups: Sequence[Group], metric: str, axis: str, last: float) -> Table:
    """Scores and curves. All groups must have runs of the same tasks; of each task as many seeds are used as the
    group has for all tasks, and each task's curves end where the shortest of them ends. What is left out is noted.

    ``last``: the score of a run is the mean of its values in that last part of the common axis. Raises ParameterError
    where tasks differ or a run lacks the metric.
    """
    tasks = groups[0].tasks
    for group in groups[1:]:
        if group.tasks != tasks:
            raise ParameterError(
                f"group {groups[0].name} has runs of {', '.join(tasks)}, group {group.name} of "
                f"{', '.join(group.tasks)}: only runs of the same tasks can be compared"
            )
    notes: list[str] = []
    used = {group.name: _rectangle(group, notes) for group in groups}
    ends = []
    for number, task in enumerate(tasks):
        lasts = {
            run.folder: run.table_of(metric).xy(axis, _column(metric))[0][-1]
            for runs in used.values()
            for run in runs[number]
        }
        end = min(lasts.values())
        longer = sum(value > end * 1.01 for value in lasts.values())
        if longer:
            notes.append(f"{task}: {longer} of {len(lasts)} runs go on after {axis} {end:g}, where the shortest ends")
        ends.append(end)
    x = np.stack([np.linspace(0.0, end, POINTS) for end in ends])
    curves, scores = {}, {}
    for name, by_task in used.items():
        sampled = [[_sample(run, metric, axis, x[t]) for run in runs] for t, runs in enumerate(by_task)]
        curves[name] = np.array(sampled).transpose(1, 0, 2)
        final = [[_final(run, metric, axis, ends[t], last) for run in runs] for t, runs in enumerate(by_task)]
        scores[name] = np.array(final).T
    seeds = {name: tuple(tuple(run.seed for run in runs) for runs in by_task) for name, by_task in used.items()}
    return Table(tasks, scores, curves, x, seeds, tuple(notes))


def _rectangle(group: Group, notes: list[str]) -> list[tuple[TrainRun, ...]]:
    count = min(len(runs) for runs in group.runs.values())
    for task, runs in group.runs.items():
        if len(runs) > count:
            left = ", ".join(str(run.seed) for run in runs[count:])
            notes.append(f"{group.name}: seeds {left} of {task} are left out: another task has {count} seeds only")
        unfinished = [str(run.seed) for run in runs[:count] if run.record["status"] != "finished"]
        if unfinished:
            notes.append(f"{group.name}: seeds {', '.join(unfinished)} of {task} are not finished")
    return [group.runs[task][:count] for task in group.tasks]


def _column(metric: str) -> str:
    return metric.removeprefix("train/")


def _sample(run: TrainRun, metric: str, axis: str, x: Floats) -> Floats:
    """The run's curve at x, linear between its rows; before its first row NaN."""
    own_x, own_y = run.table_of(metric).xy(axis, _column(metric))
    return np.interp(x, own_x, own_y, left=np.nan)


def _final(run: TrainRun, metric: str, axis: str, end: float, last: float) -> float:
    """Mean over the rows in the last part of [0, end]; the row nearest to the end where there is none."""
    x, y = run.table_of(metric).xy(axis, _column(metric))
    inside = (x >= (1.0 - last) * end) & (x <= end * (1.0 + 1e-9))
    return float(y[inside].mean()) if inside.any() else float(np.interp(end, x, y))


def normalised(table: Table, reference: str) -> tuple[Mapping[str, Floats], Mapping[str, Floats], Floats]:
    """Scores and curves divided by the reference group's mean score on each task, and those means. # (T,)

    Raises ParameterError where a mean is not above 0: ratios of such scores mean nothing.
    """
    means = table.scores[reference].mean(axis=0)
    for task, mean in zip(table.tasks, means, strict=True):
        if not mean > 0.0:
            raise ParameterError(
                f"--reference {reference}: its mean on {task} is {mean:.4g}; scores can be divided by it only above 0: "
                "compare each task alone, or choose another metric"
            )
    scores = {name: values / means for name, values in table.scores.items()}
    curves = {name: values / means[:, None] for name, values in table.curves.items()}
    return scores, curves, means
