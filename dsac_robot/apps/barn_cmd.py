"""``dsac-robot barn``: the BARN navigation benchmark in MuJoCo, in process, with the classes that the nodes use.

Protocol (Perille et al. 2020; competition rules 2022 to 2024): start (-2, 3, 90 degrees), goal 10 m ahead, success
within 1 m of it, any contact ends the run, 100 s limit. OT = path length / 2 m/s, score of a run =
success * OT / clip(AT, 2 OT, 8 OT), at most 0.5. Trials differ by seed in noise and start pose.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsac_robot.apps.barn_runs import LEARNED, Job, Run, figures_of, guard_params, work
from dsac_robot.apps.figures import git_revision, report, status, write_json
from dsac_robot.apps.parallel import run_all
from dsac_robot.core.files import share_path
from dsac_robot.core.params import ParameterError, as_dict

WORST_SHOWN = 10


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("barn")
    parser.add_argument("bundle", nargs="?", help="bundle directory (default: the shipped one)")
    parser.add_argument("--worlds", type=Path, required=True, metavar="DIR", help="folder of world_N.world files")
    parser.add_argument("--ids", help="worlds to run, such as 1,5,10-20 (default: all in DIR)")
    parser.add_argument("--trials", type=int, default=10, help="runs of each world (default: 10)")
    parser.add_argument(
        "--policy", default=LEARNED, metavar="NAME", help="bundle, or a peer: dwa, mppi, pursuit (default: bundle)"
    )
    parser.add_argument("--guard", choices=("on", "off"), default="on", help="guard in the loop (default: on)")
    parser.add_argument("--profile", choices=("static", "dynamic"), default="static", help="the guard's parameter file")
    parser.add_argument("--monitor", choices=("on", "off"), default="on", help="OOD monitor in the loop (default: on)")
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--processes", type=int, default=2, help="runs at the same time (default: 2)")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="runs as they end (a rerun goes on), tables, pictures of failed runs"
    )
    parser.add_argument(
        "--ros", action="store_true", help="through the real ROS 2 graph, at most in real time: choose a few --ids"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures, the table of worlds and all runs")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run)


def parse_ids(text: str) -> tuple[int, ...]:
    """World numbers from ``1,5,10-20``. Raises ParameterError naming the part that is neither."""
    ids: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ParameterError(f"--ids {text}: {part!r} is neither a number nor a range such as 10-20")
        ids += range(int(first), int(last if dash else first) + 1)
    return tuple(ids)


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """All runs that are asked for. Raises ParameterError naming the option that cannot be."""
    from sim.worlds import barn_ids

    present = barn_ids(args.worlds)
    ids = parse_ids(args.ids) if args.ids else present
    missing = sorted(set(ids) - set(present))
    if missing:
        raise ParameterError(f"--ids: no world {missing[0]} in {args.worlds}; it has {present[0]} to {present[-1]}")
    if args.trials < 1:
        raise ParameterError(f"--trials {args.trials} must be at least 1")
    learned = args.policy == LEARNED
    if args.ros and not learned:
        raise ParameterError(f"--ros runs the nodes of a bundle, not --policy {args.policy}: leave one out")
    if args.ros and args.guard == "off":
        raise ParameterError("--ros runs the whole graph, and in it nothing reaches the base but by the guard")
    bundle = args.bundle or str(share_path("config", "bundles", "navigate_jackal"))
    guard = args.profile if args.guard == "on" else "off"
    monitor = args.guard == "on" and args.monitor == "on" and learned
    pictures = str(args.out / "failed") if args.out else ""
    common = (str(args.worlds), bundle, args.robot, guard, monitor, args.allow_unsigned, args.policy, pictures)
    return [Job(number, trial, *common) for trial in range(args.trials) for number in ids]


def header_of(args: argparse.Namespace, first: Job) -> dict[str, Any]:
    """What is measured: runs with another one may not be mixed with these."""
    if first.policy == LEARNED:
        from dsac_robot.bundle.deployed import load_bundle

        bundle = load_bundle(first.bundle, allow_unsigned=first.allow_unsigned).digest
    else:
        from dsac_robot.core.robot import load_robot
        from sim.peers import make_peer

        make_peer(first.policy, load_robot(first.robot))  # an unknown name is an error now
        bundle = ""
    return {
        "policy": first.policy,
        "bundle": bundle,
        "robot": first.robot,
        "profile": first.guard,
        "guard": as_dict(guard_params(first.guard)) if first.guard != "off" else None,
        "monitor": first.monitor,
        "ros": args.ros,
        "revision": git_revision(),
    }


def run(args: argparse.Namespace) -> int:
    """Run the benchmark."""
    jobs = jobs_of(args)
    header = header_of(args, jobs[0])
    runs: list[Run] = []
    store = None
    if args.out:
        from dsac_robot.apps.barn_store import Store

        store = Store(args.out, header)
        wanted = {(job.world, job.trial) for job in jobs}
        runs = [done for done in store.runs if (done.world, done.trial) in wanted]
    finished = {(done.world, done.trial) for done in runs}
    left = [job for job in jobs if (job.world, job.trial) not in finished]
    if finished:
        print(f"{len(finished)} runs are in {args.out} already, {len(left)} are left", file=sys.stderr)
    started = time.monotonic()
    worker, processes = work, args.processes
    if args.ros:
        from dsac_robot.apps.barn_ros import work as worker

        processes = 1
    for count, result in enumerate(run_all(worker, left, processes), start=1):
        runs.append(result)
        if store is not None:
            store.add(result)
        seconds = (time.monotonic() - started) / count * (len(left) - count)
        _progress(runs, len(jobs), seconds)
    runs.sort(key=lambda r: (r.world, r.trial))
    figures = figures_of(runs)
    for figure in figures:
        verdict = "" if figure.ok is None else f"  target {figure.target}: {'met' if figure.ok else 'MISSED'}"
        print(f"{figure.name:>18} {figure.value:.4f}{verdict}")
    _print_failed(runs)
    if store is not None:
        store.write_tables()
        print(f"runs, tables and pictures of failed runs are in {args.out}")
    from dsac_robot.apps.barn_store import by_world

    content = report(figures, **header, worlds=by_world(runs), results=[asdict(r) for r in runs])
    write_json(args.json, content)
    return status(figures, args.strict)


def _progress(runs: Sequence[Run], total: int, left_s: float) -> None:
    good = sum(r.outcome == "success" for r in runs) / len(runs)
    mean = sum(r.score for r in runs) / len(runs)
    line = f"{len(runs)}/{total} runs | success {good:.1%} | score {mean:.4f} | left {left_s:.0f} s"
    terminal = sys.stderr.isatty()
    if terminal or len(runs) % 25 == 0 or len(runs) == total:
        print(line, end="\r" if terminal and len(runs) < total else "\n", file=sys.stderr, flush=True)


def _print_failed(runs: Sequence[Run]) -> None:
    failed = [f"{r.world} ({r.outcome} at {r.time_s:.1f} s)" for r in runs if r.outcome != "success"]
    if failed:
        more = f" and {len(failed) - WORST_SHOWN} more" if len(failed) > WORST_SHOWN else ""
        print(f"failed: {', '.join(failed[:WORST_SHOWN])}{more}")
