"""``dsac-robot offline train``: a policy from a data set of recorded drives, as a bundle that the same nodes load."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.figures import git_revision
from dsac_robot.core.files import dump_yaml
from dsac_robot.core.params import ParameterError, as_dict, build
from dsac_robot.core.robot import Robot, load_robot

if TYPE_CHECKING:
    from dsac_robot.apps.bundling import Models, Trained
    from dsac_robot.core.ood import MonitorSpec
    from dsac_robot.core.values import Floats, Floats32
    from dsac_robot.data.minari_store import Dataset
    from dsac_robot.learn.cloning import CloningConfig, Look, Split
    from dsac_robot.learn.networks import Actor

SAFE_COST_LIMIT = 0.0
FLAG_UNTUNED, FLAG_UNCALIBRATED = "untuned", "monitor_uncalibrated"
ABOUT = """\
Clones what the robot was sent (not what its policy asked), on the mode of the actor that DSAC-T trains.
  bc       learns from every episode.
  bc_safe  learns only from episodes whose total safety cost, the undiscounted sum of infos["cost"], is at most
           --cost-limit. A step costs 1 in contact or with less clearance than the data set's cost_clearance_m, else 0.
           Whole episodes are kept or dropped.
Part of the episodes (whole bags where there are two or more) is held out; training ends when it has long brought no
better loss on them. The bundle's card is flagged "untuned": nobody has driven with it yet. With too few episodes to
calibrate the monitor its thresholds are strict (caution at the median of the held-out episodes' maxima, alarm above
their largest) and the card says "monitor_uncalibrated".
"""


@dataclass(frozen=True)
class Learned:
    """What came of the training."""

    actor: Actor
    curve: list[Look]
    scores: dict[str, float]


def register(subparsers: Any) -> None:
    """Add the command."""
    actions = subparsers.add_parser("offline").add_subparsers(dest="action", required=True, metavar="ACTION")
    parser = actions.add_parser(
        "train",
        help="train on a data set and write a bundle",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--method", choices=("bc_safe", "bc"), required=True, help="how to learn, see above")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="made by dsac-robot dataset build")
    parser.add_argument("--robot", required=True, help="the robot it is for: a name or a .yaml file")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="the bundle to write")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key to sign with (default: unsigned)")
    parser.add_argument("--name", help="the bundle's name (default: that of --out)")
    parser.add_argument(
        "--run", type=Path, metavar="DIR", dest="run_folder", help="loss curve and recipe (default: BUNDLE_run)"
    )
    parser.add_argument("--updates", type=int, help="at most so many updates (default: 20000)")
    parser.add_argument("--seed", type=int, help="of the split, the network and the batches (default: 0)")
    parser.add_argument("--cost-limit", type=float, metavar="C", help="of an episode, for bc_safe (default: 0)")
    parser.set_defaults(run=_guarded)


def _guarded(args: argparse.Namespace) -> int:
    """``run`` with bad input answered as the command line answers it."""
    from dsac_robot.bundle.errors import BundleError
    from dsac_robot.data.minari_store import DatasetError

    try:
        return run(args)
    except (BundleError, DatasetError) as error:
        raise ParameterError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    """Train and write the bundle; returns the exit status."""
    import torch

    from dsac_robot.apps import bundling
    from dsac_robot.bundle.card import Recorded
    from dsac_robot.bundle.keys import load_private_key
    from dsac_robot.bundle.write import write_bundle
    from dsac_robot.data.minari_store import load_dataset
    from dsac_robot.learn.cloning import CloningConfig, split

    torch.set_num_threads(1)
    given = {key: getattr(args, key) for key in ("updates", "seed") if getattr(args, key) is not None}
    config = build(CloningConfig, given, "offline train")
    limit = cost_limit(args.method, args.cost_limit)
    bundling.check_place(args.out)
    key = load_private_key(args.key) if args.key else None
    robot, dataset = load_robot(args.robot), load_dataset(args.dataset)
    check_same_robot(dataset, robot, args.dataset)
    chosen = chosen_episodes(dataset, limit)
    parts = split(dataset, chosen, config, bundling.CALIBRATION_EPISODES_MIN)
    print(f"{args.method}: {len(chosen)} of {len(dataset.episodes)} episodes; {describe(parts)}", file=sys.stderr)

    learned = learn(dataset, parts, config)
    recipe = {
        "method": args.method,
        "cost_limit": limit,
        "config": as_dict(config),
        "dataset": dataset.id,
        "episodes": {"all": len(dataset.episodes), "chosen": len(chosen), **counts(parts)},
        "reward_version": dataset.reward_version,
        "monitor": monitor_rule(parts),
    }
    text = dump_yaml(recipe)
    recorded = Recorded(
        recipe=recipe,
        recipe_digest=hashlib.sha256(text.encode()).hexdigest(),
        seeds=(config.seed,),
        data=data_hashes(dataset, args.dataset),
        git_revision=git_revision(),
        scores=learned.scores,
        versions=bundling.versions("torch", "onnx", "numpy", "minari"),
        flags=(FLAG_UNTUNED,) if parts.calibration else (FLAG_UNTUNED, FLAG_UNCALIBRATED),
    )
    trained = bundling.Trained(
        args.name or args.out.name, learned.actor, robot, dataset.layout, recorded, dataset.task_name
    )
    models, spec = watched(trained, dataset, parts)
    trained = bundling.with_record(trained, parity=models.parity)
    folder = args.run_folder or args.out.with_name(f"{args.out.name}_run")
    write_run(folder, text, learned, f"{args.method} on {dataset.id}")
    write_bundle(args.out, trained.card(spec), models.policy, models.monitor, key)
    print("\n".join(summary(args.out, folder, trained, key is not None)))
    return 0


def cost_limit(method: str, asked: float | None) -> float | None:
    """The limit of an episode's cost; None where all episodes serve. ParameterError for a limit that cannot be."""
    if method == "bc":
        if asked is not None:
            raise ParameterError("--cost-limit has no meaning with --method bc, which learns from every episode")
        return None
    limit = SAFE_COST_LIMIT if asked is None else asked
    if not (np.isfinite(limit) and limit >= 0.0):
        raise ParameterError(f"--cost-limit {limit} must be finite and at least 0")
    return limit


