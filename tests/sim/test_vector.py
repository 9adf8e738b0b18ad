"""Environments in worker processes: the very steps of single ones, and errors that reach the parent."""

import functools
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest

from dsac_robot.core.robot import load_robot
from sim.navigate import NavigateEnv, NavigateEnvParams
from sim.vector import ProcessVectorEnv, WorkerError
from sim.worlds import pooled_clutter

ROBOT = load_robot("jackal")
SHORT = functools.partial(NavigateEnv, ROBOT, params=NavigateEnvParams(time_limit_s=0.7), worlds=pooled_clutter)
ACTIONS = np.random.default_rng(0).uniform(-1.0, 1.0, (12, 3, 2)).astype(np.float32)  # an episode has 5 to 7 steps


def single(index: int, seed: int) -> list[tuple[object, ...]]:
    """What one environment gives, reset after each episode as the vector does."""
    env = SHORT()
    rows: list[tuple[object, ...]] = [(env.reset(seed=seed + index)[0].tobytes(),)]
    for action in ACTIONS[:, index]:
        observation, reward, terminated, truncated, info = env.step(action)
        final = None
        if terminated or truncated:
            final = (observation.tobytes(), info)
            observation, _ = env.reset()
        rows.append((observation.tobytes(), reward, terminated, truncated, final))
    return rows


@pytest.mark.parametrize("workers", [1, 2])
def test_vectorised_steps_are_those_of_single_environments_bit_for_bit(workers: int) -> None:
    envs = ProcessVectorEnv([SHORT] * 3, workers)
    try:
        start, _ = envs.reset(seed=40)
        rows = [[(start[i].tobytes(),)] for i in range(3)]
        for actions in ACTIONS:
            envs.step_async(actions)
            observation, reward, terminated, truncated, infos = envs.step_wait()
            assert observation.shape == (3, *envs.observation_space.shape) and observation.dtype == np.float32
            for i in range(3):
                final_obs, final_info = infos["final_obs"][i], infos["final_info"][i]
                final = None if final_obs is None else (final_obs.tobytes(), final_info)
                ended = (bool(terminated[i]), bool(truncated[i]))
                rows[i].append((observation[i].tobytes(), float(reward[i]), *ended, final))
    finally:
        envs.close()
    for i in range(3):
        assert rows[i] == single(i, 40)
        assert sum(row[-1] is not None for row in rows[i][1:]) >= 1  # an episode ended on the way


def test_an_exception_in_a_worker_reaches_the_parent_by_name() -> None:
    envs = ProcessVectorEnv([SHORT])
    try:
        envs.reset(seed=0)
        envs.step_async(np.full((1, 2), np.nan, np.float32))
        with pytest.raises(WorkerError, match=r"ValueError: action \[nan nan\] is not finite"):
            envs.step_wait()
    finally:
        envs.close()
    with pytest.raises(WorkerError, match="AttributeError"):
        ProcessVectorEnv([functools.partial(NavigateEnv, None)])


def rollout(envs: ProcessVectorEnv, actions: np.ndarray) -> list[bytes]:
    """Observations and rewards, to the last bit."""
    told = []
    for action in actions:
        envs.step_async(action)
        observation, reward, *_ = envs.step_wait()
        told.append(observation.tobytes() + reward.tobytes())
    return told


@pytest.mark.parametrize(
    ("factory", "size", "before"),
    [(SHORT, 2, 9), (functools.partial(gymnasium.make, "Hopper-v5"), 3, 60)],
    ids=["navigate", "Hopper-v5"],
)
def test_restored_environments_go_on_in_mid_episode_as_the_saved_ones_would(
    factory: functools.partial[Any], size: int, before: int
) -> None:
    """Over ends of episodes as well: the first episode is over by the time of saving, another ends after it."""
    actions = np.random.default_rng(1).uniform(-1.0, 1.0, (2 * before, 3, size)).astype(np.float32)
    envs, others = ProcessVectorEnv([factory] * 3, 1), ProcessVectorEnv([factory] * 3, 2)
    try:
        envs.reset(seed=7)
        rollout(envs, actions[:before])
        state = pickle.loads(pickle.dumps(envs.state()))
        assert any(saved["seed"] is None for saved in state) and any(saved["actions"] for saved in state)
        following = rollout(envs, actions[before:])
        others.restore(state)
        assert rollout(others, actions[before:]) == following
        with pytest.raises(ValueError, match="of 2 environments, here are 3"):
            others.restore(state[:2])
    finally:
        envs.close()
        others.close()
