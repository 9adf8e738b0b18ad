"""``dsac-robot train ... --seeds 0-4``: several runs at once, each a process of its own with a folder of its own.

Every run is the plain command, so that its folder is that of a single run: DIR/seed_N, with ``train.log``. Runs that
are finished are left alone, and with ``--resume`` those that were stopped go on.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dsac_robot.apps.run_record import FILE, read_record
from dsac_robot.apps.run_robot import ROBOT_FILE, keep_robot, resumed_robot
from dsac_robot.apps.train_run import Setup, with_seed
from dsac_robot.core.files import dump_yaml
from dsac_robot.core.params import ParameterError

LOOK_S, LINE_S = 1.0, 30.0
STOPPED = (-signal.SIGTERM, -signal.SIGINT)  # exit status of a run that was asked to end before it could listen
SHOWN = ("return", "success", "sigma", "alpha", "updates_per_s")


@dataclass(frozen=True)
class Look:
    """How a run is getting on: the last row of its progress.csv, and its exit status once it has ended."""

    row: dict[str, str]
    status: int | None


class Running(Protocol):
    """A run that was started, here or elsewhere."""

    def look(self) -> Look: ...
    def stop(self) -> None: ...
    def fetch(self) -> None: ...  # bring its folder here, once it has ended


class Launcher(Protocol):
    """Where runs are started."""

    slots: int

    def start(self, folder: Path, arguments: Sequence[str]) -> Running: ...


@dataclass
class Planned:
    """One seed's run, through its life."""

    seed: int
    folder: Path
    arguments: tuple[str, ...]
    label: str = ""  # for the table, where the seed alone does not tell
    running: Running | None = None
    look: Look = field(default_factory=lambda: Look({}, None))

    @property
    def state(self) -> str:
        """For the table."""
        status = self.look.status
        if status is None:
            return "waiting" if self.running is None else "running"
        if status == 0:
            return str(read_record(self.folder)["status"])
        return "stopped" if status in STOPPED else f"FAILED ({status})"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0-4`` or ``1,5,7-9``. ParameterError names the part that is neither, or the seed given twice."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ParameterError(f"--seeds {text}: {part!r} is neither a number nor a range such as 0-4")
        seeds += range(int(first), int(last if dash else first) + 1)
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ParameterError(f"--seeds {text}: {seed} is there twice")
    return tuple(seeds)


TRAIN = (sys.executable, "-m", "dsac_robot.apps.cli", "train")


