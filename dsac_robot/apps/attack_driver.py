"""The trained attacker: out of its training run into a small ONNX file, and from there to the wheel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dsac_robot.bundle.runtime import Runtime, TensorSpec
from dsac_robot.core.files import load_yaml
from dsac_robot.core.history import History, MissingSampleError
from dsac_robot.core.observation import ObservationBuilder, layout_for
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Contact, Sample, Scan, ns

if TYPE_CHECKING:
    from sim.attackers import Driver

TASK, FILE = "attack", "attacker.onnx"


class TrainedDriver:
    """Drives by the model at the observation's control period. The command of the newest tick is held."""

    def __init__(self, robot: Robot, runtime: Runtime) -> None:
        layout = layout_for(TASK, robot)
        self._runtime, self._builder, self._history = runtime, ObservationBuilder(robot, layout), History()
        self._period_ns, self._next_ns, self._asked = ns(layout.control_period_s), 0, (0.0, 0.0)

    def take(self, sample: Sample) -> None:
        """A sample of the sensors, or the command that was sent; a scan that is due is a tick."""
        if isinstance(sample, Contact):
            return
        self._history.add(sample)
        if not isinstance(sample, Scan) or sample.stamp_ns < self._next_ns:
            return
        try:
            observation = self._builder.build(self._history, sample.stamp_ns)
        except MissingSampleError:  # the stack is not full yet
            return
        self._next_ns = sample.stamp_ns + self._period_ns
        speed, turn = self._runtime.run(observation)
        self._asked = float(speed), float(turn)

    def command(self, now_ns: int) -> tuple[float, float]:
        """The command of the newest tick."""
        return self._asked


def trained_driver(robot: Robot, weights: Path) -> Callable[[], Driver]:
    """Makes drivers by the model in ``weights``, which is read once. Raises BundleError where it does not fit."""
    builder = ObservationBuilder(robot, layout_for(TASK, robot))
    inputs = [TensorSpec(spec.name, spec.shape) for spec in builder.specs]
    runtime = Runtime(weights.read_bytes(), inputs, TensorSpec("command", (2,)), str(weights))
    return lambda: TrainedDriver(robot, runtime)


def exported(run: Path, robot: Robot) -> Path:
    """The model of a training run, written beside its checkpoint. Raises ParameterError for what is no such run."""
    import torch

    from dsac_robot.apps.train_cmd import read_recipe
    from dsac_robot.core.action import ActionMap
    from dsac_robot.learn.export import DeployedActor, to_onnx
    from dsac_robot.learn.policy import make_learner

    path = run / "checkpoint.pt"
    if not path.exists():
        raise ParameterError(f"{path} is not there: dsac-robot train {TASK} --robot {robot.name} --out {run}")
    layout = layout_for(TASK, robot)
    recipe = read_recipe(dict(load_yaml(run / "recipe.yaml")), "recipe.yaml", TASK)
    learner = make_learner(robot, layout, recipe.learner)
    try:
        learner.actor.load_state_dict(torch.load(path, weights_only=False)["learner"]["actor"])
    except RuntimeError as error:
        raise ParameterError(f"{path} does not fit robot {robot.name}: {error}") from error
    model = DeployedActor(learner.actor, ActionMap.of(robot.limits))
    (run / FILE).write_bytes(to_onnx(model, ObservationBuilder(robot, layout).specs, "command", with_command=False))
    return run / FILE
