"""The ``dsac-robot`` command. Each sub-command is a module here with ``register(subparsers)``, imported when it is the
one asked for; nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsac_robot import __version__
from dsac_robot.core.params import ParameterError

# What each module's commands do. It is said here alone, so that the list of commands needs none of the modules.
COMMANDS: Mapping[str, Mapping[str, str]] = {
    "train_cmd": {"train": "train a policy with DSAC-T in simulation"},
    "compare_cmd": {"compare": "compare training runs: curves, IQM, intervals, profiles"},
    "bench_cmd": {"bench": "benchmarks whose results are under benchmarks/"},
    "export_cmd": {"export": "make a signed bundle of a training run"},
    "bundle_cmd": {
        "bundle": "verify, show, compare or sign bundles, build engines of them",
        "keys": "make signing keys",
    },
    "barn_cmd": {"barn": "drive the BARN worlds and score the runs"},
    "peers_cmd": {"peers": "the BARN benchmark for the policy and its classical peers, in one table"},
    "eval_cmd": {"eval": "drive a bundle on a family of robots that differ from their description"},
    "attack_cmd": {"attack": "attack the guard: random, trained, pushing and chasing adversaries"},
    "falsify_cmd": {"falsify": "search worlds, commands and forces for a contact that the guard allows"},
    "bag_cmd": {"bag": "look at, recover or replay a recorded bag"},
    "identify_cmd": {"identify": "fit the robot file's parameters to a recorded drive"},
    "dataset_cmd": {"dataset": "turn bags into a Minari data set, or look at one"},
    "offline_cmd": {"offline": "learn from recorded drives"},
    "up_cmd": {"up": "bring up the robot's nodes, with --sim a simulated robot too"},
    "demo_cmd": {"demo": "drive the simulated robot through clutter and faults; makes a bag and a report"},
    "report_cmd": {"report": "make a page with pictures of a recorded bag, or of a training run"},
    "replay_cmd": {"replay": "run the guard again over a black box dump"},
    "robot_cmd": {"robot": "write a robot file, check one"},
    "view_cmd": {"view": "watch one simulated drive, in a window or as a video"},
}

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    SubParsers = argparse._SubParsersAction


class _Parser(argparse.ArgumentParser):
    """Help often is a docstring: without its double backticks. Parsers of sub-commands are of this class, too."""

    def format_help(self) -> str:
        return super().format_help().replace("``", "")


class _Commands(SubParsers):
    """Takes the commands from the modules' ``register``, and says of each what ``COMMANDS`` says."""

    def add_parser(self, name: str, **settings: Any) -> argparse.ArgumentParser:
        (said,) = (commands[name] for commands in COMMANDS.values() if name in commands)
        return super().add_parser(name, **{**settings, "help": said})


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line: whole, or with the arguments of ``command`` alone and the others only listed, which imports no
    module but its own."""
    top = _Parser(
        prog="dsac-robot", description="Train, export, deploy, guard, record and replay learned policies of a robot."
    )
    top.add_argument("--version", action="version", version=__version__)
    subparsers = top.add_subparsers(title="commands", required=True, metavar="COMMAND", action=_Commands)
    for module, commands in COMMANDS.items():
        if command is None or command in commands:
            importlib.import_module(f"dsac_robot.apps.{module}").register(subparsers)
        else:
            for name in commands:
                subparsers.add_parser(name)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Status 0: it ran; 1: a target was missed under --strict; 2: bad input, said on stderr;
    130: stopped by Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    args = parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
    try:
        return int(args.run(args))
    except (ParameterError, FileNotFoundError) as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndsac-robot: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails again
        return 141  # as a shell says of a program that SIGPIPE ended


if __name__ == "__main__":
    sys.exit(main())
