"""Any Gymnasium environment with continuous actions, brought to the form that the learner wants: a flat float32
observation, actions in [-1, 1]^A. Nothing is normalised: the observation is what the environment gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.values import Floats32

PREFIX = "gym:"


@dataclass(frozen=True)
class GymParams:
    """Which environment, and what is changed in it."""

    id: str = param(unit="", help="name in Gymnasium's registry, with its module before a colon where it needs one")
    time_limit_steps: int = param(0, unit="steps", low=0, high=10**7, help="truncate episodes there; 0: its own limit")
    reward_scale: float = param(
        1.0, unit="", low=1e-6, high=1e6, help="factor on the reward in training (evaluation is in the task's own unit)"
    )


def make_gym_env(params: GymParams) -> gymnasium.Env[Floats32, Floats32]:
    """The environment. Raises ParameterError naming it where it is unknown, lacks a package, or has an observation or
    action space that is not of bounded continuous actions."""
    name = PREFIX + params.id
    try:
        made: gymnasium.Env[Any, Any] = gymnasium.make(params.id, max_episode_steps=params.time_limit_steps or None)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise ParameterError(f"{name} needs a package that is not installed: {error}") from error
    except gymnasium.error.Error as error:
        raise ParameterError(
            f"{name} is no environment of Gymnasium: {error}; "
            "python -c 'import gymnasium; gymnasium.pprint_registry()' lists those there are"
        ) from error
    _check_action_space(name, made.action_space)
    _check_observation_space(name, made.observation_space)
    if params.reward_scale != 1.0:
        made = wrappers.TransformReward(made, lambda reward: params.reward_scale * float(reward))
    return _Flat(made)


def _check_action_space(name: str, space: spaces.Space[Any]) -> None:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise ParameterError(f"{name}: action space {space} is not continuous: DSAC-T needs a Box of float numbers")
    if not space.is_bounded():
        raise ParameterError(
            f"{name}: action space {space} is unbounded: its limits must be finite; wrap the environment in one that "
            "clips its actions, register that, and train it by its own name"
        )


def _check_observation_space(name: str, space: spaces.Space[Any]) -> None:
    if not space.is_np_flattenable:
        raise ParameterError(f"{name}: observation space {space} cannot be flattened to a vector of fixed length")


class _Flat(gymnasium.Env[Floats32, Floats32]):
    """The environment with flat spaces. # observation (D,), action (A,)"""

    def __init__(self, inner: gymnasium.Env[Any, Any]) -> None:
        box = inner.action_space
        assert isinstance(box, spaces.Box)  # checked by the maker
        self._inner, self._shape, self._dtype = inner, box.shape, box.dtype
        self._low, self._high = np.asarray(box.low, np.float64), np.asarray(box.high, np.float64)
        size = spaces.flatdim(inner.observation_space)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (math.prod(box.shape),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Start an episode."""
        observation, info = self._inner.reset(seed=seed, options=options)
        return self._flat(observation), info

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """One step; ``action`` outside [-1, 1] is clipped, -1 and 1 are the limits of the environment's own Box."""
        unit = np.clip(np.asarray(action, np.float64).reshape(self._shape), -1.0, 1.0)
        own = self._low + 0.5 * (unit + 1.0) * (self._high - self._low)
        observation, reward, terminated, truncated, info = self._inner.step(own.astype(self._dtype))
        return self._flat(observation), float(reward), bool(terminated), bool(truncated), info

    def close(self) -> None:
        """Close the inner environment."""
        self._inner.close()

    def _flat(self, observation: Any) -> Floats32:
        return np.asarray(spaces.flatten(self._inner.observation_space, observation), np.float32)
