"""``dsac-robot replay DUMP``: run the guard again over a black box, and compare every decision bit for bit."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from dsac_robot.core.values import NS


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("replay")
    parser.add_argument("dump", type=Path, metavar="DUMP", help="file that the guard wrote on a latched stop")
    parser.add_argument("--all", action="store_true", help="print every step, not only changes of level and reason")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the guard decided and why; exit status 1 where it decides differently now."""
    from dsac_robot.core.blackbox import BlackBoxError, replay

    before, steps, first_ns, differ = None, 0, 0, 0
    try:
        for one in replay(args.dump):
            first_ns = first_ns or one.inp.now_ns
            now = (one.recorded.level, one.recorded.reason)
            if args.all or now != before or not one.same:
                numbers = ", ".join(f"{name} {value:.4g}" for name, value in one.recorded.numbers)
                print(
                    f"{(one.inp.now_ns - first_ns) / NS:8.3f} s  {now[0].name:9} {now[1].name:24} "
                    f"{one.recorded.speed_mps:6.3f} m/s {one.recorded.yaw_rate_radps:6.3f} rad/s  {numbers}"
                )
            if not one.same:
                print(f"           now it would be: {one.decided}", file=sys.stderr)
            before, steps, differ = now, steps + 1, differ + (not one.same)
    except BlackBoxError as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return 2
    result = f"{differ} decided differently now" if differ else "every decision the same, bit for bit"
    print(f"{steps} steps, {result}")
    return 1 if differ else 0
