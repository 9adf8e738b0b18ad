"""``dsac-robot bench``: measurements that are committed under benchmarks/."""

from __future__ import annotations

import importlib
from typing import Any

BENCHMARKS = ("bench_sim", "bench_sb3", "bench_learner", "bench_link")


def register(subparsers: Any) -> None:
    """Add the command and its benchmarks."""
    parser = subparsers.add_parser("bench", help="benchmarks whose results are under benchmarks/")
    commands = parser.add_subparsers(title="benchmarks", required=True, metavar="NAME")
    for name in BENCHMARKS:
        importlib.import_module(f"dsac_robot.apps.{name}").register(commands)
