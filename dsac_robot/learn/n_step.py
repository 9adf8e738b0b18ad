"""Transitions over n steps: the rewards of up to n steps summed, and the observation that the value takes over from.

The sum is not corrected for the policy having changed since (as in Rainbow, Hessel et al. 2018), and leaves out the
entropy of the steps in between. With n = 1 it is the plain transition.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from dsac_robot.core.values import Floats, Floats32

Transitions = tuple[Floats32, Floats32, Floats32, Floats32, Floats32, Floats32]


class NStep:
    """Collects steps of N environments; hands out transitions in the order of ``Replay.add``."""

    def __init__(self, steps: int, gamma: float, environments: int) -> None:
        self._n, self._gamma = steps, gamma
        self._pending: list[deque[tuple[Floats32, Floats32, float]]] = [deque() for _ in range(environments)]

    def add(
        self,
        observation: Floats32,
        action: Floats32,
        reward: Floats,
        next_observation: Floats32,
        terminated: Any,
        truncated: Any,
    ) -> Transitions | None:
        """The transitions that this step of all environments completes; None where there is none yet.

        At the end of an episode all that are pending are completed with fewer steps. ``next_observation`` is the last
        of the episode there, not the first of the next. # (N, D), (N, A), (N,), (N, D), (N,), (N,)
        """
        made = []
        for i, pending in enumerate(self._pending):
            pending.append((observation[i], action[i], float(reward[i])))
            ended = bool(terminated[i] or truncated[i])
            while pending and (ended or len(pending) == self._n):
                total = sum(self._gamma**k * step[2] for k, step in enumerate(pending))
                first = pending[0]
                made.append((first[0], first[1], total, next_observation[i], float(terminated[i]), len(pending)))
                pending.popleft()
        if not made:
            return None
        columns = [np.array(column, np.float32) for column in zip(*made, strict=True)]
        return (columns[0], columns[1], columns[2], columns[3], columns[4], columns[5])

    def state_dict(self) -> list[list[tuple[Floats32, Floats32, float]]]:
        """Steps that wait for their n-th."""
        return [list(pending) for pending in self._pending]

    def load_state_dict(self, state: list[list[tuple[Floats32, Floats32, float]]]) -> None:
        """Restore what ``state_dict`` gave."""
        self._pending = [deque(pending) for pending in state]