class LocalRun:
    """A command that trains into ``folder``, in a process of this machine with one thread for numbers."""

    def __init__(self, folder: Path, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        with open(folder / "train.log", "ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"} | dict(variables or {})
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def look(self) -> Look:
        """The state now."""
        status = self._process.poll()  # before the row: the row of an ended run is then its last
        return Look(last_row(self._folder / "progress.csv"), status)

    def stop(self) -> None:
        """Ask it to save and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def fetch(self) -> None:
        """Its folder is here already."""


class LocalLauncher:
    """Starts runs on this machine, ``slots`` at a time."""

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def start(self, folder: Path, arguments: Sequence[str]) -> Running:
        """Start one run in ``folder``."""
        return LocalRun(folder, (*TRAIN, *arguments, "--out", str(folder)))


def last_row(path: Path) -> dict[str, str]:
    """The last whole row of a CSV file that another process is writing; empty if there is none."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return next(iter(csv.DictReader([whole[0], whole[-1]])), {}) if len(whole) > 1 else {}


def train_seeds(args: argparse.Namespace) -> int:
    """Train all seeds; status 0 if every run ended well, 1 if one failed. Ctrl-C stops and saves all."""
    from dsac_robot.apps.train_cmd import setup_of

    seeds = parse_seeds(args.seeds)
    if args.seed is not None:
        raise ParameterError("--seed and --seeds exclude each other")
    if args.processes is not None and args.processes < 1:
        raise ParameterError(f"--processes {args.processes} must be at least 1")
    folders = {seed: args.out / f"seed_{seed}" for seed in seeds}
    resumed = [seed for seed in seeds if (folders[seed] / "checkpoint.pt").exists()]
    if resumed and not args.resume:
        raise ParameterError(f"{folders[resumed[0]]} holds a run already: give --resume to continue, or another --out")
    setup = setup_of(_without_resume(args, folders[resumed[0]] if resumed else None))
    launcher = _launcher(args, setup)
    planned = []
    for seed in seeds:
        if seed in resumed and _is_finished(folders[seed], setup):
            print(f"{folders[seed]} is finished already", file=sys.stderr)
            continue
        planned.append(Planned(seed, folders[seed], _prepare(args, setup, seed, folders[seed], seed in resumed)))
    ended = run_planned(planned, launcher)
    failed = [run for run in planned if run.look.status not in (None, 0, *STOPPED)]
    for run in failed:
        print(f"seed {run.seed} ended with status {run.look.status}: see {run.folder / 'train.log'}", file=sys.stderr)
    if not ended:
        print(f"stopped; the same command with --resume goes on in {args.out}", file=sys.stderr)
    else:
        print(f"{len(planned) - len(failed)} runs in {args.out}; next: dsac-robot compare {args.out}")
    return 1 if failed else 0


def run_planned(planned: Sequence[Planned], launcher: Launcher) -> bool:
    """Run all, ``launcher.slots`` at a time, with a table on stderr. False if it was stopped before all had ended."""
    waiting, active = deque(planned), list[Planned]()
    asked: list[int] = []
    stopped = False
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    table = _Table(planned)
    try:
        while active or (waiting and not asked):
            while waiting and len(active) < launcher.slots and not asked:
                run = waiting.popleft()
                run.running = launcher.start(run.folder, run.arguments)
                active.append(run)
            if asked:
                asked.clear()
                stopped = True
                waiting.clear()
                for run in active:
                    _started(run).stop()
            time.sleep(LOOK_S)
            for run in list(active):
                run.look = _started(run).look()
                if run.look.status is not None:
                    _started(run).fetch()
                    active.remove(run)
            table.draw()
        table.draw(final=True)
    finally:
        for run in active:
            _started(run).stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    return not stopped


def _started(run: Planned) -> Running:
    assert run.running is not None  # it is among the active
    return run.running


def _prepare(args: argparse.Namespace, setup: Setup, seed: int, folder: Path, resume: bool) -> tuple[str, ...]:
    """Lay the run's folder: the whole recipe, and the robot's file where it has one. The arguments of its command,
    relative to the folder where it must be found elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = with_seed(setup.run, seed).recipe
    (folder / "recipe.yaml").write_text(dump_yaml(recipe), encoding="utf-8")
    arguments = [args.task, "--seed", str(seed)]
    if setup.robot is not None and resume:
        resumed_robot(folder, args.robot)  # refuse another one here, not in a process
    elif setup.robot is not None:
        keep_robot(folder, setup.robot)
        arguments += ["--robot", str((folder / ROBOT_FILE).resolve())]
    return (*arguments, "--resume") if resume else (*arguments, "--recipe", str((folder / "recipe.yaml").resolve()))


def _without_resume(args: argparse.Namespace, folder: Path | None) -> argparse.Namespace:
    """The arguments of the first run, to read the settings from: of its folder where it is resumed."""
    one: dict[str, Any] = vars(args) | {"seeds": None, "resume": folder is not None, "out": folder or args.out}
    return argparse.Namespace(**one)


def _is_finished(folder: Path, setup: Setup) -> bool:
    if not (folder / FILE).exists():
        return False
    record = read_record(folder)
    return record["status"] == "finished" and int(record["updates"]) >= setup.trainer.updates


def _launcher(args: argparse.Namespace, setup: Setup) -> Launcher:
    if args.ray is not None:
        from dsac_robot.apps.train_ray import RayLauncher

        return RayLauncher(args.ray, args.processes, 1 + setup.trainer.workers)
    return LocalLauncher(args.processes or max((os.cpu_count() or 1) // 2, 1))


class _Table:
    """The progress of all runs: redrawn in place on a terminal, else printed now and then."""

    def __init__(self, planned: Sequence[Planned]) -> None:
        self._planned = planned
        self._tty = sys.stderr.isatty()
        self._drawn = 0
        self._last = time.monotonic()

    def draw(self, final: bool = False) -> None:
        """Draw it, if it is time."""
        now = time.monotonic()
        if not (self._tty or final or now - self._last > LINE_S):
            return
        self._last = now
        if self._drawn and self._tty:
            print(f"\x1b[{self._drawn}A", end="", file=sys.stderr)
        lines = table_lines(self._planned)
        erase = "\x1b[K" if self._tty else ""
        print("\n".join(line + erase for line in lines), file=sys.stderr, flush=True)
        self._drawn = len(lines)


def table_lines(planned: Sequence[Planned]) -> list[str]:
    """The table: one line a run under a heading."""
    heading = f"{'seed':>6} {'state':<12} {'updates':>9} " + " ".join(f"{name:>13}" for name in SHOWN)
    lines = [heading]
    for run in planned:
        cells = []
        for name in SHOWN:
            text = run.look.row.get(name, "")
            cells.append(f"{float(text):>13.4g}" if text else f"{'':>13}")
        end = f"  {run.label}" if run.label else ""
        lines.append(f"{run.seed:>6} {run.state:<12} {run.look.row.get('updates', ''):>9} " + " ".join(cells) + end)
    return lines
