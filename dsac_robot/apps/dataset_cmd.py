"""``dsac-robot dataset build | show``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsac_robot.core.observation import ObservationLayout
    from dsac_robot.core.robot import Robot
    from dsac_robot.data.minari_store import Dataset

Run = Callable[[argparse.Namespace], int]
BAD_INPUT = 2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``dataset``; each action sets ``run``, which returns the exit status."""
    dataset = subparsers.add_parser("dataset")
    actions = dataset.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="episodes with rewards and costs from one or more bags")
    build.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="bag folders, or .mcap files")
    build.add_argument("--robot", required=True, help="the robot that recorded them: a name or a .yaml file")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new data set")
    build.add_argument("--bundle", type=Path, metavar="DIR", help="take the observation's layout from this bundle")
    build.add_argument(
        "--task",
        choices=("navigate", "track"),
        help="what the drives are judged by (default: the bundle's, or navigate)",
    )
    build.add_argument(
        "--plan-speed",
        type=float,
        metavar="MPS",
        help="speed of a recorded plan whose poses are no schedule, as the policy's plan_speed_mps (default: 0.3)",
    )
    build.add_argument("--namespace", help="the robot's namespace in the bags (default: each bag's only one)")
    build.add_argument(
        "--ticks", choices=("auto", "scan"), default="auto", help="auto: the policy's own ticks where recorded"
    )
    build.set_defaults(run=_guarded(_build))
    show = actions.add_parser("show", help="print what is in a data set")
    show.add_argument("dir", type=Path, metavar="DIR", help="the data set")
    show.set_defaults(run=_guarded(_show))


def _guarded(run: Run) -> Run:
    """``run`` with bad input answered on stderr and by exit status 2."""

    def guarded(args: argparse.Namespace) -> int:
        from dsac_robot.bundle.errors import BundleError
        from dsac_robot.core.params import ParameterError
        from dsac_robot.data.bag_reader import BagError
        from dsac_robot.data.episodes import EpisodeError
        from dsac_robot.data.minari_store import DatasetError

        try:
            return run(args)
        except (BagError, BundleError, DatasetError, EpisodeError, ParameterError, OSError) as error:
            print(f"dsac-robot: {error}", file=sys.stderr)
            return BAD_INPUT

    return guarded


def _build(args: argparse.Namespace) -> int:
    from dsac_robot.core.params import build
    from dsac_robot.core.robot import load_robot
    from dsac_robot.data.episodes import EpisodeParams
    from dsac_robot.data.minari_store import TASKS, build_dataset

    robot = load_robot(args.robot)
    task, layout = _task(args.task, args.bundle, robot)
    settings = {"ticks": args.ticks} | ({} if args.plan_speed is None else {"plan_speed_mps": args.plan_speed})
    report = build_dataset(
        args.bags,
        robot,
        args.out,
        layout=layout,
        task=TASKS[task](),
        params=build(EpisodeParams, settings, "--plan-speed"),
        namespace=args.namespace,
        progress=lambda line: print(line, file=sys.stderr),
    )
    print(report)
    return 0


def _task(asked: str | None, bundle: Path | None, robot: Robot) -> tuple[str, ObservationLayout]:
    """The task and the observation's layout. Raises ParameterError where the bundle is of another task."""
    from dsac_robot.core.observation import layout_for
    from dsac_robot.core.params import ParameterError

    if bundle is None:
        return asked or "navigate", layout_for(asked or "navigate", robot)
    from dsac_robot.bundle.deployed import check_robot, load_bundle

    card = load_bundle(bundle, None, True).card  # only read: it drives nothing here
    check_robot(card, robot)
    if asked not in (None, card.task):
        raise ParameterError(f"--task {asked}: bundle {card.name!r} is of {card.task}; leave --task or --bundle out")
    return card.task, card.layout


def _show(args: argparse.Namespace) -> int:
    from dsac_robot.data.minari_store import load_dataset

    print("\n".join(describe(load_dataset(args.dir))))
    return 0


def describe(dataset: Dataset) -> list[str]:
    """The data set as lines for a reader."""
    import numpy as np

    episodes = dataset.episodes
    returns = np.array([episode.rewards.sum() for episode in episodes])
    costs = np.array([episode.costs.sum() for episode in episodes])
    outcomes = sorted({episode.outcome for episode in episodes})
    layout = dataset.layout
    return [
        f"{dataset.id}: {len(episodes)} episodes, {dataset.steps} steps of robot {dataset.robot.name}",
        f"task {dataset.task_name}",
        f"observation: {', '.join(layout.terms)}; period {layout.control_period_s} s, {layout.frames} frames",
        f"reward version {dataset.reward_version}",
        f"return: mean {returns.mean():.3f}, least {returns.min():.3f}, most {returns.max():.3f}",
        f"cost of an episode: mean {costs.mean():.3f}, most {costs.max():.0f}; "
        f"{np.mean(costs > 0):.1%} of the episodes have any",
        *(f"  ended by {name}: {sum(episode.outcome == name for episode in episodes)}" for name in outcomes),
        *(f"  bag {bag.name}: {bag.episodes} episodes, {bag.steps} steps, {bag.sha256[:12]}" for bag in dataset.bags),
    ]
