"""``dsac-robot bench``: measurements that are committed under benchmarks/."""

from __future__ import annotations

import importlib
from typing import Any

BENCHMARKS = (
    "bench_sim",
    "bench_chain",
    "bench_sb3",
    "bench_learner",
    "bench_faults",
    "bench_runtime",
    "bench_bf16",
    "bench_guard",
    "bench_link",
    "bench_firmware",
)


def register(subparsers: Any) -> None:
    """Add the command and its benchmarks."""
    parser = subparsers.add_parser("bench")
    commands = parser.add_subparsers(title="benchmarks", required=True, metavar="NAME")
    for name in BENCHMARKS:
        importlib.import_module(f"dsac_robot.apps.{name}").register(commands)
