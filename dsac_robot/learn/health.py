"""A run's health: numbers that are not finite or explode stop it, named and dumped; a collapse is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsac_robot.core.params import param
from dsac_robot.learn.checkpoint import save_atomically
from dsac_robot.learn.dsac_t import Batch, DsacT


@dataclass(frozen=True)
class HealthConfig:
    """What counts as ill."""

    value_max: float = param(1e8, unit="", low=1.0, high=1e30, help="|Q|, sigma or target beyond it has exploded")
    sigma_floor: float = param(1e-3, unit="", low=0.0, high=1.0, help="alert: sigma over its own highest so far")
    alpha_floor: float = param(1e-5, unit="", low=0.0, high=1.0, help="alert: temperature over sigma")


@dataclass(frozen=True)
class Alert:
    """Something to look at; the run goes on."""

    updates: int
    name: str
    value: float
    floor: float
    meaning: str


class Unhealthy(FloatingPointError):
    """The run had to stop. The message names the tensor, the last good checkpoint and the dump."""


def bad_tensors(learner: DsacT, batch: Batch | None = None) -> list[str]:
    """Names of what is not finite: the batch's parts first, for they would be the cause of the rest."""
    found = []
    for name, tensor in _tensors(learner, batch):
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            found.append(f"{name} ({bad} of {tensor.numel()} numbers)")
    return found


def _tensors(learner: DsacT, batch: Batch | None) -> Iterator[tuple[str, Tensor]]:
    if batch is not None:
        yield from ((f"batch.{name}", tensor) for name, tensor in vars(batch).items())
    for part in ("target_critics", "target_actor", "critics", "actor"):
        yield from ((f"{part}.{name}", tensor.detach()) for name, tensor in getattr(learner, part).named_parameters())
    yield from ((name, getattr(learner, name).detach()) for name in ("log_alpha", "sigma_mean", "sigma_square"))
    for part in ("critic_optimizer", "actor_optimizer", "alpha_optimizer"):
        for index, state in getattr(learner, part).state_dict()["state"].items():
            yield from ((f"{part}.{index}.{name}", torch.as_tensor(value)) for name, value in state.items())


class Health:
    """Looks at every step and every update of the run in ``out``."""

    def __init__(self, config: HealthConfig, out: Path) -> None:
        self.config, self.out = config, out
        self._sigma_highest = 0.0
        self._told: set[str] = set()

    def check_step(self, observation: Any, reward: Any, steps: int) -> None:
        """Raise Unhealthy where an environment gave a number that is not finite, before it is stored."""
        for name, values in (("observation", observation), ("reward", reward)):
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if not finite.all():
                raise Unhealthy(
                    f"the {name} of environment {int(np.argmin(finite))} is not finite after {steps} steps; "
                    f"nothing of this step is stored, {self._last_good()}"
                )

    def check_update(self, learner: DsacT, batch: Batch, metrics: dict[str, Tensor]) -> None:
        """Raise Unhealthy where a number of this update is not finite or beyond ``value_max``, after a dump of it."""
        values = {name: float(value) for name, value in metrics.items()}
        if all(abs(value) <= self.config.value_max for value in values.values()):  # False for a NaN
            return
        ill = [f"{name} = {value:g}" for name, value in values.items() if not abs(value) <= self.config.value_max]
        names = bad_tensors(learner, batch)
        where = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        path = self.out / f"unhealthy_{learner.updates:08d}.pt"
        save_atomically({"batch": asdict(batch), "metrics": values, "learner": learner.state_dict()}, path)
        what = f"not finite: {where}" if names else f"all tensors are finite; beyond {self.config.value_max:g}"
        raise Unhealthy(
            f"{', '.join(ill)} at update {learner.updates}; {what}; {path} holds the batch and the learner, "
            f"{self._last_good()}; look at the rewards, or lower the learning rates"
        )

    def check_state(self, learner: DsacT) -> None:
        """Raise Unhealthy rather than let a learner that is not finite replace the last good checkpoint."""
        names = bad_tensors(learner)
        if names:
            raise Unhealthy(
                f"not saved: {', '.join(names[:6])} not finite at update {learner.updates}; {self._last_good()}"
            )

    def _last_good(self) -> str:
        path = self.out / "checkpoint.pt"
        return f"the last good state is in {path}" if path.exists() else "there is no checkpoint yet"

    def alerts(self, updates: int, metrics: dict[str, float]) -> list[Alert]:
        """What has collapsed since the last look; told once, and again if it recovered in between."""
        sigma, alpha = metrics.get("sigma", math.nan), metrics.get("alpha", math.nan)
        self._sigma_highest = max(self._sigma_highest, sigma if math.isfinite(sigma) else 0.0)
        looks = (
            ("sigma", sigma, self.config.sigma_floor * self._sigma_highest, "the value distribution has collapsed"),
            ("alpha", alpha, self.config.alpha_floor * sigma, "the temperature has collapsed: no exploration is left"),
        )
        found = []
        for name, value, floor, meaning in looks:
            if value < floor and name not in self._told:
                self._told.add(name)
                found.append(Alert(updates, name, value, floor, meaning))
            elif value > 2.0 * floor:
                self._told.discard(name)
        return found

    def state_dict(self) -> dict[str, Any]:
        """What the next look depends on."""
        return {"sigma_highest": self._sigma_highest, "told": sorted(self._told)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._sigma_highest, self._told = state["sigma_highest"], set(state["told"])
