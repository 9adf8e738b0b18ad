"""From a trained actor to a bundle: the models, the parity gate, the monitor's thresholds, the card. Used by ``export``
and by ``offline train``; imports torch, so that commands import it in the function that runs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsac_robot.bundle.card import Card, Recorded
from dsac_robot.bundle.manifest import MANIFEST
from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, TermSpec
from dsac_robot.core.ood import MonitorSpec, ScoreSpec, conformal_threshold
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Floats, Floats32
from dsac_robot.learn.export import MONITOR_SCORES, DensityMonitor, DeployedActor, parity, split_terms, to_onnx
from dsac_robot.learn.networks import Actor
from dsac_robot.learn.policy_graph import policy_onnx

ALPHA_CAUTION, ALPHA_ALARM = 0.05, 0.01  # false cautions and alarms an episode, at most
CALIBRATION_EPISODES_MIN = 200  # DESIGN section 9
PRECISIONS = ("fp32", "fp16", "int8")
COMMAND_PARITY_MAX = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.05}  # m/s, rad/s
SCORES_PARITY_MAX = 1e-2  # thresholds are a few units
OPEN = MonitorSpec(tuple(ScoreSpec(name, 1e9, 1e9) for name in MONITOR_SCORES))  # scores without a judgement


@dataclass(frozen=True)
class Trained:
    """An actor, what it was made for, and the record of where it came from."""

    name: str
    actor: Actor
    robot: Robot
    layout: ObservationLayout
    recorded: Recorded
    task: str = "navigate"

    @property
    def specs(self) -> tuple[TermSpec, ...]:
        """The terms that the actor takes."""
        return ObservationBuilder(self.robot, self.layout).specs

    @property
    def actions(self) -> ActionMap:
        """What the actor's outputs mean."""
        return ActionMap.of(self.robot.limits)

    @property
    def deployed(self) -> DeployedActor:
        """The policy as it is exported: forward only, where it was trained so."""
        recipe = self.recorded.recipe.get("environment", {})
        return DeployedActor(self.actor, self.actions, bool(recipe.get("forward_only", False)))

    def card(self, monitor: MonitorSpec | None) -> Card:
        """The card of its bundle."""
        return Card.of(self.name, self.task, self.robot, self.layout, monitor, self.recorded)


@dataclass(frozen=True)
class Models:
    """Both models as ONNX bytes, and the largest differences from torch."""

    policy: bytes
    monitor: bytes
    parity: dict[str, float]


def check_place(out: Path) -> None:
    """Raise ParameterError where a bundle cannot be written to ``out``, before the long part begins."""
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
        raise ParameterError(f"--out {out} exists and is no bundle: give an empty or new directory")


def versions(*names: str) -> dict[str, str]:
    """The installed versions of libraries, for the card."""
    return {name: importlib.metadata.version(name) for name in names}


def policy_model(trained: Trained, precision: str = "fp32", visited: Floats32 | None = None) -> bytes:
    """policy.onnx in one of ``PRECISIONS``; int8 is calibrated on ``visited`` observations. # (N, D)"""
    if precision != "int8":
        return policy_onnx(trained.deployed, trained.specs, precision)
    from dsac_robot.bundle.precision import to_int8

    if visited is None:
        raise ValueError("int8 needs visited observations")
    return to_int8(policy_onnx(trained.deployed, trained.specs), split_terms(trained.specs, visited))


def fitted_models(trained: Trained, observations: Floats32, commands: Floats32, precision: str = "fp32") -> Models:
    """Both models, the monitor fitted to ordinary drives. # (N, D), (N, 2)

    Raises ParameterError where ONNX Runtime gives other numbers than torch on these rows: more than rounding for
    "fp32", more than ``COMMAND_PARITY_MAX`` says for the others.
    """
    actions, specs = trained.actions, trained.specs
    policy = policy_model(trained, precision, observations)
    monitor = DensityMonitor(trained.actor, actions)
    monitor.fit(observations, commands)
    monitor_onnx = to_onnx(monitor, specs, "scores", with_command=True)
    found = {
        "command_max_abs": parity(trained.deployed, policy, specs, observations),
        "scores_max_abs": parity(monitor, monitor_onnx, specs, observations, commands),
    }
    limits = (COMMAND_PARITY_MAX[precision], SCORES_PARITY_MAX)
    for (name, difference), limit in zip(found.items(), limits, strict=True):
        if not difference <= limit:  # NaN is no parity
            raise ParameterError(
                f"parity gate: torch and ONNX Runtime differ ({precision}): {name} = {difference}; the limit is {limit}"
            )
    return Models(policy, monitor_onnx, found | {"rows": float(len(observations))})


def calibrate(maxima: Sequence[Floats], raise_after: int = OPEN.raise_after) -> MonitorSpec:
    """Thresholds from the episode maxima (K,) of each score; alpha is shared among the scores (union bound).

    Raises ValueError, with the number needed, for too few episodes.
    """
    table = np.array(maxima)  # (E, K)
    share = len(MONITOR_SCORES)
    scores = tuple(
        ScoreSpec(
            name,
            conformal_threshold(table[:, k], ALPHA_CAUTION / share),
            conformal_threshold(table[:, k], ALPHA_ALARM / share),
        )
        for k, name in enumerate(MONITOR_SCORES)
    )
    return MonitorSpec(scores, raise_after, alpha_caution=ALPHA_CAUTION, alpha_alarm=ALPHA_ALARM, episodes=len(table))


def conservative(maxima: Sequence[Floats], raise_after: int = OPEN.raise_after) -> MonitorSpec:
    """Thresholds from too few episodes for a calibration: rather one alarm too many than one too few.

    Caution above the median of the episode maxima, alarm above the largest: whatever is stranger than all that these
    episodes held is an alarm. No alpha is promised. Raises ParameterError where no episode is long enough.
    """
    table = np.array(maxima).reshape(-1, len(MONITOR_SCORES))
    table = table[np.isfinite(table).all(axis=1)]
    if not len(table):
        raise ParameterError(f"no held-out episode has {raise_after} steps: the monitor cannot have thresholds")
    caution, alarm = np.quantile(table, 0.5, axis=0, method="lower"), table.max(axis=0)
    scores = (ScoreSpec(name, float(caution[k]), float(alarm[k])) for k, name in enumerate(MONITOR_SCORES))
    return MonitorSpec(tuple(scores), raise_after, episodes=len(table))


def with_record(trained: Trained, **changes: object) -> Trained:
    """``trained`` with entries of its record replaced."""
    return replace(trained, recorded=replace(trained.recorded, **changes))  # type: ignore[arg-type]
