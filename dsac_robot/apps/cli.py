"""The ``dsac-robot`` command. Each sub-command is a module here with ``register(subparsers)``; nothing heavy is
imported before a command runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from dsac_robot import __version__
from dsac_robot.core.params import ParameterError

COMMANDS = (
    "train_cmd",
    "compare_cmd",
    "bench_cmd",
    "export_cmd",
    "bundle_cmd",
    "barn_cmd",
    "eval_cmd",
    "attack_cmd",
    "falsify_cmd",
    "bag_cmd",
    "identify_cmd",
    "dataset_cmd",
    "offline_cmd",
    "up_cmd",
    "demo_cmd",
    "report_cmd",
    "replay_cmd",
    "robot_cmd",
    "view_cmd",
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="dsac-robot", description="Train, export, deploy, guard, record and replay learned policies of a robot."
    )
    top.add_argument("--version", action="version", version=__version__)
    subparsers = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"dsac_robot.apps.{name}").register(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Status 0: it ran; 1: a target was missed under --strict; 2: bad input, said on stderr."""
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (ParameterError, FileNotFoundError) as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
