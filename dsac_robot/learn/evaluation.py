"""Evaluation of a policy: whole episodes with its mode, on seeds that training never sees."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dsac_robot.core.values import Floats
from dsac_robot.learn.networks import Actor
from dsac_robot.learn.seeds import Stream, seed_of

if TYPE_CHECKING:
    import gymnasium


STEPS_MAX = 50_000  # of an episode, where the task itself sets no limit; its outcome is then "unfinished"


@dataclass(frozen=True)
class Evaluation:
    """What came of E episodes. ``costs`` are sums of ``info["cost"]``, 0 where the task has none."""

    returns: Floats  # (E,)
    lengths: Floats  # (E,) steps
    costs: Floats  # (E,)
    outcomes: tuple[str, ...]  # info["outcome"] at the end, "" where the task has none

    def summary(self) -> dict[str, float]:
        """The columns of eval.csv."""
        count = len(self.outcomes)
        return {
            "return": float(self.returns.mean()),
            "return_std": float(self.returns.std()),
            "return_min": float(self.returns.min()),
            "return_max": float(self.returns.max()),
            "length": float(self.lengths.mean()),
            "cost": float(self.costs.mean()),
            "success": self.outcomes.count("success") / count,
            "collisions": self.outcomes.count("contact") / count,
            "timeouts": self.outcomes.count("timeout") / count,
        }


class Evaluator:
    """Runs ``episodes`` episodes side by side in this process, always from the same starts, so that the points of a
    curve differ by the policy alone. The learner's random streams are not touched."""

    def __init__(self, factory: Callable[[], gymnasium.Env[Any, Any]], episodes: int, seed: int) -> None:
        self._envs = [factory() for _ in range(episodes)]
        self._seed = seed_of(seed, Stream.EVALUATION)

    def __call__(self, actor: Actor) -> Evaluation:
        """Evaluate the actor's mode."""
        envs = self._envs
        device = next(actor.parameters()).device
        observations = [env.reset(seed=self._seed + i)[0] for i, env in enumerate(envs)]
        returns, lengths, costs = np.zeros(len(envs)), np.zeros(len(envs)), np.zeros(len(envs))
        outcomes = [""] * len(envs)
        going = list(range(len(envs)))
        while going:
            stacked = torch.from_numpy(np.stack([observations[i] for i in going]).astype(np.float32)).to(device)
            with torch.no_grad():
                actions = actor.mode(stacked).cpu().numpy()
            still = []
            for i, action in zip(going, actions, strict=True):
                observations[i], reward, terminated, truncated, info = envs[i].step(action)
                returns[i] += float(reward)
                lengths[i] += 1
                costs[i] += float(info.get("cost", 0.0))
                if terminated or truncated:
                    outcomes[i] = str(info.get("outcome", ""))
                elif lengths[i] >= STEPS_MAX:
                    outcomes[i] = "unfinished"
                else:
                    still.append(i)
            going = still
        return Evaluation(returns, lengths, costs, tuple(outcomes))

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one line to a CSV file, with a heading if it is the first."""
    fresh = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(row))
        if fresh:
            table.writeheader()
        table.writerow(row)
