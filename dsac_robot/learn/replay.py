"""A ring of transitions in one preallocated matrix, a row each: a batch is one gather into a buffer."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from dsac_robot.core.values import Floats32
from dsac_robot.learn.dsac_t import Batch

COLUMNS = ("observation", "action", "reward", "next_observation", "done", "steps")  # in the order of Batch


class Replay:
    """Uniform replay of the last ``capacity`` transitions."""

    def __init__(self, capacity: int, observation_dim: int, action_dim: int, seed: int) -> None:
        self.capacity, self.action_dim = capacity, action_dim
        widths = (observation_dim, action_dim, 1, observation_dim, 1, 1)
        bounds = itertools.accumulate(widths, initial=0)
        self._columns = {name: slice(*ends) for name, ends in zip(COLUMNS, itertools.pairwise(bounds), strict=True)}
        self._rows = np.zeros((capacity, sum(widths)), np.float32)
        self._stored = torch.from_numpy(self._rows)
        self._batch = torch.empty(0)
        self._rng = np.random.default_rng(seed)
        self.size = 0
        self._next = 0

    def add(
        self,
        observation: Floats32,
        action: Floats32,
        reward: Floats32,
        next_observation: Floats32,
        done: Floats32,
        steps: Floats32 | None = None,
    ) -> None:
        """Store N transitions, the oldest give way. # (N, D), (N, A), (N,), (N, D), (N,), (N,) or None for 1 each"""
        count = len(reward)
        rows = (self._next + np.arange(count)) % self.capacity
        steps = np.ones(count, np.float32) if steps is None else steps
        values = (observation, action, reward, next_observation, done, steps)
        for name, value in zip(COLUMNS, values, strict=True):
            self._rows[rows, self._columns[name]] = np.reshape(value, (count, -1))
        self._next = int((self._next + count) % self.capacity)
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int) -> Batch:
        """``count`` transitions drawn with replacement: views of a buffer that the next sample overwrites."""
        if len(self._batch) != count:  # pinned, where there is a GPU to copy to
            self._batch = torch.empty((count, self._rows.shape[1]), pin_memory=torch.cuda.is_available())
        rows = torch.from_numpy(self._rng.integers(self.size, size=count))
        torch.index_select(self._stored, 0, rows, out=self._batch)
        parts = {name: self._batch[:, columns] for name, columns in self._columns.items()}
        return Batch(
            **{name: part[:, 0] if name in ("reward", "done", "steps") else part for name, part in parts.items()}
        )

    def column(self, name: str) -> Floats32:
        """One part of all stored transitions, by its name in ``Batch``: a view. # (size, width)"""
        return self._rows[: self.size, self._columns[name]]

    def state_dict(self) -> dict[str, Any]:
        """What is stored, where the ring stands, and the random stream."""
        rng = self._rng.bit_generator.state
        return {"rows": self._rows[: self.size], "size": self.size, "next": self._next, "rng": rng}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave. Raises ValueError if it holds more than this replay's capacity, or rows of
        another width."""
        size, width = state["rows"].shape
        if size > self.capacity:
            raise ValueError(f"the checkpoint's replay holds {size}, more than the capacity {self.capacity}")
        if width != self._rows.shape[1]:
            raise ValueError(
                f"the checkpoint's transitions have {width} numbers, not the {self._rows.shape[1]} of this"
            )
        # A ring that was full, in a larger one now, is unrolled: its oldest row comes first and the next one after all.
        unroll = size < self.capacity
        self._rows[:size] = np.roll(state["rows"], -state["next"], axis=0) if unroll else state["rows"]
        self.size, self._next = size, size if unroll else int(state["next"])
        self._rng.bit_generator.state = state["rng"]
