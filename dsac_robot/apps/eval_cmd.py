"""``dsac-robot eval``: a bundle on a family of robots that differ from the one it was trained for (``sim/family.py``).

Every instance drives the same worlds with the same seeds, so that instances differ by the robot alone. The pace of an
episode is success * OT / AT, with OT = length of a known path / highest speed and AT = the time it took; the straight
way at full speed gives some 1.2. BARN's score, success * OT / clip(AT, 2 OT, 8 OT), is given beside it: it says nothing
of what is faster than half the highest speed. In a world with a route (``track``) OT is what the route takes at its
reference speed, and success is its end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.barn_cmd import guard_params
from dsac_robot.apps.eval_worlds import (
    HELP,
    EvalWorlds,
    by_spec,
    choose,
    following,
    reference_s,
    route_figures,
    say_by_spec,
)
from dsac_robot.apps.figures import Figure, report, write_json
from dsac_robot.apps.parallel import run_all
from dsac_robot.core.files import share_path
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.params import ParameterError

if TYPE_CHECKING:
    from dsac_robot.core.robot import Robot
    from sim.family import Family, Instance

GRAVITY_MPS2 = 9.81
RUNS_FILE = "runs.jsonl"


@dataclass(frozen=True)
class Job:
    """One episode of one instance."""

    index: int  # of the instance
    episode: int
    instance: Instance
    nominal: Robot
    bundle: str
    guard: str  # static | dynamic | off
    monitor: bool
    allow_unsigned: bool
    time_limit_s: float
    worlds: EvalWorlds


@dataclass(frozen=True)
class Episode:
    """What came of it."""

    instance: int
    episode: int
    outcome: str  # success | contact | timeout | off_path
    score: float
    pace: float
    time_s: float
    caused: bool
    cautions: int
    alarms: int
    world: str = ""
    lateral_rms_m: float | None = None  # off the route; None where the world has none
    speed_rms_mps: float | None = None  # off its reference speed


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("eval", description=__doc__)
    parser.add_argument("bundle", nargs="?", help="bundle directory (default: the shipped one)")
    parser.add_argument("--family", default="jackal_wide", help="name in config/families, or .yaml file")
    parser.add_argument("--instances", type=int, default=16, help="representative members (default: 16)")
    parser.add_argument("--episodes", type=int, default=10, help="worlds that each instance drives (default: 10)")
    parser.add_argument("--worlds", metavar="SPECS", help=HELP)
    parser.add_argument(
        "--difficulty",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="of generated worlds, in [0, 1] (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of instances (default: 0)")
    parser.add_argument("--guard", choices=("on", "off"), default="on", help="guard in the loop (default: on)")
    parser.add_argument(
        "--profile",
        choices=("static", "dynamic"),
        help="the guard's parameter file (default: static; dynamic where anything moves)",
    )
    parser.add_argument("--monitor", choices=("on", "off"), default="on", help="OOD monitor in the loop (default: on)")
    parser.add_argument("--time-limit", type=float, default=100.0, metavar="S", help="of an episode (default: 100)")
    parser.add_argument("--processes", type=int, default=2, help="episodes at the same time (default: 2)")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures, instances and episodes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write plots, and episodes to continue from if stopped")
    parser.set_defaults(run=run)


def work(jobs: Iterator[Job]) -> Iterator[Episode]:
    """Do episodes in this process; policy and monitor are loaded once."""
    from dsac_robot.apps.closed_loop import LoopParams, drive
    from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle

    policy = monitor = None
    for job in jobs:
        if policy is None:
            bundle = load_bundle(job.bundle, allow_unsigned=job.allow_unsigned)
            policy = DeployedPolicy(bundle, job.nominal)
            monitor = DeployedMonitor(bundle, job.nominal) if job.monitor and bundle.card.monitor else None
            guard = None if job.guard == "off" else guard_params(job.guard)
        world = job.worlds.world(job.episode, job.nominal)
        loop = LoopParams(time_limit_s=job.time_limit_s)
        member = job.instance
        done = drive(
            job.nominal, world, job.episode, policy, monitor, guard, loop, plant=member.robot, sim_params=member.sim
        )
        optimal_s = reference_s(world, job.nominal)
        good = done.outcome == "success"
        score = optimal_s / float(np.clip(done.time_s, 2.0 * optimal_s, 8.0 * optimal_s)) if good else 0.0
        yield Episode(
            job.index,
            job.episode,
            done.outcome,
            score,
            optimal_s / done.time_s if good else 0.0,
            done.time_s,
            done.caused,
            done.cautions,
            done.alarms,
            world.name,
            *following(world, done),
        )


def run(args: argparse.Namespace) -> int:
    """Choose instances, drive, reckon, say, draw."""
    from dsac_robot.bundle.errors import BundleError

    try:
        return _run(args)
    except BundleError as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    from dsac_robot.apps.eval_figures import summary
    from dsac_robot.bundle.deployed import check_robot, load_bundle
    from sim.family import load_family

    for name, value, low in (("--episodes", args.episodes, 2), ("--time-limit", args.time_limit, 1.0)):
        if value < low:
            raise ParameterError(f"{name} {value} must be at least {low}")
    family = load_family(args.family)
    members = family.representative(args.instances, args.seed)
    bundle = Path(args.bundle or share_path("config", "bundles", "navigate_jackal"))
    loaded = load_bundle(bundle, allow_unsigned=args.allow_unsigned)
    check_robot(loaded.card, family.nominal)
    worlds, moving = choose(args.worlds, args.difficulty, loaded.card, family.nominal)
    profile = "off" if args.guard == "off" else args.profile or ("dynamic" if moving else "static")
    monitor = args.guard == "on" and args.monitor == "on"
    common = (family.nominal, str(bundle), profile, monitor, args.allow_unsigned, args.time_limit, worlds)
    jobs = [Job(i, k, member, *common) for k in range(args.episodes) for i, member in enumerate(members)]
    settings = {
        "bundle": loaded.digest,
        "family": family.name,
        "instances": [dict(member.values) for member in members],
        "guard": profile,
        "monitor": monitor,
        "time_limit_s": args.time_limit,
        "worlds": list(worlds.specs),
        "difficulty": list(worlds.difficulty) if worlds.difficulty else None,
    }
    episodes = _drive_all(jobs, args.processes, settings, args.out)
    guard = None if profile == "off" else guard_params(profile)
    beyond = [beyond_guard(member, family, guard) for member in members]
    result = summary(episodes, [member.name for member in members], [not why for why in beyond])
    result.figures.extend(route_figures(episodes))
    kinds = by_spec(episodes, worlds)
    say_by_spec(kinds)
    _say(result.figures, result.rows, beyond)
    rows = [
        {**row, "values": dict(member.values), "beyond_guard": why}
        for row, member, why in zip(result.rows, members, beyond, strict=True)
    ]
    content = report(
        result.figures,
        bundle=bundle.name,
        family=family.name,
        profile=profile,
        monitor=monitor,
        worlds=kinds,
        worst=result.worst,
        performance_profile=result.profile,
        instances=rows,
        episodes=[asdict(episode) for episode in episodes],
    )
    write_json(args.json, content)
    if args.out:
        from dsac_robot.apps.eval_plot import draw_all

        write_json(args.out / "figures.json", content)
        for path in draw_all(result, episodes, members, family, args.out):
            print(path)
    return 0


def beyond_guard(member: Instance, family: Family, guard: GuardParams | None) -> list[str]:
    """Which of the guard's assumptions this machine breaks: what its promise does not cover."""
    if guard is None:
        return []
    found = []
    nominal, robot = family.nominal, member.robot
    grip = GRAVITY_MPS2 * robot.base.friction
    if grip < nominal.limits.brake_mps2:
        found.append(f"tyres hold {grip:.1f} m/s^2, the guard counts on {nominal.limits.brake_mps2:.1f}")
    lag = robot.actuation.motor_time_constant_s
    takes = guard.period_s + robot.actuation.action_delay_s + member.sim.extra_delay_s + lag
    counted = guard.reaction_s + nominal.actuation.motor_time_constant_s
    if takes > counted:
        found.append(f"guard period, delay and motor lag take {takes:.3f} s, the guard counts on {counted:.3f}")
    return found


