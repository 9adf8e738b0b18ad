"""Reading run folders of ``train``: the record, and the columns of progress.csv and eval.csv over updates."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.run_record import FILE, read_record
from dsac_robot.core.params import ParameterError
from dsac_robot.core.values import Floats

AXES = ("updates", "steps", "elapsed_s")


@dataclass(frozen=True)
class Curves:
    """A table by column. Rows where a cell is empty hold NaN there."""

    columns: Mapping[str, Floats]  # (R,) each

    def __len__(self) -> int:
        return len(self.columns.get("updates", ()))

    def has(self, name: str) -> bool:
        """Whether there is a column with at least one number."""
        return name in self.columns and bool(np.isfinite(self.columns[name]).any())

    def xy(self, axis: str, name: str) -> tuple[Floats, Floats]:
        """A column over an axis, empty cells left out. # (K,), (K,)"""
        x, y = self.columns[axis], self.columns[name]
        known = np.isfinite(x) & np.isfinite(y)
        return x[known], y[known]


@dataclass(frozen=True)
class TrainRun:
    """One run folder."""

    folder: Path
    record: Mapping[str, Any]
    progress: Curves
    evaluation: Curves

    @property
    def task(self) -> str:
        """Task and robot: what scores are comparable within."""
        robot = self.record["robot"]
        return str(self.record["task"]) + (f" {robot}" if robot else "")

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.record["seed"])

    def table_of(self, metric: str) -> Curves:
        """The table that holds ``metric``: evaluation where it has it, else progress; ``train/NAME`` asks for the
        latter. ParameterError names what there is."""
        name = metric.removeprefix("train/")
        tables = (self.progress,) if metric.startswith("train/") else (self.evaluation, self.progress)
        for table in tables:
            if table.has(name):
                return table
        known = [n for n in self.evaluation.columns if n not in AXES] + [f"train/{n}" for n in self.progress.columns]
        raise ParameterError(f"{self.folder} has no values of metric {metric!r}; it has: {', '.join(known) or 'none'}")


def read_run(folder: Path) -> TrainRun:
    """Read a run folder, whatever state it is in. ParameterError names the file that is absent or broken."""
    record = read_record(folder)
    return TrainRun(folder, record, read_curves(folder / "progress.csv"), read_curves(folder / "eval.csv"))


def run_folders(folder: Path) -> list[Path]:
    """``folder`` if it is a run folder, else those below it, in order. ParameterError where there is none."""
    if not folder.is_dir():
        raise ParameterError(f"{folder} is no folder")
    if (folder / FILE).exists():
        return [folder]
    found = sorted(path.parent for path in folder.rglob(FILE))
    if not found:
        raise ParameterError(f"{folder} holds no run of `dsac-robot train`: no {FILE} in it or below")
    return found


def read_curves(path: Path) -> Curves:
    """A CSV of a run. A run that died and was resumed from an earlier checkpoint has done some updates twice: the
    later rows count. ``elapsed_s``, which starts anew with each session, is made to go on. An absent file has no rows.
    """
    if not path.exists():
        return Curves({})
    with open(path, newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if None not in row.values()]  # a line cut by a kill
    kept: list[dict[str, float]] = []
    offset = last = 0.0
    for row in rows:
        values = {name: _number(text, path) for name, text in row.items()}
        if values["elapsed_s"] < last:
            offset += last
        last = values["elapsed_s"]
        values["elapsed_s"] = last + offset
        while kept and kept[-1]["updates"] >= values["updates"]:
            kept.pop()
        kept.append(values)
    names = list(kept[0]) if kept else []
    return Curves({name: np.array([values[name] for values in kept]) for name in names})


def _number(text: str, path: Path) -> float:
    try:
        return float(text) if text else float("nan")
    except ValueError as error:
        raise ParameterError(f"{path}: {text!r} is not a number") from error
