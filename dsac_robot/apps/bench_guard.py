"""``dsac-robot bench guard``: how long one decision takes, on the Jackal's 720-beam scan among obstacles."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import NS, Command, Floats, Odom, Scan, ns

P99_MS = 1.0
ASKED_S = 0.6  # a new random command so often: most of them lead into something
POLICY_S = 0.1


def register(subparsers: Any) -> None:
    """Add the benchmark."""
    parser = subparsers.add_parser("guard", help="time of one decision of the guard, under random commands in clutter")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="simulated, in each world and profile (default: 10)"
    )
    parser.add_argument("--worlds", type=int, default=4, help="cluttered worlds (default: 4)")
    parser.add_argument("--repeats", type=int, default=5, help="of each decision; the quickest counts (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run_guard)


def run_guard(args: argparse.Namespace) -> int:
    """Run ``bench guard``."""
    for name, value, high in (
        ("seconds", args.seconds, 600.0),
        ("worlds", args.worlds, 100),
        ("repeats", args.repeats, 100),
    ):
        if not 1 <= value <= high:
            raise ParameterError(f"--{name} {value} is outside [1, {high}]")
    robot, taken = load_robot("jackal"), []
    for world in range(args.worlds):
        for obstacle_mps in (0.0, 0.5):
            params = GuardParams(obstacle_speed_mps_max=obstacle_mps, require_verdict=False, blank_is_fault=False)
            model = GuardModel.of(params, robot)
            taken.append(timed(inputs_of(robot, model, world, args.seconds), model, args.repeats))
    ms = np.concatenate(taken) * 1e3
    p50, p99 = (float(value) for value in np.percentile(ms, [50, 99]))
    figures = [
        Figure("guard_step_p99", p99, "ms", P99_MS, at_least=False),
        Figure("guard_step_p50", p50, "ms"),
        Figure("guard_step_max", float(ms.max()), "ms"),
        Figure("steps", float(len(ms))),
    ]
    for figure in figures:
        print(f"{figure.name:>16} {figure.value:.3f} {figure.unit}")
    write_json(args.json, report(figures, seconds=args.seconds, worlds=args.worlds, repeats=args.repeats))
    return status(figures, args.strict)


def inputs_of(robot: Robot, model: GuardModel, seed: int, seconds: float) -> list[GuardInput]:
    """What a guard is given on a drive under random commands through a cluttered world."""
    from sim.simulator import Simulator
    from sim.worlds import load_world

    sim, rng = Simulator(robot, load_world(f"clutter:{seed}"), seed), np.random.default_rng(seed)
    scan: Scan | None = None
    odom: Odom | None = None
    state, given, asked, now_ns = initial_state(), [], (1.0, 0.0), 0
    command = Command(0, 0.0, 0.0)
    while now_ns < ns(seconds) and not sim.touched:
        for sample in sim.advance(now_ns):
            scan = sample if isinstance(sample, Scan) else scan
            odom = sample if isinstance(sample, Odom) else odom
        if now_ns % ns(ASKED_S) == 0:
            limits = robot.limits
            turn = float(rng.uniform(-limits.yaw_rate_radps_max, limits.yaw_rate_radps_max))
            asked = float(rng.uniform(limits.speed_mps_min, limits.speed_mps_max)), turn
        if now_ns % ns(POLICY_S) == 0:
            command = Command(now_ns, *asked)
        given.append(GuardInput(now_ns, scan, odom, command))
        state, decision = step(state, given[-1], model)
        sim.send(Command(now_ns, decision.speed_mps, decision.yaw_rate_radps))
        now_ns += ns(model.params.period_s)
    return given


def timed(given: list[GuardInput], model: GuardModel, repeats: int) -> Floats:
    """Seconds of each decision: the quickest of several replays, so that other work on the machine counts little."""
    best = np.full(len(given), np.inf)
    for _ in range(repeats):
        state = initial_state()
        for i, inp in enumerate(given):
            begun_ns = time.perf_counter_ns()
            state, _ = step(state, inp, model)
            best[i] = min(best[i], (time.perf_counter_ns() - begun_ns) / NS)
    return best
