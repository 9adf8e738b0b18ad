"""``dsac-robot train``: DSAC-T on a task in simulation."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.core.files import dump_yaml, load_yaml, parse_value, share_path
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.observation import LAYOUTS, layout_for
from dsac_robot.core.params import ParameterError, as_dict, build
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.track import TrackParams

if TYPE_CHECKING:
    from dsac_robot.learn.dsac_t import DsacTConfig
    from dsac_robot.learn.trainer import TrainerConfig
    from sim.navigate import NavigateEnvParams
    from sim.task_env import TaskEnv
    from sim.track import TrackEnvParams


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of one run, as ``recipe.yaml`` in its folder holds them."""

    task: NavigateParams | TrackParams
    environment: NavigateEnvParams | TrackEnvParams
    learner: DsacTConfig
    trainer: TrainerConfig


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("train", help="train a policy with DSAC-T in simulation")
    parser.add_argument("task", choices=tuple(LAYOUTS), help="the task")
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="recipe .yaml (default: the shipped one if any)")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--updates", type=int, help="stop after so many updates in all")
    parser.add_argument("--seed", type=int, help="seed of everything")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting")
    parser.set_defaults(run=run)


def read_recipe(values: dict[str, Any], where: str, task: str = "navigate") -> Recipe:
    """The recipe of ``task`` from a mapping of sections; ParameterError names an unknown section or key."""
    from dsac_robot.learn.dsac_t import DsacTConfig
    from dsac_robot.learn.trainer import TrainerConfig
    from sim.navigate import NavigateEnvParams
    from sim.track import TrackEnvParams

    sections: dict[str, type[Any]] = {
        "task": TrackParams if task == "track" else NavigateParams,
        "environment": TrackEnvParams if task == "track" else NavigateEnvParams,
        "learner": DsacTConfig,
        "trainer": TrainerConfig,
    }
    unknown = sorted(set(values) - set(sections))
    if unknown:
        raise ParameterError(f"{where}: unknown section {', '.join(unknown)}; known: {', '.join(sections)}")
    return Recipe(*(build(cls, values.get(name) or {}, f"{where}: {name}") for name, cls in sections.items()))


def _settings(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The recipe's values (the file, then ``--set``, then the options) and where they come from."""
    path: Path | None = args.recipe
    if args.resume:
        path = args.out / "recipe.yaml"
    elif path is None:
        shipped = share_path("config", "training") / f"{args.task}_{args.robot}.yaml"
        path = shipped if shipped.exists() else None
    values: dict[str, Any] = {}
    if path is not None:
        values = {name: dict(section or {}) for name, section in load_yaml(path).items()}
    for item in args.set:
        key, equals, text = item.partition("=")
        section, dot, name = key.partition(".")
        if not (equals and dot):
            raise ParameterError(f"--set {item}: expected SECTION.KEY=VALUE, such as learner.gamma=0.99")
        values.setdefault(section, {})[name] = parse_value(text)
    for option in ("minutes", "updates", "seed"):
        if getattr(args, option) is not None:
            values.setdefault("trainer", {})[option] = getattr(args, option)
    return values, str(path) if path is not None else "recipe"


def make_env(robot: Robot, task: str, recipe: Recipe) -> TaskEnv:
    """One environment (called in a worker process)."""
    from sim.navigate import NavigateEnv, NavigateEnvParams
    from sim.track import TrackEnv, TrackEnvParams

    layout = layout_for(task, robot)
    if isinstance(recipe.task, TrackParams) and isinstance(recipe.environment, TrackEnvParams):
        return TrackEnv(robot, layout, recipe.task, recipe.environment)
    if isinstance(recipe.task, NavigateParams) and isinstance(recipe.environment, NavigateEnvParams):
        return NavigateEnv(robot, layout, recipe.task, recipe.environment)
    raise TypeError(f"task and environment of a recipe do not belong together: {recipe.task}, {recipe.environment}")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    robot = load_robot(args.robot)
    values, where = _settings(args)
    recipe = read_recipe(values, where, args.task)
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists() and not args.resume:
        print(f"{args.out} holds a run already: give --resume to continue it, or another --out", file=sys.stderr)
        return 2

    import torch

    from dsac_robot.learn.policy import make_learner
    from dsac_robot.learn.replay import Replay
    from dsac_robot.learn.trainer import Trainer
    from sim.vector import ProcessVectorEnv

    torch.set_num_threads(1)
    torch.manual_seed(recipe.trainer.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    sections = {f.name: as_dict(getattr(recipe, f.name)) for f in dataclasses.fields(recipe)}
    (args.out / "recipe.yaml").write_text(dump_yaml(sections), encoding="utf-8")
    learner = make_learner(robot, layout_for(args.task, robot), recipe.learner)
    factory = functools.partial(make_env, robot, args.task, recipe)
    envs = ProcessVectorEnv([factory] * recipe.trainer.environments, recipe.trainer.workers)
    try:
        replay = Replay(recipe.trainer.replay, envs.observation_space.shape[0], 2, recipe.trainer.seed)
        trainer = Trainer(learner, envs, replay, recipe.trainer, args.out)
        if args.resume:
            trainer.load()
        print(f"training {args.task} on {robot.name} into {args.out}", file=sys.stderr)
        trainer.run()
    finally:
        envs.close()
    print(f"{learner.updates} updates, {trainer.steps} steps; next: dsac-robot export {args.out} --out BUNDLE")
    return 0
