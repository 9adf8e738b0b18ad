"""One training run: builds what a task's ``Setup`` says, trains, and leaves a run folder that explains itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.run_record import RunId, RunRecord
from dsac_robot.apps.run_robot import keep_robot
from dsac_robot.core.files import dump_yaml
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot

if TYPE_CHECKING:
    import gymnasium

    from dsac_robot.learn.dsac_t import DsacT
    from dsac_robot.learn.trainer import TrainerConfig

    EnvFactory = Callable[[], gymnasium.Env[Any, Any]]


@dataclass(frozen=True)
class Setup:
    """What a task brings to a run. Factories are picklable: they are called in other processes."""

    run: RunId
    trainer: TrainerConfig
    environment: EnvFactory
    evaluation: EnvFactory  # of one environment for evaluation
    learner: Callable[[int, int], DsacT]  # observation and action dimension -> a fresh learner
    next_step: str  # what to do with a finished run
    robot: Robot | None = None  # kept in the run's folder


def check_folder(out: Path, resume: bool) -> None:
    """ParameterError where ``out`` holds a run that would be overwritten."""
    if (out / "checkpoint.pt").exists() and not resume:
        raise ParameterError(f"{out} holds a run already: give --resume to continue it, or another --out")


def train(setup: Setup, out: Path, resume: bool) -> int:
    """Train into ``out`` (or continue there); returns the exit status."""
    import torch

    from dsac_robot.learn.evaluation import Evaluator
    from dsac_robot.learn.replay import Replay
    from dsac_robot.learn.trainer import Trainer
    from sim.vector import ProcessVectorEnv

    config = setup.trainer
    check_folder(out, resume)
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(dump_yaml(setup.run.recipe), encoding="utf-8")
    if setup.robot is not None:
        keep_robot(out, setup.robot)
    evaluator = Evaluator(setup.evaluation, config.eval_episodes, config.seed) if config.eval_updates else None
    envs = ProcessVectorEnv([setup.environment] * config.environments, config.workers)
    try:
        sizes = envs.observation_space.shape[0], envs.action_space.shape[0]
        learner = setup.learner(*sizes)
        trainer = Trainer(learner, envs, Replay(config.replay, *sizes, config.seed), config, out, evaluator)
        if resume:
            trainer.load()
        record = RunRecord(out, setup.run)
        print(f"training {setup.run.task} (seed {config.seed}) into {out}", file=sys.stderr)
        try:
            finished = trainer.run()
        except BaseException as error:
            record.end("failed", learner.updates, trainer.steps, f"{type(error).__name__}: {error}")
            raise
        record.end("finished" if finished else "stopped", learner.updates, trainer.steps)
    finally:
        envs.close()
        if evaluator is not None:
            evaluator.close()
    print(f"{learner.updates} updates, {trainer.steps} steps; {_report_of(out)}next: {setup.next_step}")
    return 0


def with_seed(run: RunId, seed: int) -> RunId:
    """The same run from another seed."""
    trainer = dict(run.recipe["trainer"]) | {"seed": seed}
    return replace(run, seed=seed, recipe=dict(run.recipe) | {"trainer": trainer})


def _report_of(out: Path) -> str:
    """Write report.html; a run whose machine cannot draw is not lost for that."""
    try:
        from dsac_robot.apps.train_report import write_report

        return f"{write_report(out)}; "
    except ModuleNotFoundError as error:  # matplotlib
        print(
            f"no report.html: {error.name} is not installed; pip install dsac_robot[report], then: "
            f"dsac-robot report {out}",
            file=sys.stderr,
        )
        return ""
