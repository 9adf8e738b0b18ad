"""``dsac-robot export``: from a training run to a signed bundle with a calibrated monitor.

1. the policy as ONNX, compared with torch; 2. drives in generated worlds with that policy and the guard, half of
them to fit the monitor's densities, half to calibrate its thresholds on episode maxima; 3. card, manifest, signature.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.figures import git_revision
from dsac_robot.apps.parallel import run_all
from dsac_robot.core.action import ActionMap
from dsac_robot.core.files import load_yaml
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.ood import MonitorSpec, ScoreSpec, conformal_threshold, episode_maximum
from dsac_robot.core.params import ParameterError, as_dict
from dsac_robot.core.robot import Robot, load_robot

if TYPE_CHECKING:
    from dsac_robot.apps.closed_loop import Drive
    from dsac_robot.learn.networks import Actor

ALPHA_CAUTION, ALPHA_ALARM = 0.05, 0.01  # false cautions and alarms an episode, at most
WORLD_SEED = 10_000_000  # calibration worlds: beyond those of training
PARITY_MAX = 1e-4  # m/s, rad/s


@dataclass(frozen=True)
class Job:
    """One calibration drive."""

    bundle: str
    robot: str
    profile: str
    seed: int


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("export", help="make a signed bundle of a training run")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of dsac-robot train")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle to write")
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--actor", type=Path, metavar="FILE", help="a snapshot in RUN/actors (default: the last state)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key to sign with (default: unsigned)")
    parser.add_argument("--name", default="navigate_jackal", help="the bundle's name")
    parser.add_argument("--episodes", type=int, default=600, help="drives for the monitor (default: 600)")
    parser.add_argument(
        "--profile", choices=("static", "dynamic"), default="static", help="guard profile of the drives"
    )
    parser.add_argument("--processes", type=int, default=2, help="drives at the same time (default: 2)")
    parser.set_defaults(run=run)


def load_actor(folder: Path, snapshot: Path | None, robot: Robot) -> tuple[Actor, int, dict[str, Any]]:
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
    learner = make_learner(robot, ObservationLayout(), read_recipe(recipe, "recipe.yaml").learner)
    try:
        learner.actor.load_state_dict(actor_state)
    except RuntimeError as error:
        raise ParameterError(f"{path} does not fit robot {robot.name}: {error}") from error
    return learner.actor, int(state["updates"] if snapshot else state["learner"]["updates"]), recipe


def work(jobs: Iterator[Job]) -> Iterator[Drive]:
    """Drive in this process; the policy is loaded once."""
    from dsac_robot.apps.barn_cmd import guard_params
    from dsac_robot.apps.closed_loop import LoopParams, drive
    from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle
    from sim.worlds import generate_clutter

    policy = monitor = None
    for job in jobs:
        if policy is None:
            robot = load_robot(job.robot)
            bundle = load_bundle(job.bundle, allow_unsigned=True)
            policy = DeployedPolicy(bundle, robot)
            monitor = DeployedMonitor(bundle, robot) if bundle.card.monitor else None
        loop = LoopParams(time_limit_s=40.0)
        yield drive(robot, generate_clutter(job.seed), job.seed, policy, monitor, guard_params(job.profile), loop)


def drives(bundle: Path, args: argparse.Namespace, seeds: range, what: str) -> list[Drive]:
    """Drive generated worlds with a bundle, the guard on; progress on stderr."""
    jobs = [Job(str(bundle), args.robot, args.profile, seed) for seed in seeds]
    found: list[Drive] = []
    started = time.monotonic()
    for done in run_all(work, jobs, args.processes):
        found.append(done)
        if len(found) % 50 == 0 or len(found) == len(jobs):
            left = (time.monotonic() - started) / len(found) * (len(jobs) - len(found))
            success = sum(d.outcome == "success" for d in found) / len(found)
            print(
                f"{what}: {len(found)}/{len(jobs)} drives | success {success:.1%} | left {left:.0f} s", file=sys.stderr
            )
    return found


def calibrate(maxima: list[Any], names: tuple[str, ...], raise_after: int) -> MonitorSpec:
    """Thresholds from episode maxima of each score; alpha is shared among the scores (union bound)."""
    table = np.array(maxima)  # (E, K)
    share = len(names)
    scores = tuple(
        ScoreSpec(
            name,
            conformal_threshold(table[:, k], ALPHA_CAUTION / share),
            conformal_threshold(table[:, k], ALPHA_ALARM / share),
        )
        for k, name in enumerate(names)
    )
    return MonitorSpec(scores, raise_after, alpha_caution=ALPHA_CAUTION, alpha_alarm=ALPHA_ALARM, episodes=len(table))


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit status."""
    import torch

    from dsac_robot.apps.barn_cmd import guard_params
    from dsac_robot.bundle.card import Card, Recorded
    from dsac_robot.bundle.keys import load_private_key
    from dsac_robot.bundle.write import write_bundle
    from dsac_robot.learn.export import MONITOR_SCORES, DensityMonitor, DeployedActor, parity, to_onnx

    if args.episodes < 2 * 200:
        raise ParameterError(f"--episodes {args.episodes} must be at least 400: 200 to fit, 200 to calibrate")
    torch.set_num_threads(1)
    key = load_private_key(args.key) if args.key else None  # before the long part
    robot, layout = load_robot(args.robot), ObservationLayout()
    actor, updates, recipe = load_actor(args.run_folder, args.actor, robot)
    actions, specs = ActionMap.of(robot.limits), ObservationBuilder(robot, layout).specs
    deployed = DeployedActor(actor, actions)
    policy_onnx = to_onnx(deployed, specs, "command", with_command=False)

    recorded = {
        "guard": as_dict(guard_params(args.profile)),
        "recipe": recipe,
        "recipe_digest": hashlib.sha256((args.run_folder / "recipe.yaml").read_bytes()).hexdigest(),
        "seeds": (int(recipe["trainer"]["seed"]),),
        "git_revision": git_revision(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "mujoco", "onnx", "numpy")},
    }
    bare = Card.of(args.name, "navigate", robot, layout, None, Recorded(**recorded))
    with tempfile.TemporaryDirectory() as folder:
        half = args.episodes // 2
        plain = write_bundle(Path(folder) / "plain", bare, policy_onnx, None, None)
        fitting = drives(plain, args, range(WORLD_SEED, WORLD_SEED + half), "fit the monitor")
        good = [d for d in fitting if d.outcome == "success"]
        if len(good) < 0.5 * len(fitting):
            raise ParameterError(
                f"only {len(good)} of {len(fitting)} drives reach the goal: train longer before export"
            )
        observations = np.concatenate([d.observations for d in good])
        commands = np.concatenate([d.commands for d in good])
        difference = parity(deployed, policy_onnx, specs, observations)
        if difference > PARITY_MAX:
            raise ParameterError(f"torch and ONNX Runtime differ by {difference} in command; the limit is {PARITY_MAX}")
        monitor = DensityMonitor(actor, actions)
        monitor.fit(observations, commands)
        monitor_onnx = to_onnx(monitor, specs, "scores", with_command=True)
        monitor_difference = parity(monitor, monitor_onnx, specs, observations, commands)
        open_spec = MonitorSpec(tuple(ScoreSpec(name, 1e9, 1e9) for name in MONITOR_SCORES))
        card = Card.of(args.name, "navigate", robot, layout, open_spec, Recorded(**recorded))
        watched = write_bundle(Path(folder) / "watched", card, policy_onnx, monitor_onnx, None)
        calibration = drives(watched, args, range(WORLD_SEED + half, WORLD_SEED + args.episodes), "calibrate")
    maxima = [episode_maximum(d.scores, open_spec.raise_after) for d in calibration]
    spec = calibrate(maxima, MONITOR_SCORES, open_spec.raise_after)
    recorded["parity"] = {"command_max_abs": difference, "scores_max_abs": monitor_difference}
    recorded["scores"] = {
        "updates": float(updates),
        "clutter_success_rate": sum(d.outcome == "success" for d in calibration) / len(calibration),
        "clutter_caused_contacts": float(sum(d.caused for d in calibration)),
        "clutter_time_s_mean": float(np.mean([d.time_s for d in calibration if d.outcome == "success"])),
    }
    card = Card.of(args.name, "navigate", robot, layout, spec, Recorded(**recorded))
    write_bundle(args.out, card, policy_onnx, monitor_onnx, key)
    signed = "signed" if key else "UNSIGNED: give --key, or load it with allow_unsigned"
    print(f"{args.out}: {updates} updates, parity {difference:.2g}, {signed}")
    return 0
