"""``dsac-robot bench runtime``: what a tick of the policy costs beside the bare network, whether a million of them
leak, and whether the loader of bundles can be fooled (``bundle_fuzz``)."""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.files import share_path
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import NS, Command, Goal, Odom, Plan, Scan

if TYPE_CHECKING:
    from dsac_robot.apps.bundle_fuzz import FuzzResult
    from dsac_robot.bundle.deployed import Bundle, DeployedPolicy

TARGET_BARE_US = 15.0
TARGET_RATIO = 1.5
TARGET_GROWTH_MB = 1.0
TARGET_SLOWEST_S = 2.0
TIMED, WARM_UP = 20_000, 2_000
WARM_UP_MEMORY = 20_000  # calls before resident memory is looked at
SCANS = 64  # different scans, over and over
HANG_S = 60.0  # of wall time without a case done: the loader hangs


def register(subparsers: Any) -> None:
    """Add the benchmark."""
    parser = subparsers.add_parser("runtime", help="a tick against its bare network, memory, a fuzz of the loader")
    parser.add_argument("bundle", nargs="?", type=Path, metavar="DIR", help="bundle (default: the shipped one)")
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls for the memory figure (default: 1000000)")
    parser.add_argument("--fuzz", type=int, default=20_000, help="cases of the fuzz (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="of scans and fuzz (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Latencies:
    """Percentiles in microseconds, and the median over the pairs of the ratio of their medians."""

    bare_p50: float
    bare_p99: float
    infer_p50: float
    infer_p99: float
    ratio: float
    with_samples_p50: float  # storing the scan and the odometry included


def run(args: argparse.Namespace) -> int:
    """Measure; returns the exit status."""
    from dsac_robot.bundle.deployed import load_bundle
    from dsac_robot.bundle.errors import BundleError

    for name, least in (("calls", 1000), ("fuzz", 0)):
        if getattr(args, name) < least:
            raise ParameterError(f"--{name} {getattr(args, name)} must be at least {least}")
    try:
        robot = load_robot(args.robot)
        path = args.bundle or share_path("config", "bundles", "navigate_jackal")
        bundle = load_bundle(path, allow_unsigned=args.allow_unsigned)
        figures, more = measure(bundle, robot, args.calls, args.seed)
        fuzzed = fuzz_figures(bundle, args.fuzz, args.seed)
    except BundleError as error:
        raise ParameterError(str(error)) from error
    figures += fuzzed[0]
    for figure in figures:
        verdict = "" if figure.ok is None else f"  target {figure.target}: {'met' if figure.ok else 'MISSED'}"
        print(f"{figure.name:>28} {figure.value:12.3f} {figure.unit}{verdict}")
    write_json(args.json, report(figures, bundle=bundle.card.name, digest=bundle.digest, **more, fuzz=fuzzed[1]))
    return status(figures, args.strict)


def measure(bundle: Bundle, robot: Robot, calls: int, seed: int) -> tuple[list[Figure], dict[str, Any]]:
    """Latency and memory of the policy. Raises BundleError where the bundle does not fit the robot."""
    from dsac_robot.bundle.deployed import DeployedPolicy

    policy = DeployedPolicy(bundle, robot)
    samples = stream(robot, policy, seed)
    found = latencies(policy, samples, TIMED if calls >= TIMED else calls)
    growth_mb = memory_growth_mb(policy, samples, calls)
    figures = [
        Figure("bare_p50_us", found.bare_p50, "us", TARGET_BARE_US, at_least=False),
        Figure("bare_p99_us", found.bare_p99, "us"),
        Figure("infer_p50_us", found.infer_p50, "us"),
        Figure("infer_p99_us", found.infer_p99, "us"),
        Figure("infer_over_bare_p50", found.ratio, "", TARGET_RATIO, at_least=False),
        Figure("infer_with_samples_p50_us", found.with_samples_p50, "us"),
        Figure("rss_growth_mb", growth_mb, "MB", TARGET_GROWTH_MB, at_least=False),
    ]
    return figures, {"calls": calls, "provider": policy.report.provider, "runtime": str(policy.report)}


def stream(robot: Robot, policy: DeployedPolicy, seed: int) -> Iterator[tuple[Scan, Odom]]:
    """Scans and odometry a control period apart, for ever; the goal, a plan and a command are added once."""
    rng = np.random.default_rng(seed)
    ranges = rng.uniform(0.5, 9.0, (SCANS, robot.lidar.beams)).astype(np.float32)
    policy.add(Goal(0, 8.0, 1.0))
    policy.add(Plan(0, np.array([[0.0, 0.0], [8.0, 1.0]]), 1.0))
    policy.add(Command(0, 0.3, 0.1))
    period_ns = round(policy.card.control_period_s * NS)
    angles = robot.lidar.angle_min_rad, robot.lidar.angle_increment_rad
    number = 0
    while True:
        number += 1
        stamp_ns = number * period_ns
        odom = Odom.from_yaw(stamp_ns, 0.01 * (number % 700), 0.0, 0.001 * (number % 900), 0.4, 0.04)
        yield Scan(stamp_ns, ranges[number % SCANS], *angles), odom


def latencies(policy: DeployedPolicy, samples: Iterator[tuple[Scan, Odom]], count: int) -> Latencies:
    """Times of a tick and of the bare call, in turns in one loop, so that both meet the same machine."""
    for _ in range(policy.card.layout.frames):
        scan, odom = next(samples)
        policy.add(scan)
        policy.add(odom)
    times_ns = np.empty((count, 3))
    clock = time.perf_counter_ns
    for i in range(-min(WARM_UP, count), count):
        scan, odom = next(samples)
        came_ns = clock()
        policy.add(scan)
        policy.add(odom)
        started_ns = clock()
        policy.tick(scan.stamp_ns)
        ended_ns = clock()
        policy.run_bound()
        if i >= 0:
            times_ns[i] = clock() - ended_ns, ended_ns - started_ns, ended_ns - came_ns
    bare, infer, whole = times_ns.T / 1000.0
    blocks = [np.median(part, axis=0) for part in np.array_split(times_ns, max(1, count // 500))]
    ratio = float(np.median([block[1] / block[0] for block in blocks]))
    bare_p50, bare_p99 = (float(value) for value in np.percentile(bare, (50, 99)))
    infer_p50, infer_p99 = (float(value) for value in np.percentile(infer, (50, 99)))
    return Latencies(bare_p50, bare_p99, infer_p50, infer_p99, ratio, float(np.median(whole)))


def memory_growth_mb(policy: DeployedPolicy, samples: Iterator[tuple[Scan, Odom]], calls: int) -> float:
    """Growth of resident memory over ``calls`` ticks, after warming up."""

    def ticks(count: int) -> None:
        for _ in range(count):
            scan, odom = next(samples)
            policy.add(scan)
            policy.add(odom)
            policy.tick(scan.stamp_ns)

    ticks(min(WARM_UP_MEMORY, calls))
    gc.collect()
    before = resident_bytes()
    ticks(calls)
    gc.collect()
    return (resident_bytes() - before) / 1e6


def resident_bytes() -> int:
    """Resident memory of this process."""
    import os

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fuzz_figures(bundle: Bundle, cases: int, seed: int) -> tuple[list[Figure], dict[str, Any]]:
    """The fuzz in a process of its own, so that a crash of native code is found and counted."""
    import multiprocessing

    from dsac_robot.apps.bundle_fuzz import FuzzResult

    if cases == 0:
        return [], {}
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_fuzz_process, args=(small(bundle), cases, seed, sender), daemon=True)
    process.start()
    sender.close()
    result, died = FuzzResult(), False
    while result.cases < cases:
        try:
            if not receiver.poll(HANG_S):
                result.first_problem, result.slowest_s = f"case {result.cases}: hangs", HANG_S
                break
            result = receiver.recv()
        except EOFError:
            died = True
            break
    process.kill()
    process.join()
    if died:
        result = replace(result, crashes=result.crashes + 1, first_problem=f"case {result.cases}: the process died")
    if result.first_problem:
        print(f"fuzz: {result.first_problem}", file=sys.stderr)
    return [
        Figure("fuzz_cases", float(result.cases)),
        Figure("fuzz_altered_accepted", float(result.altered_accepted), "", 0.0, at_least=False),
        Figure("fuzz_crashes", float(result.crashes), "", 0.0, at_least=False),
        Figure("fuzz_slowest_s", result.slowest_s, "s", TARGET_SLOWEST_S, at_least=False),
    ], asdict(result)


def small(bundle: Bundle) -> tuple[bytes, bytes, bytes | None]:
    """Card and models of a bundle, to be sent to another process."""
    return bundle.card.to_json(), bundle.policy, bundle.monitor


def _fuzz_process(parts: tuple[bytes, bytes, bytes | None], cases: int, seed: int, sender: Any) -> None:
    """Write the bundle anew, signed with a fresh key, and fuzz it; the result so far is sent every few cases."""
    from dsac_robot.apps.bundle_fuzz import fuzz
    from dsac_robot.bundle.card import Card
    from dsac_robot.bundle.keys import generate_key
    from dsac_robot.bundle.write import write_bundle

    def progress(result: FuzzResult) -> None:
        if result.cases % 20 == 0 or result.cases == cases:
            sender.send(result)

    with tempfile.TemporaryDirectory() as folder:
        key = generate_key()
        written = write_bundle(Path(folder) / "bundle", Card.from_json(parts[0]), parts[1], parts[2], key)
        fuzz(written, key, Path(folder), cases, seed, progress)
