"""``dsac-robot bench``: how fast the parts are, as ratios measured in one run, held against what was promised."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dsac_robot.apps.figures import report, status, write_json
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import load_robot


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("bench", help="measure how fast the parts are")
    parts = parser.add_subparsers(title="parts", required=True, metavar="PART")
    sim = parts.add_parser("sim", help="the simulator against its own physics, one core against two, and real time")
    sim.add_argument(
        "--robot",
        action="append",
        metavar="NAME",
        help="robot name or .yaml file; may be given again, the first one is held against the bare physics "
        "(default: jackal)",
    )
    sim.add_argument("--worlds", type=Path, metavar="DIR", help="folder of world_N.world files (default: clutter)")
    sim.add_argument("--seconds", type=float, default=8.0, help="wall time of each measurement (default: 8)")
    sim.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    sim.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    sim.set_defaults(run=run_sim)


def run_sim(args: argparse.Namespace) -> int:
    """Run ``bench sim``."""
    if not 0.2 <= args.seconds <= 600.0:
        raise ParameterError(f"--seconds {args.seconds} is outside [0.2, 600]")
    robots = [load_robot(name) for name in args.robot or ["jackal"]]

    from dsac_robot.apps.bench_sim import bench, worlds_of
    from sim.worlds import WorldError

    try:
        worlds = worlds_of(args.worlds)
    except WorldError as error:
        raise ParameterError(f"--worlds {error}") from error
    figures, more = bench(robots, worlds, args.seconds)
    for figure in figures:
        verdict = "" if figure.ok is None else f"  target {figure.target}: {'met' if figure.ok else 'MISSED'}"
        print(f"{figure.name:>36} {figure.value:9.4f} {figure.unit}{verdict}")
    write_json(args.json, report(figures, worlds=[world.name for world in worlds], **more))
    return status(figures, args.strict)
