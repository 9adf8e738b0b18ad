"""``dsac-robot peers``: the BARN benchmark once for each of several policies, with the guard and without, in one table.

Each row is one ``dsac-robot barn`` run with its own folder; rows that the JSON file holds of other policies stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.barn_runs import LEARNED
from dsac_robot.apps.docs_table import begin_of, write_table
from dsac_robot.apps.figures import Figure, report, write_json
from dsac_robot.core.params import ParameterError

GUARDS = ("on", "off")
RUN_COLUMNS = ("world", "trial", "outcome", "time_s", "time_over_ot", "caused", "tick_cpu_ms")
HEAD = (
    "| policy | guard | score | success | contacts (caused) | time-outs | time / OT | same, on worlds all reach "
    "| CPU ms per tick | revision |"
)
COMMAND = "dsac-robot peers"


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("peers")
    parser.add_argument("bundle", nargs="?", help="bundle directory (default: the shipped one)")
    parser.add_argument("--worlds", type=Path, metavar="DIR", help="folder of world_N.world files; left out: no runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a barn folder for each row; a rerun goes on")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="all rows; measured ones are replaced")
    parser.add_argument(
        "--docs", type=Path, metavar="FILE", help=f"page whose table, after {begin_of(COMMAND)!r}, is written anew"
    )
    parser.add_argument(
        "--policies", default=f"{LEARNED},dwa,mppi,pursuit", help="rows to measure (default: %(default)s)"
    )
    parser.add_argument("--guard", default=",".join(GUARDS), help="on, off or both (default: %(default)s)")
    parser.add_argument("--robot", default="jackal", help="as of barn (default: jackal)")
    parser.add_argument("--ids", help="as of barn")
    parser.add_argument("--trials", type=int, default=1, help="as of barn (default: 1)")
    parser.add_argument("--processes", type=int, default=2, help="as of barn (default: 2)")
    parser.add_argument("--allow-unsigned", action="store_true", help="as of barn")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure the rows that are asked for, write all."""
    rows = json.loads(args.json.read_text(encoding="utf-8"))["rows"] if args.json.exists() else []
    if args.worlds is not None:
        guards = args.guard.split(",")
        if set(guards) - set(GUARDS):
            raise ParameterError(f"--guard {args.guard} must be on, off or on,off")
        if args.out is None:
            raise ParameterError("--out DIR is missing: a folder for the runs")
        for policy in args.policies.split(","):
            for guard in guards:
                status, row = _measured(args, policy, guard)
                if status:
                    return status
                rows = [old for old in rows if (old["policy"], old["guard"]) != (policy, guard)]
                rows = sorted([*rows, row], key=_place)
                write_json(args.json, content_of(rows))
    elif not rows:
        raise ParameterError(f"{args.json} holds no rows: give --worlds and --out to measure some")
    print(table_of(rows))
    if args.docs is not None:
        write_table(args.docs, COMMAND, table_of(rows))
    return 0


def _measured(args: argparse.Namespace, policy: str, guard: str) -> tuple[int, dict[str, Any]]:
    """Exit status of ``barn`` for one row, and the row."""
    from dsac_robot.apps.cli import main

    name = f"{policy}_guard_{guard}"
    file = args.out / f"{name}.json"
    argv = ["barn", *([args.bundle] if args.bundle else []), "--worlds", str(args.worlds), "--policy", policy]
    argv += ["--robot", args.robot, "--guard", guard, "--trials", str(args.trials), "--processes", str(args.processes)]
    argv += ["--out", str(args.out / name), "--json", str(file), *(["--ids", args.ids] if args.ids else [])]
    print(f"{policy}, guard {guard}")
    status = main(argv + (["--allow-unsigned"] if args.allow_unsigned else []))
    if status:
        return status, {}
    return 0, row_of(policy, guard, json.loads(file.read_text(encoding="utf-8")))


def row_of(policy: str, guard: str, content: dict[str, Any]) -> dict[str, Any]:
    """The row of one ``barn --json`` file."""
    return {
        "policy": policy,
        "guard": guard,
        "figures": {f["name"]: f["value"] for f in content["figures"]},
        "robot": Path(content["robot"]).stem,
        **{key: content[key] for key in ("profile", "bundle", "revision", "machine")},
        "columns": ",".join(RUN_COLUMNS),
        "runs": [",".join(_cell(r[c]) for c in RUN_COLUMNS) for r in content["results"]],
    }


def _place(row: dict[str, Any]) -> tuple[bool, str, bool]:
    """In the table: the learned policy first, with the guard before without."""
    return row["policy"] != LEARNED, row["policy"], row["guard"] == "off"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(int(value) if isinstance(value, bool) else value)


def content_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The JSON file of these rows."""
    figures = [
        Figure(f"{row['policy']}_guard_{row['guard']}_{name}", value)
        for row in rows
        for name, value in row["figures"].items()
    ]
    return report(figures, rows=list(rows))


def _times(row: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Time over OT of each successful run."""
    runs = [dict(zip(row["columns"].split(","), line.split(","), strict=True)) for line in row["runs"]]
    return {(r["world"], r["trial"]): float(r["time_over_ot"]) for r in runs if r["outcome"] == "success"}


def table_of(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as a Markdown table. "Worlds all reach": runs that succeed in every row."""
    rows = list(rows)
    common = set.intersection(*(set(_times(row)) for row in rows))
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for row in rows:
        f, times = row["figures"], _times(row)
        same = f"{np.mean([times[key] for key in common]):.3f}" if common else ""
        cells = (
            "learned" if row["policy"] == LEARNED else row["policy"],
            row["profile"],
            f"{f['score_mean']:.4f}",
            f"{f['success_rate']:.1%}",
            f"{f['collision_rate'] * f['runs']:.0f} ({f['caused_contacts']:.0f})",
            f"{f['timeout_rate'] * f['runs']:.0f}",
            f"{f['time_over_ot_mean']:.3f}",
            same,
            f"{f['tick_cpu_ms_median']:.2g}",
            f"`{row['revision'][:7]}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    runs = sorted({int(row["figures"]["runs"]) for row in rows})
    return "\n".join([*lines, "", f"Runs in a row: {', '.join(map(str, runs))}; reached in every row: {len(common)}."])
