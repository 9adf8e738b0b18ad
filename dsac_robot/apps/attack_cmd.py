"""``dsac-robot attack``: adversaries against the guard, in thousands of episodes, with what the guard assumes watched.

Each seed is an arena. It is driven with the guard until 20 s or 10 m, and without it, which shows whether the attack is
one. A contact at above 0.02 m/s counts as a violation where every assumption held for the second before; steps in which
one did not hold are counted and shown. ``--out`` keeps every episode: called again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.barn_runs import guard_params
from dsac_robot.apps.figures import report, status, write_json
from dsac_robot.apps.parallel import run_all
from dsac_robot.core.files import share_path
from dsac_robot.core.params import ParameterError, as_dict
from dsac_robot.core.robot import Robot, load_robot

if TYPE_CHECKING:
    from sim.attack import Episode

KINDS = ("white", "wander", "bang", "trained", "forces", "trained_forces", "chasers")
EPISODES_FILE = "episodes.jsonl"
WEIGHTS = "attacker_{robot}.onnx"


@dataclass(frozen=True)
class Job:
    """One seed of one attack, with the guard and without."""

    attack: str
    seed: int
    robot: Robot
    weights: str


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("attack", description=__doc__)
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="LIST", help=f"default: {','.join(KINDS)}")
    parser.add_argument("--episodes", type=int, default=70, help="seeds in all, shared by the kinds (default: 70)")
    parser.add_argument("--seed", type=int, default=0, help="the first one (default: 0)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="trained attacker: .onnx or run folder (default: the shipped one)"
    )
    parser.add_argument("--processes", type=int, default=2, help="episodes at the same time (default: 2)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep episodes there, to go on from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run)


def work(jobs: Iterator[Job]) -> Iterator[tuple[Episode, Episode]]:
    """Episodes with and without the guard, in this process."""
    from dsac_robot.apps.attack_driver import trained_driver
    from sim.attack import ATTACKS, TRAINED, attack

    for job in jobs:
        kind = ATTACKS[job.attack]
        trained = trained_driver(job.robot, Path(job.weights)) if kind.driver == TRAINED else None
        guard = guard_params(kind.profile)
        yield (
            attack(job.attack, job.seed, job.robot, guard, True, trained),
            attack(job.attack, job.seed, job.robot, guard, False, trained),
        )


def run(args: argparse.Namespace) -> int:
    """Attack, count, say."""
    from dsac_robot.apps.attack_figures import figures_of, table_of
    from sim.attack import ATTACKS, TRAINED

    kinds = args.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in ATTACKS]
    if unknown:
        raise ParameterError(f"--kinds {', '.join(unknown)}: no such attack; known: {', '.join(KINDS)}")
    if args.episodes < len(kinds) or args.seed < 0:
        raise ParameterError(
            f"--episodes {args.episodes} must be at least {len(kinds)}, one of each kind; --seed {args.seed} at least 0"
        )
    robot = load_robot(args.robot)
    weights = _weights(args.weights, robot) if any(ATTACKS[kind].driver == TRAINED for kind in kinds) else Path()
    jobs = [Job(kinds[i % len(kinds)], args.seed + i // len(kinds), robot, str(weights)) for i in range(args.episodes)]
    profiles = {profile: as_dict(guard_params(profile)) for profile in ("static", "dynamic")}
    header = json.loads(json.dumps({"robot": as_dict(robot), "guard": profiles}))
    episodes = _attack_all(jobs, args.processes, header, args.out)
    figures = figures_of(episodes)
    rows = table_of(episodes)
    for row in rows:
        print(
            f"{row['attack']:>15} {row['episodes']:6d} episodes  violations {row['violations']}  caused contacts while "
            f"an assumption was broken {row['excluded_contacts']}  without guard {row['contacts_without_guard']:.0%}  "
            f"way {row['way_m_median']:.1f} m  assumptions held in {row['assumptions_held']:.1%} of the steps"
        )
    for figure in figures:
        verdict = "" if figure.ok is None else f"  target {figure.target}: {'met' if figure.ok else 'MISSED'}"
        print(f"{figure.name:>40} {figure.value:.6g} {figure.unit}{verdict}")
    found = [dataclasses.asdict(e) for e in episodes if e.guard and e.caused]
    write_json(args.json, report(figures, attacks=rows, caused_contacts=found, robot=robot.name, first_seed=args.seed))
    return status(figures, args.strict)


def _weights(given: Path | None, robot: Robot) -> Path:
    """The trained attacker's model: the one given, that of the run given, or the shipped one."""
    if given is not None and given.is_dir():
        from dsac_robot.apps.attack_driver import exported

        return exported(given, robot)
    weights = given or share_path("config", "attackers") / WEIGHTS.format(robot=robot.name)
    if not weights.is_file():
        raise ParameterError(
            f"{weights} is missing: train it (dsac-robot train attack --robot {robot.name} --out RUN) and give "
            "--weights RUN, or leave the trained ones out of --kinds"
        )
    return weights


def _attack_all(jobs: list[Job], processes: int, header: dict[str, Any], out: Path | None) -> list[Episode]:
    """All episodes, those that ``out`` holds from an earlier start included."""
    path = out / EPISODES_FILE if out else None
    done = read_episodes(path, header) if path else []
    have = {(e.attack, e.seed) for e in done if not e.guard}  # written after the one with the guard
    wanted = {(job.attack, job.seed) for job in jobs}
    done = [e for e in done if (e.attack, e.seed) in have & wanted]
    left = [job for job in jobs if (job.attack, job.seed) not in have]
    started = time.monotonic()
    for count, pair in enumerate(run_all(work, left, processes), 1):
        done += pair
        if path:
            with path.open("a", encoding="utf-8") as stream:
                stream.write("".join(json.dumps(dataclasses.asdict(e)) + "\n" for e in pair))
        if pair[0].violation:
            print(
                f"VIOLATION: {pair[0].attack} seed {pair[0].seed} at {pair[0].touch_speed_mps:.3f} m/s", file=sys.stderr
            )
        rest_s = (time.monotonic() - started) / count * (len(left) - count)
        if sys.stderr.isatty() or count % 50 == 0 or count == len(left):
            line = f"{count}/{len(left)} episodes | left {rest_s:.0f} s"
            print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    return done


def read_episodes(path: Path, header: dict[str, Any]) -> list[Episode]:
    """Episodes in ``path``, which is begun with ``header`` if it is new. A half-written last line is dropped.

    Raises ParameterError where the file is of another robot or other guard parameters, or damaged.
    """
    from sim.attack import Episode

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return []
    first, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    whole = [line for line in lines if line.endswith("\n")]
    try:
        same = json.loads(first) == header
        found = [Episode(**json.loads(line)) for line in whole]
    except (json.JSONDecodeError, TypeError) as error:
        raise ParameterError(f"{path}: damaged ({error}): give another --out, or delete it") from error
    if not same:
        raise ParameterError(f"{path} is of another robot or other guard parameters: give another --out, or delete it")
    if len(whole) < len(lines):
        path.write_text("".join([first, *whole]), encoding="utf-8")
    return found
