"""``dsac-robot bench bf16``: does training in bf16 reach the return of training in fp32? Resumable, as ``bench sb3``.

Same task, seeds, steps and updates for both; a run's score is the mean of its last ten evaluations.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsac_robot.apps.bench_sb3 import add_budget, budget, check_budget, complete, finished
from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.apps.train_seeds import LocalLauncher, Planned, parse_seeds

PRECISIONS = ("fp32", "bf16")
EVALUATIONS = 10  # averaged


def register(commands: Any) -> None:
    """Add the benchmark."""
    parser = commands.add_parser("bf16", help="returns of bf16 against fp32; stop and start it at will")
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench_bf16"), metavar="DIR", help="default: out/bench_bf16"
    )
    parser.add_argument("--task", default="HalfCheetah-v5", help="default: HalfCheetah-v5")
    parser.add_argument("--seeds", default="0-4", metavar="LIST", help="default: 0-4")
    add_budget(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if the target is missed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what is left, then compare."""
    check_budget(args)
    seeds = parse_seeds(args.seeds)
    planned = [
        _planned(args, precision, seed)
        for seed in seeds
        for precision in PRECISIONS
        if not finished(_folder(args, precision, seed), args.updates)
    ]
    print(f"{len(planned)} of {len(PRECISIONS) * len(seeds)} runs to do in {args.out}", file=sys.stderr)
    return _compare(args) if complete(planned, LocalLauncher(args.processes)) else 1


def _folder(args: argparse.Namespace, precision: str, seed: int) -> Path:
    return Path(args.out) / precision / f"{args.task}_{seed}"


def _planned(args: argparse.Namespace, precision: str, seed: int) -> Planned:
    folder = _folder(args, precision, seed)
    arguments = budget(args, folder, args.task, seed, [f"learner.precision={precision}"])
    return Planned(seed, folder, tuple(arguments), precision)


def _compare(args: argparse.Namespace) -> int:
    from dsac_robot.apps.cli import main

    path = args.json or args.out / "bf16.json"
    command = ["compare", *(str(args.out / precision) for precision in PRECISIONS), "--out", str(args.out)]
    last = min(1.0, EVALUATIONS * args.eval_updates / args.updates)
    found = main([*command, "--last", str(last), "--json", str(path)])
    if found:
        return found
    told = json.loads(path.read_text(encoding="utf-8"))
    figure = verdict({row["name"]: row["value"] for row in told["figures"]})
    told["figures"] += report([figure])["figures"]
    write_json(path, told)
    print(f"{figure.name} {figure.value:.4g}  {'ok' if figure.ok else 'missed: target 0'}")
    return status([figure], args.strict)


def verdict(values: Mapping[str, float]) -> Figure:
    """How far the IQM of bf16 lies above the lower end of fp32's interval: not below it is what is asked for."""
    return Figure("bf16_iqm_above_lower_end_of_fp32", values["iqm_bf16"] - values["iqm_fp32_low"], "return", 0.0)
