"""The folder of a BARN benchmark: every finished run at once on disk, so that a benchmark can be continued."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.barn_runs import Run
from dsac_robot.core.params import ParameterError

COLUMNS = ("world", "runs", "success_rate", "score_mean", "time_s_median", "contacts", "caused", "timeouts")


class Store:
    """``runs.jsonl``: a header that says what is measured, then one line a run. Raises ParameterError where the folder
    holds runs of something else, naming what differs."""

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        self.folder, self.path = folder, folder / "runs.jsonl"
        self.runs: list[Run] = []
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._read(json.loads(json.dumps(header)))
        else:
            self.path.write_text(json.dumps(header) + "\n", encoding="utf-8")

    def _read(self, header: dict[str, Any]) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        try:
            found = json.loads(lines[0])
            whole = [line for line in lines[1:] if line.endswith("\n")]  # a killed benchmark may leave half a line
            self.runs = [Run(**json.loads(line)) for line in whole]
        except (IndexError, TypeError, ValueError) as error:
            raise ParameterError(f"{self.path}: damaged ({error}): give another --out, or delete it") from error
        differs = [key for key in {*header, *found} if header.get(key) != found.get(key)]
        if differs:
            key = sorted(differs)[0]
            raise ParameterError(
                f"{self.path} holds runs with {key} {found.get(key)}, asked is {header.get(key)}: give another --out"
            )
        if len(whole) < len(lines) - 1:
            self.path.write_text("".join([lines[0], *whole]), encoding="utf-8")

    def add(self, run: Run) -> None:
        """Keep a finished run, on disk when this returns."""
        self.runs.append(run)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run)) + "\n")

    def write_tables(self) -> None:
        """``worlds.csv``, a row a world, and ``runs.csv``, a row a run."""
        rows = by_world(self.runs)
        with (self.folder / "worlds.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        names = [f.name for f in fields(Run) if f.name != "reasons"]
        with (self.folder / "runs.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(names)
            table.writerows([getattr(run, name) for name in names] for run in self.runs)


def by_world(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a world, worst first."""
    rows = []
    for world in sorted({run.world for run in runs}):
        mine = [run for run in runs if run.world == world]
        good = [run.time_s for run in mine if run.outcome == "success"]
        values = (
            world,
            len(mine),
            len(good) / len(mine),
            float(np.mean([run.score for run in mine])),
            float(np.median(good)) if good else None,
            sum(run.outcome == "contact" for run in mine),
            sum(run.caused for run in mine),
            sum(run.outcome == "timeout" for run in mine),
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return sorted(rows, key=lambda row: (row["score_mean"], row["world"]))
