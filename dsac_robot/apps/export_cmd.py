"""``dsac-robot export``: from a training run to a signed bundle with a calibrated monitor.

1. drives in generated worlds with the policy and the guard, half of them to fit the monitor's densities, half to
calibrate its thresholds on episode maxima; 2. between these the parity gate: both models against torch on the first
half's states, and the policy against torch in closed loop (``parity_gate``); 3. card, manifest, signature.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.figures import git_revision
from dsac_robot.apps.parallel import run_all
from dsac_robot.apps.run_record import FILE, read_record
from dsac_robot.apps.run_robot import ROBOT_FILE, robot_of_run
from dsac_robot.core.files import load_yaml
from dsac_robot.core.observation import layout_for
from dsac_robot.core.ood import episode_maximum
from dsac_robot.core.params import ParameterError, as_dict
from dsac_robot.core.robot import Robot, load_robot

if TYPE_CHECKING:
    from dsac_robot.apps.bundling import Models, Trained
    from dsac_robot.apps.closed_loop import Drive
    from dsac_robot.bundle.card import Recorded
    from dsac_robot.learn.networks import Actor
    from sim.worlds import World

EXPORTED = ("navigate", "track")  # tasks; the policies of the others are not for robots
WORLD_SEED = 10_000_000  # calibration worlds: beyond those of training


@dataclass(frozen=True)
class Job:
    """One calibration drive."""

    bundle: str
    robot: str
    profile: str
    seed: int
    worlds: Callable[[int], World]


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("export")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of dsac-robot train")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle to write")
    parser.add_argument("--robot", help="robot name or .yaml file (default: the one that the run was trained for)")
    parser.add_argument("--actor", type=Path, metavar="FILE", help="a snapshot in RUN/actors (default: the last state)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key to sign with (default: unsigned)")
    parser.add_argument("--name", help="the bundle's name (default: that of its task and robot, as navigate_jackal)")
    parser.add_argument("--episodes", type=int, default=600, help="drives for the monitor, at least 400 (default: 600)")
    parser.add_argument(
        "--profile",
        choices=("static", "dynamic"),
        help="guard profile of the drives (default: static; for task track, where obstacles move, dynamic)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="number type of the policy's layers; what does not pass the parity gate is refused (default: fp32)",
    )
    parser.add_argument("--processes", type=int, default=2, help="drives at the same time (default: 2)")
    parser.set_defaults(run=run)


def task_of(folder: Path) -> str:
    """The task that a run is of. Raises ParameterError for one that no robot can be given."""
    task = str(read_record(folder)["task"]) if (folder / FILE).exists() else "navigate"
    if task not in EXPORTED:
        raise ParameterError(f"{folder}: a run of {task}: only policies of {', '.join(EXPORTED)} drive a robot")
    return task


def worlds_of(task: str, recipe: dict[str, Any], robot: Robot) -> Callable[[int], World]:
    """The generator of the drives' worlds: clutter for ``navigate``; for ``track`` as in training, but as long as the
    task's episodes are, whatever the recipe cut them to."""
    from dsac_robot.apps.train_cmd import read_recipe
    from sim.track import TrackEnvParams
    from sim.worlds import generate_clutter

    environment = read_recipe(recipe, "recipe.yaml", task).environment
    if not isinstance(environment, TrackEnvParams):
        return generate_clutter
    return replace(environment, time_limit_s=TrackEnvParams().time_limit_s).source(robot)


def load_actor(
    folder: Path, snapshot: Path | None, robot: Robot, task: str = "navigate"
) -> tuple[Actor, int, dict[str, Any]]:
    """The actor of a run, how many updates made it, and the run's recipe. Raises ParameterError naming what lacks."""
    import torch

    from dsac_robot.apps.train_cmd import read_recipe
    from dsac_robot.learn.policy import make_learner

    recipe = dict(load_yaml(folder / "recipe.yaml"))
    path = snapshot or folder / "checkpoint.pt"
    if not path.exists():
        raise ParameterError(f"{path} is not there: train first, or name a snapshot with --actor")
    state = torch.load(path, weights_only=False)
    actor_state = state["actor"] if snapshot else state["learner"]["actor"]
    learner = make_learner(robot, layout_for(task, robot), read_recipe(recipe, "recipe.yaml", task).learner)
    try:
        learner.actor.load_state_dict(actor_state)
    except RuntimeError as error:
        raise ParameterError(f"{path} does not fit robot {robot.name}: {error}") from error
    return learner.actor, int(state["updates"] if snapshot else state["learner"]["updates"]), recipe


def work(jobs: Iterator[Job]) -> Iterator[tuple[int, Drive]]:
    """Drive in this process, each drive with its seed; the policy is loaded once."""
    from dsac_robot.apps.barn_cmd import guard_params
    from dsac_robot.apps.closed_loop import LoopParams, drive
    from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle

    policy = monitor = None
    for job in jobs:
        if policy is None:
            robot = load_robot(job.robot)
            bundle = load_bundle(job.bundle, allow_unsigned=True)
            policy = DeployedPolicy(bundle, robot)
            monitor = DeployedMonitor(bundle, robot) if bundle.card.monitor else None
        world = job.worlds(job.seed)
        loop = LoopParams(time_limit_s=40.0 if world.route is None else 100.0)
        yield job.seed, drive(robot, world, job.seed, policy, monitor, guard_params(job.profile), loop)


