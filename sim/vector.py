"""Many environments in few processes: each worker steps its share one after the other, with one message a step.

Gymnasium's AsyncVectorEnv takes a process for each environment; with far more environments than cores that costs more
in switching than the physics costs.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from dsac_robot.core.values import Floats, Floats32

EnvFactory = Callable[[], "gymnasium.Env[Any, Any]"]


class WorkerError(RuntimeError):
    """A worker process died or raised; the message holds what it said."""


class ProcessVectorEnv:
    """A vector environment with same-step autoreset over ``workers`` processes.

    ``step_async`` hands out the actions and returns, so that the caller can compute while the physics runs;
    ``step_wait`` collects. Environment i is seeded with ``seed + i``, whatever the number of workers.
    """

    def __init__(self, factories: Sequence[EnvFactory], workers: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self.num_envs = len(factories)
        bounds = np.linspace(0, self.num_envs, min(workers, self.num_envs) + 1).astype(int)
        self._shares = [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
        self._pipes: list[Connection] = []
        self._processes = []
        for share in self._shares:
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, list(factories[share])), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        self.observation_space, self.action_space = self._receive(self._pipes[0])
        for pipe in self._pipes[1:]:
            self._receive(pipe)

    def reset(self, *, seed: int | None = None) -> tuple[Floats32, dict[str, Any]]:
        """Reset all; environment i gets ``seed + i``. # (N, D)"""
        for pipe, share in zip(self._pipes, self._shares, strict=True):
            pipe.send(("reset", None if seed is None else seed + share.start))
        return np.concatenate([self._receive(pipe)[0] for pipe in self._pipes]), {}

    def step_async(self, actions: Floats32) -> None:
        """Start one step of all. # (N, A)"""
        for pipe, share in zip(self._pipes, self._shares, strict=True):
            pipe.send(("step", actions[share]))

    def step_wait(self) -> tuple[Floats32, Floats, Any, Any, dict[str, Any]]:
        """Observation, reward, terminated, truncated; ``final_obs`` and ``final_info`` are lists with an entry for each
        environment, None where its episode goes on."""
        parts = [self._receive(pipe) for pipe in self._pipes]
        observation, reward, terminated, truncated = (np.concatenate([part[k] for part in parts]) for k in range(4))
        infos = {key: [item for part in parts for item in part[4][key]] for key in ("final_obs", "final_info")}
        return observation, reward, terminated, truncated, infos

    def state(self) -> list[dict[str, Any]]:
        """How each environment's present episode came to be, between two steps: enough to bring it back."""
        for pipe in self._pipes:
            pipe.send(("state", None))
        return [saved for pipe in self._pipes for saved in self._receive(pipe)]

    def restore(self, state: list[dict[str, Any]]) -> Floats32:
        """Bring back the episodes that ``state`` told of, by their generators' state at the reset and all actions
        since; returns the observations. # (N, D)

        Works for every environment whose randomness is Gymnasium's ``np_random``. Raises ValueError where the number of
        environments is another.
        """
        if len(state) != self.num_envs:
            raise ValueError(f"the saved state is of {len(state)} environments, here are {self.num_envs}")
        for pipe, share in zip(self._pipes, self._shares, strict=True):
            pipe.send(("restore", state[share]))
        return np.concatenate([self._receive(pipe) for pipe in self._pipes])

    def close(self) -> None:
        """End the workers."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5.0)
            process.terminate()

    def _receive(self, pipe: Connection) -> Any:
        try:
            ok, value = pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise WorkerError("an environment process died; see its last words above") from error
        if not ok:
            raise WorkerError(value)
        return value


def _serve(pipe: Connection, factories: list[EnvFactory]) -> None:
    """A worker's life: until the pipe is closed. Ctrl-C is for the parent, which finishes the step and closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        envs = [_Episodes(factory()) for factory in factories]
        pipe.send((True, (envs[0].env.observation_space, envs[0].env.action_space)))
        while True:
            verb, argument = pipe.recv()
            if verb == "reset":
                seeds = [None if argument is None else argument + i for i in range(len(envs))]
                starts = [env.reset(seed) for env, seed in zip(envs, seeds, strict=True)]
                pipe.send((True, (np.stack(starts),)))
            elif verb == "state":
                pipe.send((True, [env.state() for env in envs]))
            elif verb == "restore":
                pipe.send((True, np.stack([env.restore(saved) for env, saved in zip(envs, argument, strict=True)])))
            else:
                pipe.send((True, _step(envs, argument)))
    except (EOFError, ConnectionError):
        return
    except Exception as error:  # noqa: BLE001  (raised again in the parent, as WorkerError)
        pipe.send((False, f"{type(error).__name__}: {error}"))


class _Episodes:
    """An environment, and how its present episode came to be."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.env = env
        self._seed: int | None = None
        self._generator: dict[str, Any] = {}
        self._actions: list[Floats32] = []

    def reset(self, seed: int | None = None) -> Floats32:
        self._seed, self._actions = seed, []
        self._generator = self.env.unwrapped.np_random.bit_generator.state
        return self.env.reset(seed=seed)[0]

    def step(self, action: Floats32) -> tuple[Any, ...]:
        self._actions.append(action)
        return self.env.step(action)

    def state(self) -> dict[str, Any]:
        return {"seed": self._seed, "generator": self._generator, "actions": self._actions}

    def restore(self, saved: dict[str, Any]) -> Floats32:
        self.env.unwrapped.np_random.bit_generator.state = saved["generator"]
        observation = self.reset(saved["seed"])
        for action in saved["actions"]:
            observation = self.step(action)[0]
        return observation


def _step(envs: list[_Episodes], actions: Floats32) -> tuple[Any, ...]:
    rows, final_obs, final_info = [], [], []
    for env, action in zip(envs, actions, strict=True):
        observation, reward, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        final_obs.append(observation if ended else None)
        final_info.append(info if ended else None)
        if ended:
            observation = env.reset()
        rows.append((observation, reward, terminated, truncated))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return (*columns, {"final_obs": final_obs, "final_info": final_info})
