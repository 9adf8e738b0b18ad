"""``dsac-robot train``: DSAC-T on a task of this robot, or on any Gymnasium environment with continuous actions.

``--seeds 0-4`` trains several runs at once, each in a folder of its own; see ``train_seeds``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.run_record import RunId
from dsac_robot.apps.train_run import Setup, train
from dsac_robot.core.files import load_yaml, parse_value, share_path
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.observation import LAYOUTS, layout_for
from dsac_robot.core.params import ParameterError, as_dict, build
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.track import TrackParams

if TYPE_CHECKING:
    from dsac_robot.learn.dsac_t import DsacTConfig
    from dsac_robot.learn.trainer import TrainerConfig
    from sim.gym_env import GymParams
    from sim.navigate import NavigateEnvParams
    from sim.task_env import TaskEnv
    from sim.track import TrackEnvParams

GYM = "gym:"
TASKS = tuple(LAYOUTS)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of one run, as ``recipe.yaml`` in its folder holds them."""

    task: NavigateParams | TrackParams
    environment: NavigateEnvParams | TrackEnvParams
    learner: DsacTConfig
    trainer: TrainerConfig


@dataclasses.dataclass(frozen=True)
class GymRecipe:
    """All settings of a run on a Gymnasium environment."""

    environment: GymParams
    learner: DsacTConfig
    trainer: TrainerConfig


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("train")
    parser.add_argument("task", type=_task, help=f"{', '.join(TASKS)}, or {GYM}ID such as {GYM}HalfCheetah-v5")
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder, or folder of --seeds' runs")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="recipe .yaml (default: the shipped one if any)")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--updates", type=int, help="stop after so many updates in all")
    parser.add_argument("--seed", type=int, help="seed of everything")
    parser.add_argument("--seeds", metavar="LIST", help="several runs, such as 0-4 or 1,5,7: DIR/seed_N each")
    parser.add_argument("--processes", type=int, metavar="N", help="runs of --seeds at a time (default: cores / 2)")
    parser.add_argument("--ray", metavar="ADDRESS", help='spread --seeds over a Ray cluster; "local": start one here')
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting")
    parser.set_defaults(run=run)


def _task(text: str) -> str:
    if text in TASKS or (text.startswith(GYM) and len(text) > len(GYM)):
        return text
    raise argparse.ArgumentTypeError(
        f"unknown task {text!r}: {', '.join(TASKS)}, or {GYM}ID of a Gymnasium environment"
    )


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


def read_gym_recipe(values: dict[str, Any], where: str) -> GymRecipe:
    """The recipe of a Gymnasium environment from a mapping of sections; ParameterError names what is unknown."""
    from dsac_robot.learn.dsac_t import DsacTConfig
    from dsac_robot.learn.trainer import TrainerConfig
    from sim.gym_env import GymParams

    sections = {"environment": GymParams, "learner": DsacTConfig, "trainer": TrainerConfig}
    unknown = sorted(set(values) - set(sections))
    if unknown:
        raise ParameterError(f"{where}: unknown section {', '.join(unknown)}; known: {', '.join(sections)}")
    return GymRecipe(*(build(cls, values.get(name) or {}, f"{where}: {name}") for name, cls in sections.items()))


def _settings(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The recipe's values (the file, then ``--set``, then the options) and where they come from."""
    path: Path | None = args.recipe
    if args.resume:
        path = args.out / "recipe.yaml"
    elif path is None:
        name = "gym" if args.task.startswith(GYM) else f"{args.task}_{args.robot}"
        shipped = share_path("config", "training") / f"{name}.yaml"
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
    if args.task.startswith(GYM):
        values.setdefault("environment", {})["id"] = args.task.removeprefix(GYM)
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


def robot_setup(args: argparse.Namespace) -> Setup:
    """A run of one of this robot's own tasks."""
    from dsac_robot.learn.policy import make_learner

    robot = load_robot(args.robot)
    values, where = _settings(args)
    recipe = read_recipe(values, where, args.task)
    factory = functools.partial(make_env, robot, args.task, recipe)
    return Setup(
        run=RunId(args.task, robot.name, recipe.trainer.seed, _sections(recipe)),
        trainer=recipe.trainer,
        environment=factory,
        evaluation=factory,
        learner=lambda *_: make_learner(robot, layout_for(args.task, robot), recipe.learner),
        next_step=f"dsac-robot export {args.out} --out BUNDLE",
    )


def gym_setup(args: argparse.Namespace) -> Setup:
    """A run on a Gymnasium environment. Raises ParameterError where it cannot be made or has unfit spaces."""
    from dsac_robot.learn.policy import make_plain_learner
    from sim.gym_env import make_gym_env

    values, where = _settings(args)
    recipe = read_gym_recipe(values, where)
    make_gym_env(recipe.environment).close()  # refuse it here, not in a worker
    own_unit = dataclasses.replace(recipe.environment, reward_scale=1.0)
    return Setup(
        run=RunId(args.task, None, recipe.trainer.seed, _sections(recipe)),
        trainer=recipe.trainer,
        environment=functools.partial(make_gym_env, recipe.environment),
        evaluation=functools.partial(make_gym_env, own_unit),
        learner=lambda observation_dim, action_dim: make_plain_learner(observation_dim, action_dim, recipe.learner),
        next_step=f"dsac-robot compare {args.out}",
    )


def _sections(recipe: Recipe | GymRecipe) -> dict[str, Any]:
    return {field.name: as_dict(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    if args.seeds is None and (args.processes is not None or args.ray is not None):
        raise ParameterError("--processes and --ray spread the runs of --seeds: give --seeds, such as --seeds 0-4")
    if args.seeds is not None:
        from dsac_robot.apps.train_seeds import train_seeds

        return train_seeds(args)
    return train(setup_of(args), args.out, args.resume)


def setup_of(args: argparse.Namespace) -> Setup:
    """What the command line asks to train."""
    return gym_setup(args) if args.task.startswith(GYM) else robot_setup(args)