def chosen_episodes(dataset: Dataset, limit: float | None) -> tuple[int, ...]:
    """The episodes to learn from."""
    from dsac_robot.learn.cloning import safe_episodes

    return tuple(range(len(dataset.episodes))) if limit is None else safe_episodes(dataset, limit)


def check_same_robot(dataset: Dataset, robot: Robot, path: Path) -> None:
    """Raise ParameterError listing what a bundle for ``robot`` could not keep of the data set's contract."""
    from dsac_robot.bundle.card import Card

    found = Card.of("data set", "navigate", dataset.robot, dataset.layout).mismatches(robot)
    if found:
        fields = "; ".join(item.replace("the bundle", "the data set") for item in found)
        raise ParameterError(
            f"{path} was recorded by robot {dataset.robot.name!r}, which is not {robot.name!r}: {fields}. Give --robot "
            "that robot, or build the data set again from bags of this one"
        )


def counts(parts: Split) -> dict[str, int]:
    """Episodes in each part."""
    return {"train": len(parts.train), "validation": len(parts.validation), "calibration": len(parts.calibration)}


def describe(parts: Split) -> str:
    """The split, for a reader."""
    return ", ".join(f"{count} for {name}" for name, count in counts(parts).items())


def learn(dataset: Dataset, parts: Split, config: CloningConfig) -> Learned:
    """Clone, with a progress line on stderr, and hold the result against repeating the last command."""
    from dsac_robot.core.action import ActionMap
    from dsac_robot.learn.cloning import clone, commands_of, errors, examples, make_actor, repeat_error

    train, validation = examples(dataset, parts.train), examples(dataset, parts.validation)
    actor = make_actor(dataset.robot, dataset.layout, config)
    curve = clone(actor, train, validation, config, lambda look: _tell(look, config.updates))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    actions = ActionMap.of(dataset.robot.limits)
    best = [look for look in curve if look.best][-1]
    speed, yaw_rate = errors(commands_of(actor, actions, validation.observations), validation, actions)
    scores = {
        "updates": float(best.update),
        "train_steps": float(len(train.actions)),
        "validation_steps": float(len(validation.actions)),
        "validation_loss": best.validation_loss,
        "validation_speed_error_mps": float(speed),
        "validation_yaw_rate_error_radps": float(yaw_rate),
    }
    repeated = repeat_error(validation, dataset.robot, dataset.layout)
    if repeated is not None:
        scores["repeat_last_speed_error_mps"] = float(repeated[0])
        scores["repeat_last_yaw_rate_error_radps"] = float(repeated[1])
    return Learned(actor, curve, scores)