def _drive_all(jobs: Sequence[Job], processes: int, settings: dict[str, Any], out: Path | None) -> list[Episode]:
    """All episodes, those that ``out`` holds from an earlier start included."""
    path = out / RUNS_FILE if out else None
    done = _done_before(path, settings) if path else {}
    left = [job for job in jobs if (job.index, job.episode) not in done]
    wanted = {(job.index, job.episode) for job in jobs}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [settings, *(asdict(episode) for episode in done.values())]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    started, before = time.monotonic(), len(jobs) - len(left)
    for episode in run_all(work, left, processes):
        done[(episode.instance, episode.episode)] = episode
        if path:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(episode)) + "\n")
        count = sum(key in wanted for key in done)
        rest_s = (time.monotonic() - started) / (count - before) * (len(jobs) - count)
        if sys.stderr.isatty() or count % 25 == 0 or count == len(jobs):
            line = f"{count}/{len(jobs)} episodes | left {rest_s:.0f} s"
            print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    return [done[key] for key in sorted(wanted)]


def _done_before(path: Path, settings: dict[str, Any]) -> dict[tuple[int, int], Episode]:
    """Episodes in ``path``; a last line that was cut off is dropped. Raises ParameterError for other settings."""
    if not path.exists():
        return {}
    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    try:
        before = json.loads(first)
    except json.JSONDecodeError:
        before = None
    if before != settings:
        keys = [key for key in settings if not isinstance(before, dict) or before.get(key) != settings[key]]
        raise ParameterError(
            f"{path}: was made with another {', '.join(keys)}; give another --out, or remove the file to start anew"
        )
    found = {}
    for number, line in enumerate(lines, 2):
        try:
            episode = Episode(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            if number == len(lines) + 1:
                break
            raise ParameterError(
                f"{path}: line {number} is no episode ({error}); remove the line or the file"
            ) from error
        found[(episode.instance, episode.episode)] = episode
    return found


def _say(figures: Sequence[Figure], rows: Sequence[dict[str, Any]], beyond: Sequence[list[str]]) -> None:
    for row, why in zip(rows, beyond, strict=True):
        note = f"  beyond the guard: {'; '.join(why)}" if why else ""
        print(
            f"{row['name']:>12}  pace {row['pace_mean']:.3f}  success {row['success_rate']:.0%}  "
            f"contacts {row['collision_rate']:.0%}{note}"
        )
    for figure in figures:
        print(f"{figure.name:>24} {figure.value:.4f}")