def drives(bundle: Path, trained: Trained, args: argparse.Namespace, seeds: range, what: str) -> list[Drive]:
    """Drive generated worlds with a bundle, the guard on, in the order of the seeds; progress on stderr."""
    worlds = worlds_of(trained.task, dict(trained.recorded.recipe), trained.robot)
    jobs = [Job(str(bundle), args.robot, args.profile, seed, worlds) for seed in seeds]
    found: dict[int, Drive] = {}
    started = time.monotonic()
    for seed, done in run_all(work, jobs, args.processes):
        found[seed] = done
        if len(found) % 50 == 0 or len(found) == len(jobs):
            left = (time.monotonic() - started) / len(found) * (len(jobs) - len(found))
            success = sum(d.outcome == "success" for d in found.values()) / len(found)
            print(
                f"{what}: {len(found)}/{len(jobs)} drives | success {success:.1%} | left {left:.0f} s", file=sys.stderr
            )
    return [found[seed] for seed in seeds]


def recorded(args: argparse.Namespace, recipe: dict[str, Any]) -> Recorded:
    """What is known of the policy before its drives."""
    from dsac_robot.apps.barn_cmd import guard_params
    from dsac_robot.apps.bundling import versions
    from dsac_robot.bundle.card import Recorded

    return Recorded(
        guard=as_dict(guard_params(args.profile)),
        recipe=recipe,
        recipe_digest=hashlib.sha256((args.run_folder / "recipe.yaml").read_bytes()).hexdigest(),
        seeds=(int(recipe["trainer"]["seed"]),),
        git_revision=git_revision(),
        versions=versions("torch", "mujoco", "onnx", "onnxruntime", "numpy"),
        flags=() if args.precision == "fp32" else (args.precision,),
    )


def fitted(trained: Trained, args: argparse.Namespace, folder: Path) -> Models:
    """Drive with the policy alone, fit the monitor to the drives that reach the goal, and pass the parity gate."""
    from dsac_robot.apps.bundling import fitted_models, policy_model
    from dsac_robot.apps.parity_gate import closed_loop
    from dsac_robot.bundle.write import write_bundle

    plain = write_bundle(folder / "plain", trained.card(None), policy_model(trained), None, None)
    found = drives(plain, trained, args, range(WORLD_SEED, WORLD_SEED + args.episodes // 2), "fit the monitor")
    good = [d for d in found if d.outcome == "success"]
    if len(good) < 0.5 * len(found):
        raise ParameterError(f"only {len(good)} of {len(found)} drives reach the goal: train longer before export")
    observations = np.concatenate([d.observations for d in good])
    models = fitted_models(trained, observations, np.concatenate([d.commands for d in good]), args.precision)
    driven = closed_loop(trained, models.policy, args.robot, folder / "gate", args.processes)
    return replace(models, parity=models.parity | driven)


def calibration(trained: Trained, models: Models, args: argparse.Namespace, folder: Path) -> list[Drive]:
    """Drive other worlds with the monitor watching, its scores kept, its levels open."""
    from dsac_robot.apps.bundling import OPEN
    from dsac_robot.bundle.write import write_bundle

    watched = write_bundle(folder / "watched", trained.card(OPEN), models.policy, models.monitor, None)
    seeds = range(WORLD_SEED + args.episodes // 2, WORLD_SEED + args.episodes)
    return drives(watched, trained, args, seeds, "calibrate")


def scores(found: list[Drive], updates: int, task: str = "navigate") -> dict[str, float]:
    """Figures of the calibration drives, for the card."""
    worlds = "track" if task == "track" else "clutter"
    return {
        "updates": float(updates),
        f"{worlds}_success_rate": sum(d.outcome == "success" for d in found) / len(found),
        f"{worlds}_caused_contacts": float(sum(d.caused for d in found)),
        f"{worlds}_time_s_mean": float(np.mean([d.time_s for d in found if d.outcome == "success"])),
    }


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit status."""
    import torch

    from dsac_robot.apps.bundling import CALIBRATION_EPISODES_MIN, OPEN, Trained, calibrate, check_place, with_record
    from dsac_robot.bundle.deployed import check_robot
    from dsac_robot.bundle.errors import BundleError
    from dsac_robot.bundle.keys import load_private_key
    from dsac_robot.bundle.write import write_bundle

    least = CALIBRATION_EPISODES_MIN
    if args.episodes < 2 * least:
        raise ParameterError(f"--episodes {args.episodes} must be at least {2 * least}: half to fit, half to calibrate")
    torch.set_num_threads(1)
    try:
        check_place(args.out)
        key = load_private_key(args.key) if args.key else None
        load_yaml(args.run_folder / "recipe.yaml")  # where RUN is no run, say so first
        task, args.robot = task_of(args.run_folder), robot_of_run(args.run_folder, args.robot)
        robot = load_robot(args.robot)
        args.profile = args.profile or ("dynamic" if task == "track" else "static")
        actor, updates, recipe = load_actor(args.run_folder, args.actor, robot, task)
        name = args.name or f"{task}_{robot.name}"
        trained = Trained(name, actor, robot, layout_for(task, robot), recorded(args, recipe), task)
        if (args.run_folder / ROBOT_FILE).exists():
            began = load_robot(args.run_folder / ROBOT_FILE)
            check_robot(replace(trained, robot=began, layout=layout_for(task, began)).card(None), robot)
        with tempfile.TemporaryDirectory() as folder:
            models = fitted(trained, args, Path(folder))
            found = calibration(trained, models, args, Path(folder))
        spec = calibrate([episode_maximum(d.scores, OPEN.raise_after) for d in found])
        trained = with_record(trained, parity=models.parity, scores=scores(found, updates, task))
        write_bundle(args.out, trained.card(spec), models.policy, models.monitor, key)
    except BundleError as error:
        raise ParameterError(str(error)) from error
    signed = "signed" if key else "UNSIGNED: give --key, or load it with allow_unsigned"
    print(f"{args.out}: {updates} updates, parity {models.parity['command_max_abs']:.2g}, {signed}")
    return 0
