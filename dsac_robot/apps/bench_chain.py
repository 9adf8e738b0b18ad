"""``dsac-robot bench chain``: from a scan published to the guarded command that saw its policy command, on real rclpy.

The stack (policy, monitor, guard) and a bare chain of relays with the same hops, message types and QoS run at the same
time and are fed in turns, composed in one process and as one process a node. Times are of this process's steady clock.
The guard sends every 20 ms, whatever comes: a wait of 0 to 20 ms is in both chains (scans come at uneven times, so that
no chain is lucky with its timer). Scan to verdict, which no timer waits for, is given beside it.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.params import ParameterError

TARGET = 1.3
MODES = ("composed", "processes")
STACK, BARE = "bench_stack", "bench_bare"
READY_S = 60.0


def register(subparsers: Any) -> None:
    """Add the benchmark."""
    chain = subparsers.add_parser("chain", help="scan to guarded command, beside a bare chain", description=__doc__)
    chain.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    chain.add_argument("--bundle", default="navigate_jackal", metavar="DIR", help="default: the shipped one")
    chain.add_argument("--seconds", type=float, default=60.0, help="of each chain and mode (default: 60)")
    chain.add_argument("--turns", type=int, default=6, help="turns that these are cut into (default: 6)")
    chain.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    chain.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    chain.set_defaults(run=run_chain)


def run_chain(args: argparse.Namespace) -> int:
    """Run ``bench chain``."""
    if not 1.0 <= args.seconds <= 3600.0 or not 1 <= args.turns <= 100:
        raise ParameterError(f"--seconds {args.seconds} must be in [1, 3600], --turns {args.turns} in [1, 100]")
    figures: list[Figure] = []
    for mode in MODES:
        measured = measure(mode, args)
        figures += figures_of(mode, measured)
    for figure in figures:
        verdict = "" if figure.ok is None else f"  target {figure.target}: {'met' if figure.ok else 'MISSED'}"
        print(f"{figure.name:>40} {figure.value:9.3f} {figure.unit}{verdict}")
    write_json(args.json, report(figures, seconds=args.seconds, turns=args.turns))
    return status(figures, args.strict)


def figures_of(mode: str, measured: dict[str, tuple[list[float], list[float]]]) -> list[Figure]:
    """Percentiles of both chains and their ratio. ``measured``: by chain, seconds to the command and to the verdict."""
    figures, p99 = [], {}
    for chain, (commands, verdicts) in measured.items():
        for what, values in (("command", commands), ("verdict", verdicts)):
            times = 1e3 * np.asarray(values)
            p99[chain, what] = float(np.percentile(times, 99))
            for name, value in (("p50", np.median(times)), ("p99", p99[chain, what]), ("max", times.max())):
                figures.append(Figure(f"{mode}_{chain}_{what}_{name}", float(value), "ms"))
        figures.append(Figure(f"{mode}_{chain}_samples", len(commands)))
    figures.append(
        Figure(f"{mode}_p99_over_bare", p99["stack", "command"] / p99["bare", "command"], "", TARGET, at_least=False)
    )
    figures.append(Figure(f"{mode}_verdict_p99_over_bare", p99["stack", "verdict"] / p99["bare", "verdict"]))
    return figures


def measure(mode: str, args: argparse.Namespace) -> dict[str, tuple[list[float], list[float]]]:
    """Both chains in one mode; by chain, the times to the guarded command and to the verdict."""
    import rclpy

    from dsac_robot.apps.bench_chain_feed import Feed
    from dsac_robot.nodes.run import init

    started = [_start(_stack(mode, args))]
    started += [_start(command) for command in _bare(mode)]
    init([])
    try:
        feeds = {"stack": Feed(STACK, args.robot, bare=False), "bare": Feed(BARE, args.robot, bare=True)}
        for feed in feeds.values():
            feed.run(READY_S, feed.is_answered)
            _alive(started)
            if not feed.is_answered():
                raise ParameterError(f"chain {feed.namespace} gave no guarded command within {READY_S:.0f} s")
            feed.clear()
        for _ in range(args.turns):
            for feed in feeds.values():
                feed.run(args.seconds / args.turns)
                _alive(started)
        return {name: (feed.to_command, feed.to_verdict) for name, feed in feeds.items()}
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            try:
                process.wait(15.0)
            except subprocess.TimeoutExpired:
                process.kill()
        rclpy.try_shutdown()


def _stack(mode: str, args: argparse.Namespace) -> list[str]:
    command = ["dsac_robot.apps.cli", "up", "--namespace", STACK, "--guard-profile", "static"]
    command += ["--robot", args.robot, "--bundle", args.bundle]
    return command + (["--processes"] if mode == "processes" else [])


def _bare(mode: str) -> list[list[str]]:
    from dsac_robot.apps.bench_chain_relay import ROLES

    groups = [list(ROLES)] if mode == "composed" else [[role] for role in ROLES]
    return [["dsac_robot.apps.bench_chain_relay", BARE, *roles] for roles in groups]


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )


def _alive(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is not None:
            raise ParameterError(f"{' '.join(map(str, process.args))} ended with status {process.returncode}")  # type: ignore[arg-type]
