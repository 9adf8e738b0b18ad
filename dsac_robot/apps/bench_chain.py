"""``dsac-robot bench chain``: from a scan published to the guarded command that saw its policy command, on real rclpy.

The stack (policy, monitor, guard) and a bare chain of relays with the same hops, message types and QoS run at the same
time and are fed in turns, composed in one process and as one process a node. Times are of this process's steady clock.
The guard sends every 20 ms, whatever comes: a wait of 0 to 20 ms is in both chains. Scan to verdict, which no timer
waits for, is given beside it.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.params import ParameterError

TARGET = 1.3
SCAN_S, ODOM_S = 0.05, 0.02
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

    from dsac_robot.nodes.run import init

    started = [_start(_stack(mode, args))]
    started += [_start(command) for command in _bare(mode)]
    init([])
    try:
        feeds = {"stack": _feed(STACK, args.robot), "bare": _feed(BARE, args.robot)}
        for feed in feeds.values():
            feed.run(READY_S, lambda feed=feed: len(feed.to_command) >= 5 and len(feed.to_verdict) >= 5)  # type: ignore[misc]
            _alive(started)
            if len(feed.to_command) < 5 or len(feed.to_verdict) < 5:
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


def _feed(namespace: str, robot_name: str) -> Any:
    """The sensors of one chain, and the ear at its end."""
    from rclpy.node import Node

    from dsac_robot.core.robot import load_robot
    from dsac_robot.core.values import Goal, Odom, Scan
    from dsac_robot.nodes import topics
    from dsac_robot.nodes.converters import (
        Frames,
        goal_to_message,
        odom_to_message,
        scan_to_message,
        stamp_from_message,
    )
    from dsac_robot.nodes.run import make_executor
    from dsac_robot.nodes.states import decision_from_message
    from sim.lidar import cast
    from sim.lidar import measure as noisy
    from sim.worlds import generate_clutter

    robot, world = load_robot(robot_name), generate_clutter(1_000_000)
    lidar, frames = robot.lidar, Frames("odom", "base_link")

    class Feed(Node):
        """Publishes what a robot at rest in clutter senses, and times what comes back."""

        def __init__(self) -> None:
            super().__init__("bench_feed", namespace=namespace)
            self.namespace = namespace
            self.executor_ = make_executor()
            self.executor_.add_node(self)
            self.rng = np.random.default_rng(0)
            self.truth = cast(lidar, world.start, world.cylinders_m, world.walls_m)
            self.published: dict[int, int] = {}  # stamp of a scan -> steady time
            self.heard: dict[int, int] = {}  # stamp of a guarded command -> steady time
            self.clear()
            self.scans, self.odoms, self.goals = (
                self.create_publisher(t.type, t.name, t.qos) for t in (topics.SCAN, topics.ODOM, topics.GOAL_POSE)
            )
            self.goals.publish(goal_to_message(Goal(0, 10.0, 0.0), frames))
            for topic, take in (
                (
                    topics.CMD_VEL,
                    lambda m: self.heard.__setitem__(stamp_from_message(m.header.stamp), time.monotonic_ns()),
                ),
                (topics.SAFETY_STATE, self.on_state),
                (topics.OOD_STATE, self.on_verdict),
            ):
                self.create_subscription(topic.type, topic.name, take, topic.qos)

        def clear(self) -> None:
            self.to_command: list[float] = []
            self.to_verdict: list[float] = []
            self.answered: set[int] = set()

        def on_verdict(self, message: Any) -> None:
            began = self.published.get(stamp_of_verdict(message))
            if began is not None:
                self.to_verdict.append((time.monotonic_ns() - began) / 1e9)

        def on_state(self, message: Any) -> None:
            state = decision_from_message(message)
            began, heard = self.published.get(state.judged_stamp_ns), self.heard.pop(state.stamp_ns, None)
            if began is not None and heard is not None and state.judged_stamp_ns not in self.answered:
                self.answered.add(state.judged_stamp_ns)
                self.to_command.append((heard - began) / 1e9)

        def run(self, seconds: float, done: Any = lambda: False) -> None:
            """Feed for a while, or until ``done()``. What an earlier turn left unanswered stays so."""
            self.published.clear()
            begun = odom_due = scan_due = time.monotonic()
            while time.monotonic() - begun < seconds and not done():
                now_s = time.monotonic()
                if now_s >= odom_due:
                    odom_due += ODOM_S
                    stamp_ns = int(self.get_clock().now().nanoseconds)
                    x, y = 1e-5 * self.rng.standard_normal(2)
                    self.odoms.publish(odom_to_message(Odom.from_yaw(stamp_ns, x, y, 0.0, 0.0, 0.0), frames))
                    if now_s >= scan_due:
                        scan_due += SCAN_S
                        ranges = noisy(lidar, self.truth.copy(), self.rng, True)
                        scan = Scan(stamp_ns, ranges, lidar.angle_min_rad, lidar.angle_increment_rad, lidar.frame_id)
                        message = scan_to_message(scan, lidar)
                        self.published[stamp_ns] = time.monotonic_ns()
                        self.scans.publish(message)
                self.executor_.spin_once(timeout_sec=max(0.0, min(odom_due - time.monotonic(), 0.02)))

    def stamp_of_verdict(message: Any) -> int:
        if namespace == BARE:
            return int(stamp_from_message(message.header.stamp))
        return int(next(v.value for v in message.status[0].values if v.key == "judged_stamp_ns"))

    return Feed()
