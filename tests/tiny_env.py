"""Tiny Gymnasium environments for tests, made by their module: ``tests.tiny_env:Reach-v0``."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 10


class Reach(gymnasium.Env[Any, Any]):
    """One number to match: the action in [2, 6] should be the observation. Reward is 1 / (1 + miss); cost is 1 a
    step. ``outcome`` is "success" where the last miss is below 0.5."""

    def __init__(self, factor: float = 1.0) -> None:
        self.observation_space = spaces.Dict(
            {"left": spaces.Box(2.0, 4.0, (1,), np.float64), "target": spaces.Box(2.0, 6.0, (1, 1), np.float64)}
        )
        self.action_space = spaces.Box(2.0, 6.0, (1, 1), np.float32)
        self.factor = factor

    def _observe(self) -> dict[str, Any]:
        return {"left": np.array([float(STEPS - self.count)]), "target": np.array([[self.target]])}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.target = 0, float(self.np_random.uniform(2.0, 6.0))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        miss = abs(float(action[0, 0]) - self.target)
        self.count += 1
        over = self.count >= STEPS
        info: dict[str, Any] = {"cost": 1.0}
        if over:
            info["outcome"] = "success" if miss < 0.5 else "timeout"
        return self._observe(), self.factor / (1.0 + miss), False, over, info


class Unbounded(Reach):
    """Its actions have no limits."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (1, 1), np.float32)


def needs_a_package() -> gymnasium.Env[Any, Any]:
    """An environment whose physics is not installed."""
    raise gymnasium.error.DependencyNotInstalled("no module named 'physics_of_tomorrow': pip install it")


for _name, _entry, _options in (
    ("Reach-v0", Reach, {}),
    ("ReachTen-v0", Reach, {"factor": 10.0}),
    ("Unbounded-v0", Unbounded, {}),
    ("Tomorrow-v0", needs_a_package, {}),
):
    gymnasium.register(id=_name, entry_point=_entry, kwargs=_options, disable_env_checker=True)
