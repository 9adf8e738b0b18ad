"""``dsac-robot falsify``: search for a world and commands that bring the guarded robot into contact.

The cross-entropy method over posts, commands and forces on the body, several searches from different seeds. Each
violation (contact at above 0.02 m/s while all assumptions held for the second before) is written to a file of its own
in --out; ``--replay FILE`` drives one again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.barn_runs import guard_params
from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.apps.parallel import run_all
from dsac_robot.core.navigate import CAUSED_MPS
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot, load_robot

if TYPE_CHECKING:
    from sim.falsify import Case, Verdict


@dataclass(frozen=True)
class Job:
    """One search."""

    seed: int
    robot: Robot
    profile: str
    population: int
    generations: int
    forces: bool


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("falsify", description=__doc__)
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--profile", choices=("static", "dynamic"), default="static", help="the guard's parameter file")
    parser.add_argument("--searches", type=int, default=4, help="independent searches (default: 4)")
    parser.add_argument("--population", type=int, default=30, help="cases of a generation (default: 30)")
    parser.add_argument("--generations", type=int, default=15, help="of each search (default: 15)")
    parser.add_argument("--no-forces", action="store_true", help="commands and posts alone, nothing pushes the body")
    parser.add_argument("--seed", type=int, default=0, help="of the first search (default: 0)")
    parser.add_argument("--processes", type=int, default=2, help="searches at the same time (default: 2)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write violations there, one file each")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="drive one case again, and nothing else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a violation is found")
    parser.set_defaults(run=run)


def work(jobs: Iterator[Job]) -> Iterator[list[tuple[Case, Verdict]]]:
    """Searches, in this process."""
    from sim.falsify import search

    for job in jobs:
        guard = guard_params(job.profile)
        yield list(search(job.robot, guard, job.seed, job.population, job.generations, job.forces))


def run(args: argparse.Namespace) -> int:
    """Search, or replay."""
    for name, value, low in (
        ("--searches", args.searches, 1),
        ("--population", args.population, 4),
        ("--generations", args.generations, 1),
        ("--seed", args.seed, 0),
    ):
        if value < low:
            raise ParameterError(f"{name} {value} must be at least {low}")
    robot = load_robot(args.robot)
    if args.replay:
        return _replay(args, robot)
    jobs = [
        Job(args.seed + i, robot, args.profile, args.population, args.generations, not args.no_forces)
        for i in range(args.searches)
    ]
    started, tried, found = time.monotonic(), [], []
    for count, cases in enumerate(run_all(work, jobs, args.processes), 1):
        tried += [verdict for _, verdict in cases]
        found += [(case, verdict) for case, verdict in cases if verdict.violation]
        took_s = time.monotonic() - started
        least = min(verdict.margin_m for _, verdict in cases)
        print(
            f"search {count}/{len(jobs)}: {len(cases)} cases, least margin {least:.4f} m, violations so far "
            f"{len(found)} | left {took_s / count * (len(jobs) - count):.0f} s",
            file=sys.stderr,
        )
    for index, (case, verdict) in enumerate(found):
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            path = args.out / f"violation_{args.seed}_{index}.json"
            path.write_text(json.dumps({"profile": args.profile, **case.as_dict(), "verdict": asdict(verdict)}) + "\n")
            print(path)
    figures = [
        Figure("violations", len(found), "", 0, at_least=False),
        Figure("cases", len(tried)),
        Figure("searches", len(jobs)),
        Figure("margin_m_min", min(v.margin_m for v in tried), "m"),
        Figure("contacts_assumption_broken", sum(v.touch_speed_mps > CAUSED_MPS and not v.violation for v in tried)),
        Figure("way_m_mean", sum(v.way_m for v in tried) / len(tried), "m"),
    ]
    for figure in figures:
        print(f"{figure.name:>30} {figure.value:.6g} {figure.unit}")
    write_json(args.json, report(figures, robot=robot.name, profile=args.profile, first_seed=args.seed))
    return status(figures, args.strict)


def _replay(args: argparse.Namespace, robot: Robot) -> int:
    from sim.falsify import Case, judge

    try:
        values = json.loads(args.replay.read_text(encoding="utf-8"))
        case, profile = Case.of(values), str(values["profile"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ParameterError(f"{args.replay} is no case that falsify wrote: {error}") from error
    verdict = judge(case, robot, guard_params(profile))
    print(verdict)
    return 1 if args.strict and verdict.violation else 0
