"""``dsac-robot train``: DSAC-T on a task of this robot, or on any Gymnasium environment with continuous actions.

``--seeds 0-4`` trains several runs at once, each in a folder of its own; see ``train_seeds``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.run_record import RunId
from dsac_robot.apps.run_robot import resumed_robot
from dsac_robot.apps.train_run import Setup, train
from dsac_robot.core.attack import AttackParams
from dsac_robot.core.files import load_yaml, parse_value, share_path
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.observation import LAYOUTS, layout_for
from dsac_robot.core.params import ParameterError, as_dict, build
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.track import TrackParams

if TYPE_CHECKING:
    from dsac_robot.learn.dsac_t import DsacTConfig
    from dsac_robot.learn.trainer import TrainerConfig
    from sim.attack_env import AttackEnvParams
    from sim.gym_env import GymParams
    from sim.navigate import NavigateEnvParams
    from sim.task_env import TaskEnv
    from sim.track import TrackEnvParams

GYM = "gym:"
TASKS = tuple(LAYOUTS)
LENDER = "jackal"  # whose recipe a robot without its own takes
FULL_TURN_RAD = math.radians(355.0)
TIME_LIMIT_S_MAX = 100.0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of one run, as ``recipe.yaml`` in its folder holds them."""

    task: NavigateParams | TrackParams | AttackParams
    environment: NavigateEnvParams | TrackEnvParams | AttackEnvParams
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
    parser.add_argument("--robot", help="robot name or .yaml file (default: jackal; with --resume the run's own)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder, or folder of --seeds' runs")
    parser.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE",
        help="recipe .yaml (default: that of task and robot, else the jackal's)",
    )
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
    from sim.attack_env import AttackEnvParams
    from sim.navigate import NavigateEnvParams
    from sim.track import TrackEnvParams

    sections: dict[str, type[Any]] = {
        "task": {"track": TrackParams, "attack": AttackParams}.get(task, NavigateParams),
        "environment": {"track": TrackEnvParams, "attack": AttackEnvParams}.get(task, NavigateEnvParams),
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


def _settings(args: argparse.Namespace, robot: Robot | None = None) -> tuple[dict[str, Any], str]:
    """The recipe's values (the file, then ``--set``, then the options) and where they come from."""
    path: Path | None = args.recipe
    own: dict[str, Any] = {}  # what the robot itself says, where the recipe is another robot's
    if args.resume:
        path = args.out / "recipe.yaml"
    elif path is None:
        name = "gym" if args.task.startswith(GYM) else f"{args.task}_{robot.name if robot else ''}"
        path = share_path("config", "training") / f"{name}.yaml"
        if not path.exists() and robot is not None:
            path = path.with_name(f"{args.task}_{LENDER}.yaml")
            own = own_settings(args.task, robot, load_yaml(path)["environment"]["time_limit_s"])
            print(
                f"no recipe for {args.task} with {robot.name}: that of {LENDER} ({path}), but with "
                + ", ".join(f"environment.{key} {str(value).lower()}" for key, value in own.items())
                + " for this robot; --recipe FILE takes another, --set SECTION.KEY=VALUE changes one setting",
                file=sys.stderr,
            )
    values: dict[str, Any] = {}
    if path is not None:
        values = {name: dict(section or {}) for name, section in load_yaml(path).items()}
    if own:
        values.setdefault("environment", {}).update(own)
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


def own_settings(task: str, robot: Robot, time_limit_s: float) -> dict[str, Any]:
    """What of the lending robot's ``environment`` cannot hold for ``robot``: whether it sees what is behind it, and how
    long a drive takes it (``time_limit_s`` is the lender's)."""
    seen_rad = robot.lidar.beams * robot.lidar.angle_increment_rad
    own: dict[str, Any] = {"forward_only": seen_rad < FULL_TURN_RAD}
    if task == "navigate":
        slower = load_robot(LENDER).limits.speed_mps_max / robot.limits.speed_mps_max
        own["time_limit_s"] = round(min(time_limit_s * max(slower, 1.0), TIME_LIMIT_S_MAX), 1)
    return own


def make_env(robot: Robot, task: str, recipe: Recipe) -> TaskEnv:
    """One environment (called in a worker process)."""
    from sim.attack_env import AttackEnv, AttackEnvParams
    from sim.navigate import NavigateEnv, NavigateEnvParams
    from sim.track import TrackEnv, TrackEnvParams

    layout = layout_for(task, robot)
    if isinstance(recipe.task, TrackParams) and isinstance(recipe.environment, TrackEnvParams):
        return TrackEnv(robot, layout, recipe.task, recipe.environment)
    if isinstance(recipe.task, NavigateParams) and isinstance(recipe.environment, NavigateEnvParams):
        return NavigateEnv(robot, layout, recipe.task, recipe.environment)
    if isinstance(recipe.task, AttackParams) and isinstance(recipe.environment, AttackEnvParams):
        return AttackEnv(robot, layout, recipe.task, recipe.environment)
    raise TypeError(f"task and environment of a recipe do not belong together: {recipe.task}, {recipe.environment}")


def robot_setup(args: argparse.Namespace) -> Setup:
    """A run of one of this robot's own tasks."""
    from dsac_robot.learn.policy import make_learner

    robot = resumed_robot(args.out, args.robot) if args.resume else load_robot(args.robot or "jackal")
    values, where = _settings(args, robot)
    recipe = read_recipe(values, where, args.task)
    factory = functools.partial(make_env, robot, args.task, recipe)
    return Setup(
        run=RunId(args.task, robot.name, recipe.trainer.seed, _sections(recipe)),
        trainer=recipe.trainer,
        environment=factory,
        evaluation=factory,
        learner=lambda *_: make_learner(robot, layout_for(args.task, robot), recipe.learner),
        next_step=f"dsac-robot attack --weights {args.out}"
        if args.task == "attack"
        else f"dsac-robot export {args.out} --out BUNDLE",
        robot=robot,
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
