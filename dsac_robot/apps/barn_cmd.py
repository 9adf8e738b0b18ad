"""``dsac-robot barn``: the BARN navigation benchmark in MuJoCo, in process, with the classes that the nodes use.

Protocol (Perille et al. 2020; competition rules 2022 to 2024): start (-2, 3, 90 degrees), goal 10 m ahead, success
within 1 m of it, any contact ends the run, 100 s limit. OT = path length / 2 m/s, score of a run =
success * OT / clip(AT, 2 OT, 8 OT), at most 0.5. Trials differ by seed in noise and start pose.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.apps.parallel import run_all
from dsac_robot.core.files import load_yaml, share_path
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.params import ParameterError, as_dict, build
from dsac_robot.core.robot import load_robot

SPEED_MPS = 2.0  # of the benchmark's optimal time
JITTER_M, JITTER_RAD = 0.05, 0.05  # of the start pose; the first trial starts exactly
TARGET_SCORE, TARGET_SUCCESS = 0.47, 0.95
BEST_PUBLISHED = 0.4762  # LiCS-KI, simulation leaderboard 2024


@dataclass(frozen=True)
class Job:
    """One run."""

    world: int
    trial: int
    folder: str
    bundle: str
    robot: str
    guard: str  # static | dynamic | off
    monitor: bool
    allow_unsigned: bool


@dataclass(frozen=True)
class Run:
    """What came of it."""

    world: int
    trial: int
    outcome: str
    score: float
    time_s: float
    time_over_ot: float
    caused: bool
    path_m: float
    limited_s: float
    stop_s: float
    cautions: int
    alarms: int
    reasons: dict[str, int]


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("barn", help="drive the BARN worlds and score the runs")
    parser.add_argument("bundle", nargs="?", help="bundle directory (default: the shipped one)")
    parser.add_argument("--worlds", type=Path, required=True, metavar="DIR", help="folder of world_N.world files")
    parser.add_argument("--ids", help="worlds to run, such as 1,5,10-20 (default: all in DIR)")
    parser.add_argument("--trials", type=int, default=10, help="runs of each world (default: 10)")
    parser.add_argument("--guard", choices=("on", "off"), default="on", help="guard in the loop (default: on)")
    parser.add_argument("--profile", choices=("static", "dynamic"), default="static", help="the guard's parameter file")
    parser.add_argument("--monitor", choices=("on", "off"), default="on", help="OOD monitor in the loop (default: on)")
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--processes", type=int, default=2, help="runs at the same time (default: 2)")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and all runs")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run)


def guard_params(profile: str) -> GuardParams:
    """The guard parameters of ``config/safety_guard_PROFILE.yaml``, those of the node left out."""
    path = share_path("config", f"safety_guard_{profile}.yaml")
    (section,) = load_yaml(path).values()
    values = section["ros__parameters"]
    known = set(GuardParams.__dataclass_fields__)
    return build(GuardParams, {key: value for key, value in values.items() if key in known}, path.name)


def parse_ids(text: str) -> tuple[int, ...]:
    """World numbers from ``1,5,10-20``. Raises ParameterError naming the part that is neither."""
    ids: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ParameterError(f"--ids {text}: {part!r} is neither a number nor a range such as 10-20")
        ids += range(int(first), int(last if dash else first) + 1)
    return tuple(ids)


def work(jobs: Iterator[Job]) -> Iterator[Run]:
    """Do runs in this process; policy and monitor are loaded once."""
    from dsac_robot.apps.closed_loop import LoopParams, drive
    from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle
    from dsac_robot.core.reasons import Level
    from sim.worlds import read_barn_world

    policy = monitor = None
    for job in jobs:
        if policy is None:
            robot = load_robot(job.robot)
            bundle = load_bundle(job.bundle, allow_unsigned=job.allow_unsigned)
            policy = DeployedPolicy(bundle, robot)
            monitor = DeployedMonitor(bundle, robot) if job.monitor and bundle.card.monitor else None
            guard = None if job.guard == "off" else guard_params(job.guard)
        world = read_barn_world(Path(job.folder), job.world)
        jitter = (JITTER_M, JITTER_RAD) if job.trial else (0.0, 0.0)
        loop = LoopParams(start_jitter_m=jitter[0], start_jitter_rad=jitter[1])
        done = drive(robot, world, 1000 * job.world + job.trial, policy, monitor, guard, loop)
        optimal_s = world.path_length_m / SPEED_MPS
        success = done.outcome == "success"
        score = optimal_s / float(np.clip(done.time_s, 2.0 * optimal_s, 8.0 * optimal_s)) if success else 0.0
        yield Run(
            job.world,
            job.trial,
            done.outcome,
            score,
            done.time_s,
            done.time_s / optimal_s,
            done.caused,
            done.path_m,
            done.level_s[Level.LIMITED],
            done.level_s[Level.STOP] + done.level_s[Level.EMERGENCY],
            done.cautions,
            done.alarms,
            done.reasons,
        )


def figures_of(runs: Sequence[Run]) -> list[Figure]:
    """The benchmark's figures (DESIGN section 12)."""
    outcomes = [run.outcome for run in runs]
    times = [run.time_over_ot for run in runs if run.outcome == "success"]
    count = len(runs)
    return [
        Figure("score_mean", float(np.mean([run.score for run in runs])), "", TARGET_SCORE, BEST_PUBLISHED),
        Figure("success_rate", outcomes.count("success") / count, "", TARGET_SUCCESS, 0.88),
        Figure("collision_rate", outcomes.count("contact") / count, "", None, 0.048),
        Figure("timeout_rate", outcomes.count("timeout") / count, "", None, 0.072),
        Figure("time_over_ot_mean", float(np.mean(times)) if times else float("nan")),
        Figure("runs", count),
        Figure("caused_contacts", sum(run.caused for run in runs), "", 0.0, None, at_least=False),
    ]


