"""A ring of transitions in preallocated arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dsac_robot.core.values import Floats32
from dsac_robot.learn.dsac_t import Batch


class Replay:
    """Uniform replay of the last ``capacity`` transitions."""

    def __init__(self, capacity: int, observation_dim: int, action_dim: int, seed: int) -> None:
        self.capacity, self.action_dim = capacity, action_dim
        self._arrays = {
            "observation": np.zeros((capacity, observation_dim), np.float32),
            "action": np.zeros((capacity, action_dim), np.float32),
            "reward": np.zeros(capacity, np.float32),
            "next_observation": np.zeros((capacity, observation_dim), np.float32),
            "done": np.zeros(capacity, np.float32),
        }
        self._rng = np.random.default_rng(seed)
        self.size = 0
        self._next = 0

    def add(
        self, observation: Floats32, action: Floats32, reward: Floats32, next_observation: Floats32, done: Floats32
    ) -> None:
        """Store N transitions, the oldest give way. # (N, D), (N, A), (N,), (N, D), (N,)"""
        rows = (self._next + np.arange(len(reward))) % self.capacity
        for name, values in zip(self._arrays, (observation, action, reward, next_observation, done), strict=True):
            self._arrays[name][rows] = values
        self._next = int((self._next + len(reward)) % self.capacity)
        self.size = min(self.size + len(reward), self.capacity)

    def sample(self, count: int) -> Batch:
        """``count`` transitions drawn with replacement."""
        rows = self._rng.integers(self.size, size=count)
        return Batch(*(torch.from_numpy(self._arrays[name][rows]) for name in self._arrays))

    def state_dict(self) -> dict[str, Any]:
        """What is stored, where the ring stands, and the random stream."""
        stored = {name: values[: self.size] for name, values in self._arrays.items()}
        return {"arrays": stored, "size": self.size, "next": self._next, "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave. Raises ValueError if it holds more than this replay's capacity."""
        if state["size"] > self.capacity:
            raise ValueError(f"the checkpoint's replay holds {state['size']}, more than the capacity {self.capacity}")
        for name, values in state["arrays"].items():
            self._arrays[name][: state["size"]] = values
        self.size, self._next = state["size"], state["next"]
        self._rng.bit_generator.state = state["rng"]
