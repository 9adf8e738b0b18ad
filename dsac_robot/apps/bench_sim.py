"""``dsac-robot bench sim``: how fast the simulator is, as ratios measured in one run, against what was promised."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.files import share_path
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Floats

if TYPE_CHECKING:
    from sim.worlds import World

TARGET_OVER_BARE = 0.45
TARGET_TWO_OVER_ONE = 1.8
TARGET_REALTIME = {"skid_steer": 40.0, "differential": 100.0}
TOLERANCE = 0.02  # of the way driven: how far the positions of two time steps may come apart in it


def register(subparsers: Any) -> None:
    """Add the benchmark."""
    sim = subparsers.add_parser("sim", help="the simulator against its physics, one core against two, real time")
    sim.add_argument(
        "--robot",
        action="append",
        metavar="NAME",
        help="robot name or .yaml file; may be given again, the first one is held against the bare physics "
        "(default: all that ship, jackal first)",
    )
    sim.add_argument("--worlds", type=Path, metavar="DIR", help="folder of world_N.world files (default: clutter)")
    sim.add_argument("--seconds", type=float, default=8.0, help="wall time of each measurement (default: 8)")
    sim.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    sim.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    sim.set_defaults(run=run_sim)


def shipped_robots() -> list[str]:
    """Names of the robots in config/robots, the Jackal first."""
    names = sorted(path.stem for path in share_path("config", "robots").glob("*.yaml"))
    return sorted(names, key=lambda name: name != "jackal")


def run_sim(args: argparse.Namespace) -> int:
    """Run ``bench sim``."""
    if not 0.2 <= args.seconds <= 600.0:
        raise ParameterError(f"--seconds {args.seconds} is outside [0.2, 600]")
    robots = [load_robot(name) for name in args.robot or shipped_robots()]

    from sim.benchmark import worlds_of
    from sim.worlds import WorldError

    try:
        worlds = worlds_of(args.worlds)
    except WorldError as error:
        raise ParameterError(f"--worlds {error}") from error
    figures, more = bench_sim(robots, worlds, args.seconds)
    for figure in figures:
        verdict = "" if figure.ok is None else f"  target {figure.target}: {'met' if figure.ok else 'MISSED'}"
        print(f"{figure.name:>36} {figure.value:9.4f} {figure.unit}{verdict}")
    write_json(args.json, report(figures, worlds=[world.name for world in worlds], **more))
    return status(figures, args.strict)


def bench_sim(robots: Sequence[Robot], worlds: Sequence[World], seconds: float) -> tuple[list[Figure], dict[str, Any]]:
    """All figures, and what else there is to say about them."""
    from sim.benchmark import against_bare, make_env, realtime, time_step_difference, two_against_one
    from sim.robot_model import TIME_STEP_S

    first = robots[0]
    turns = against_bare(make_env(first, worlds), seconds)
    ratio, low, high = _quartiles(turns["env_x"] / turns["bare_x"])
    figures = [
        Figure("env_over_bare", ratio, "", TARGET_OVER_BARE),
        Figure("full_rate_sensors_over_bare", _quartiles(turns["full_x"] / turns["bare_x"])[0]),
        Figure("bare_realtime_factor", float(np.median(turns["bare_x"])), "s/s"),
    ]
    scaling = two_against_one(first, worlds, seconds)
    figures.append(Figure("two_processes_over_one", _quartiles(scaling[:, 0])[0], "", TARGET_TWO_OVER_ONE))
    figures.append(Figure("two_processes_over_one_by_core_time", _quartiles(scaling[:, 1])[0]))
    for robot in robots:
        factor = turns["env_x"] if robot is first else realtime(make_env(robot, worlds), seconds)
        target = TARGET_REALTIME[robot.base.drive]
        figures.append(Figure(f"realtime_factor_{robot.name}", float(np.median(factor)), "s/s", target))
    for robot in robots:
        for step_s in (TIME_STEP_S, 2.0 * TIME_STEP_S):
            worst, typical, way_m = time_step_difference(robot, step_s)
            name = f"{robot.name}_at_{1000 * step_s:g}_ms"
            held = TOLERANCE if step_s == TIME_STEP_S else None
            figures.append(Figure(f"time_step_difference_{name}", worst / way_m, "m/m", held, None, at_least=False))
            figures.append(Figure(f"time_step_difference_median_{name}", typical / way_m, "m/m"))
    more = {
        "time_step_s": TIME_STEP_S,
        "env_over_bare_quartiles": [low, high],
        "two_processes_quartiles": list(_quartiles(scaling[:, 0])[1:]),
        "turns": len(turns["env_x"]),
        "seconds": seconds,
    }
    return figures, more


def _quartiles(values: Floats) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(middle), float(low), float(high)
