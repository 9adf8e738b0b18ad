"""``dsac-robot bench sb3``: DSAC-T against Stable-Baselines3's SAC; the same environment steps, updates, evaluations.

Resumable: runs that are finished are left alone, ours go on from their checkpoints, an unfinished run of the peer
starts anew. The peer is installed below --out, without its dependencies: it runs on the torch, gymnasium and mujoco
that ours runs on. Figures come from ``compare`` once all runs are finished.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsac_robot.apps.run_record import FILE, RunId, digest_of, machine, read_record, versions
from dsac_robot.apps.train_seeds import TRAIN, Launcher, LocalRun, Planned, Running, parse_seeds, run_planned
from dsac_robot.core.params import ParameterError

TASKS = "InvertedDoublePendulum-v5,Hopper-v5,HalfCheetah-v5"
PEER = "stable-baselines3==2.9.2"
RATIO_MIN = 0.95
OURS, THEIRS = "dsac_t", "sb3_sac"


def register(commands: Any) -> None:
    """Add the benchmark."""
    parser = commands.add_parser("sb3", help="returns against Stable-Baselines3's SAC; stop and start it at will")
    parser.add_argument("--out", type=Path, default=Path("out/bench_sb3"), metavar="DIR", help="default: out/bench_sb3")
    parser.add_argument("--tasks", default=TASKS, metavar="LIST", help=f"default: {TASKS}")
    parser.add_argument("--seeds", default="0-2", metavar="LIST", help="default: 0-2")
    add_budget(parser)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting of ours")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if the target is missed")
    parser.set_defaults(run=run)


def add_budget(parser: argparse.ArgumentParser) -> None:
    """The options that ``budget`` reads, and how many runs are made at a time."""
    parser.add_argument("--updates", type=int, default=30_000, help="default: 30000")
    parser.add_argument("--environments", type=int, default=20, help="steps an update (default: 20)")
    parser.add_argument("--warmup-steps", type=int, default=10_000, help="random steps before them (default: 10000)")
    parser.add_argument("--eval-updates", type=int, default=1000, help="between evaluations (default: 1000)")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time (default: 1)")


def check_budget(args: argparse.Namespace) -> None:
    """ParameterError for what does not divide."""
    if args.updates % args.eval_updates:
        raise ParameterError(f"--updates {args.updates} must be a multiple of --eval-updates {args.eval_updates}")
    if args.warmup_steps % args.environments:
        raise ParameterError(f"--warmup-steps {args.warmup_steps} must be a multiple of --environments")


class _Launcher:
    """Starts runs of both kinds; the peer sees its own folder of packages beside ours."""

    def __init__(self, slots: int, packages: Path) -> None:
        self.slots, self._packages = slots, packages

    def start(self, folder: Path, arguments: Sequence[str]) -> Running:
        paths = [str(self._packages.resolve()), *filter(None, sys.path)]
        return LocalRun(folder, arguments, {"PYTHONPATH": ":".join(paths)})


def run(args: argparse.Namespace) -> int:
    """Do what is left, then compare."""
    tasks, seeds = args.tasks.split(","), parse_seeds(args.seeds)
    check_budget(args)
    planned = [
        plan(args, task, seed)
        for seed in seeds
        for task in tasks
        for plan in (_ours, _theirs)
        if not finished(_folder(args, plan is _ours, task, seed), args.updates)
    ]
    packages = args.out / "packages"
    if planned and not (packages / "stable_baselines3").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), PEER]
        subprocess.run(command, check=True)
    print(f"{len(planned)} of {2 * len(tasks) * len(seeds)} runs to do in {args.out}", file=sys.stderr)
    return _compare(args) if complete(planned, _Launcher(args.processes, packages)) else 1


def complete(planned: Sequence[Planned], launcher: Launcher) -> bool:
    """Do the runs; whether all are finished."""
    ended = run_planned(list(planned), launcher)
    failed = [run for run in planned if run.state != "finished"]
    if failed or not ended:
        named = ", ".join(f"{run.folder} ({run.state})" for run in failed)
        print(f"not finished: {named}; the same command goes on", file=sys.stderr)
    return ended and not failed


def _folder(args: argparse.Namespace, ours: bool, task: str, seed: int) -> Path:
    return Path(args.out) / (OURS if ours else THEIRS) / f"{task}_{seed}"


def finished(folder: Path, updates: int) -> bool:
    """Whether the run in ``folder`` has done so many updates and ended well."""
    record = read_record(folder) if (folder / FILE).exists() else {}
    return record.get("status") == "finished" and int(record["updates"]) >= updates


def _ours(args: argparse.Namespace, task: str, seed: int) -> Planned:
    folder = _folder(args, True, task, seed)
    command = [*TRAIN, *budget(args, folder, task, seed, args.set), "--out", str(folder)]
    return Planned(seed, folder, tuple(command), f"{OURS} {task}")


def budget(args: argparse.Namespace, folder: Path, task: str, seed: int, changes: Sequence[str]) -> list[str]:
    """What ``train`` is told but for --out: to begin, or to go on where ``folder`` has a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [f"gym:{task}", "--seed", str(seed), "--updates", str(args.updates)]
    if (folder / "checkpoint.pt").exists():
        return [*arguments, "--resume"]
    names = ("environments", "warmup_steps", "eval_updates")
    for item in [*(f"trainer.{name}={getattr(args, name)}" for name in names), *changes]:
        arguments += ["--set", item]
    return arguments


def _theirs(args: argparse.Namespace, task: str, seed: int) -> Planned:
    from dsac_robot.learn.seeds import Stream, seed_of

    folder = _folder(args, False, task, seed)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "updates": args.updates,
        "environments": args.environments,
        "warmup_steps": args.warmup_steps,
        "batch": 256,
        "eval_updates": args.eval_updates,
        "eval_episodes": 10,
        "seed": seed,
    }
    named = RunId(f"gym:{task}", None, seed, {"trainer": settings, "learner": {"name": PEER}})
    session: dict[str, Any] = {"command": ["bench", "sb3"], "status": "running", "revision": "", "started": ""}
    session |= {"versions": versions(), "machine": machine()}
    record: dict[str, Any] = {
        "format": 1,
        "task": named.task,
        "robot": None,
        "seed": seed,
        "recipe": named.recipe,
        "recipe_digest": digest_of(named.recipe),
        "status": "running",
        "sessions": [session],
    }
    seeds = {
        "env_seed": seed_of(seed, Stream.ENVIRONMENTS),
        "eval_seed": seed_of(seed, Stream.EVALUATION),
    }
    job = settings | seeds | {"task": task, "out": str(folder.resolve()), "record": record}
    (folder / "job.json").write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")
    script = Path(__file__).with_name("bench_sb3_peer.py")
    return Planned(seed, folder, (sys.executable, str(script), str(folder / "job.json")), f"{THEIRS} {task}")


def _compare(args: argparse.Namespace) -> int:
    """The last evaluation of every run, normalised by the peer's mean."""
    from dsac_robot.apps.cli import main

    command = ["compare", str(args.out / OURS), str(args.out / THEIRS), "--reference", THEIRS]
    command += ["--last", "0.001", "--ratio-min", str(RATIO_MIN), "--out", str(args.out)]
    if args.json is not None:
        command += ["--json", str(args.json)]
    return main([*command, "--strict"] if args.strict else command)
