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
        envs = [factory() for factory in factories]
        pipe.send((True, (envs[0].observation_space, envs[0].action_space)))
        while True:
            verb, argument = pipe.recv()
            if verb == "reset":
                seeds = [None if argument is None else argument + i for i in range(len(envs))]
                starts = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
                pipe.send((True, (np.stack(starts),)))
            else:
                pipe.send((True, _step(envs, argument)))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # noqa: BLE001  (raised again in the parent, as WorkerError)
        pipe.send((False, f"{type(error).__name__}: {error}"))


def _step(envs: list[gymnasium.Env[Any, Any]], actions: Floats32) -> tuple[Any, ...]:
    rows, final_obs, final_info = [], [], []
    for env, action in zip(envs, actions, strict=True):
        observation, reward, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        final_obs.append(observation if ended else None)
        final_info.append(info if ended else None)
        if ended:
            observation, _ = env.reset()
        rows.append((observation, reward, terminated, truncated))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return (*columns, {"final_obs": final_obs, "final_info": final_info})