def run(args: argparse.Namespace) -> int:
    """Run the benchmark."""
    from sim.worlds import barn_ids

    present = barn_ids(args.worlds)
    ids = parse_ids(args.ids) if args.ids else present
    missing = sorted(set(ids) - set(present))
    if missing:
        raise ParameterError(f"--ids: no world {missing[0]} in {args.worlds}; it has {present[0]} to {present[-1]}")
    if args.trials < 1:
        raise ParameterError(f"--trials {args.trials} must be at least 1")
    bundle = args.bundle or str(share_path("config", "bundles", "navigate_jackal"))
    guard = args.profile if args.guard == "on" else "off"
    monitor = args.guard == "on" and args.monitor == "on"
    common = (str(args.worlds), bundle, args.robot, guard, monitor, args.allow_unsigned)
    jobs = [Job(number, trial, *common) for trial in range(args.trials) for number in ids]
    started, runs = time.monotonic(), []
    for result in run_all(work, jobs, args.processes):
        runs.append(result)
        left = (time.monotonic() - started) / len(runs) * (len(jobs) - len(runs))
        good = sum(r.outcome == "success" for r in runs) / len(runs)
        mean = sum(r.score for r in runs) / len(runs)
        line = f"{len(runs)}/{len(jobs)} runs | success {good:.1%} | score {mean:.4f} | left {left:.0f} s"
        if sys.stderr.isatty() or len(runs) % 25 == 0 or len(runs) == len(jobs):
            print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    runs.sort(key=lambda r: (r.world, r.trial))
    figures = figures_of(runs)
    for figure in figures:
        verdict = "" if figure.ok is None else f"  target {figure.target}: {'met' if figure.ok else 'MISSED'}"
        print(f"{figure.name:>18} {figure.value:.4f}{verdict}")
    failed = [f"{r.world} ({r.outcome} at {r.time_s:.1f} s)" for r in runs if r.outcome != "success"]
    if failed:
        print(f"failed worlds: {', '.join(failed)}")
    settings = as_dict(guard_params(guard)) if guard != "off" else None
    content = report(
        figures,
        bundle=Path(bundle).name,
        profile=guard,
        monitor=monitor,
        guard=settings,
        results=[asdict(r) for r in runs],
    )
    write_json(args.json, content)
    return status(figures, args.strict)