def _tell(look: Look, updates: int) -> None:
    loss = f"loss {look.train_loss:.5f}" if look.update else "untrained   "
    text = (
        f"update {look.update:>6} of {updates} | {loss} | "
        f"held-out {look.validation_loss:.5f}{' *' if look.best else '  '}"
    )
    print("\r" + text if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)
    sys.stderr.flush()


def monitor_rule(parts: Split) -> str:
    """How the monitor's thresholds came about, for the card."""
    if parts.calibration:
        return f"calibrated on the maxima of {len(parts.calibration)} held-out recorded episodes"
    return (
        f"not calibrated: caution at the median, alarm above the largest maximum of {len(parts.validation)} held-out "
        "recorded episodes"
    )


def watched(trained: Trained, dataset: Dataset, parts: Split) -> tuple[Models, MonitorSpec]:
    """The models, the monitor fitted to the training episodes, and its thresholds from held-out ones.

    The monitor judges what the policy asks, so it is fitted to the clone's commands at the recorded observations.
    """
    from dsac_robot.apps.bundling import calibrate, conservative, fitted_models
    from dsac_robot.learn.cloning import commands_of, observations_of

    actor, actions = trained.actor, trained.actions
    observations = np.concatenate([observations_of(dataset, i) for i in parts.train])
    models = fitted_models(trained, observations, commands_of(actor, actions, observations))
    held = [observations_of(dataset, i) for i in parts.calibration or parts.validation]
    maxima = episode_maxima(trained, models.monitor, held)
    return models, calibrate(maxima) if parts.calibration else conservative(maxima)


def episode_maxima(trained: Trained, monitor_onnx: bytes, episodes: Sequence[Floats32]) -> list[Floats]:
    """The maxima of the scores in each episode, by the model that ships."""
    from dsac_robot.apps.bundling import OPEN
    from dsac_robot.core.ood import episode_maximum
    from dsac_robot.learn.cloning import commands_of
    from dsac_robot.learn.export import runtime_of, split_terms

    runtime = runtime_of(monitor_onnx, trained.specs, "scores", (len(OPEN.scores),), with_command=True)
    maxima = []
    for observations in episodes:
        terms = split_terms(trained.specs, observations)
        terms["command"] = commands_of(trained.actor, trained.actions, observations)
        scores = [runtime.run({name: term[i] for name, term in terms.items()}) for i in range(len(observations))]
        maxima.append(episode_maximum(scores, OPEN.raise_after))
    return maxima


def data_hashes(dataset: Dataset, path: Path) -> dict[str, str]:
    """SHA-256 of the data set's files and of each bag that it was made of."""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    bags = {f"bag {number} {bag.name}": bag.sha256 for number, bag in enumerate(dataset.bags)}
    return {f"dataset {dataset.id}": digest.hexdigest(), **bags}


def write_run(folder: Path, recipe: str, learned: Learned, title: str) -> None:
    """``recipe.yaml``, the actor's weights and the loss curve; an older run in the folder is replaced."""
    import torch

    from dsac_robot.apps.loss_curve import write_curve

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    torch.save({"actor": learned.actor.state_dict()}, folder / "actor.pt")
    write_curve(folder, learned.curve, title)


def summary(out: Path, folder: Path, trained: Trained, signed: bool) -> list[str]:
    """What was made, for a reader."""
    scores, flags = trained.recorded.scores, ", ".join(trained.recorded.flags)
    unsigned = "" if signed else " --allow-unsigned"
    lines = [
        f"{out}: {scores['updates']:.0f} updates, flags: {flags}; "
        + ("signed" if signed else "UNSIGNED: give --key, or load it with allow_unsigned"),
        f"held-out error: speed {scores['validation_speed_error_mps']:.3f} m/s, "
        f"yaw rate {scores['validation_yaw_rate_error_radps']:.3f} rad/s",
    ]
    if "repeat_last_speed_error_mps" in scores:
        lines.append(
            f"repeating the last command: speed {scores['repeat_last_speed_error_mps']:.3f} m/s, "
            f"yaw rate {scores['repeat_last_yaw_rate_error_radps']:.3f} rad/s"
        )
    return [*lines, f"loss curve: {folder / 'loss.png'}; next: dsac-robot barn {out} --worlds DIR{unsigned}"]
