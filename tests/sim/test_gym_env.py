"""Any Gymnasium environment as the learner wants it: flat float32, actions in [-1, 1], refusals that name the space."""

import gymnasium
import numpy as np
import pytest

from dsac_robot.core.params import ParameterError
from sim.gym_env import GymParams, make_gym_env
from tests.tiny_env import STEPS

REACH = "tests.tiny_env:Reach-v0"


def test_observations_come_flat_in_float32_with_the_values_of_the_environment() -> None:
    env = make_gym_env(GymParams(REACH))
    observation, _ = env.reset(seed=3)
    inner = gymnasium.make(REACH)
    own, _ = inner.reset(seed=3)
    assert env.observation_space.contains(observation) and observation.dtype == np.float32
    np.testing.assert_allclose(observation, [own["left"][0], own["target"][0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("unit", "own"), [(-1.0, 2.0), (1.0, 6.0), (0.0, 4.0), (0.5, 5.0), (7.0, 6.0)])
def test_an_action_of_plus_or_minus_one_is_a_limit_of_the_environments_own_box(unit: float, own: float) -> None:
    env = make_gym_env(GymParams(REACH))
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    target = float(env.reset(seed=1)[0][1])
    reward = env.step(np.array([unit], np.float32))[1]
    assert reward == pytest.approx(1.0 / (1.0 + abs(own - target)), rel=1e-5)


def test_the_reward_scale_multiplies_the_reward_and_nothing_else() -> None:
    plain, scaled = make_gym_env(GymParams(REACH)), make_gym_env(GymParams(REACH, reward_scale=100.0))
    target = float(plain.reset(seed=2)[0][1])
    scaled.reset(seed=2)
    action = np.array([(target - 4.0) / 2.0], np.float32)
    one, other = plain.step(action), scaled.step(action)
    assert one[1] == pytest.approx(1.0, abs=1e-5) and other[1] == pytest.approx(100.0 * one[1])
    np.testing.assert_array_equal(one[0], other[0])


def test_a_time_limit_truncates_and_does_not_terminate() -> None:
    env = make_gym_env(GymParams("Pendulum-v1", time_limit_steps=3))
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    assert STEPS > 3


def test_the_mujoco_tasks_of_gymnasium_can_be_made_and_stepped() -> None:
    env = make_gym_env(GymParams("HalfCheetah-v5"))
    observation, _ = env.reset(seed=0)
    assert observation.shape == (17,) and env.action_space.shape == (6,)
    following, reward, *_ = env.step(np.ones(6, np.float32))
    assert np.isfinite(reward) and not np.array_equal(following, observation)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPole-v1", r"gym:CartPole-v1: action space Discrete\(2\) is not continuous"),
        ("tests.tiny_env:Unbounded-v0", r"Unbounded-v0: action space Box\(-inf, inf.*unbounded.*clips its actions"),
        ("NoSuchTask-v0", r"gym:NoSuchTask-v0 is no environment of Gymnasium.*pprint_registry"),
        ("Pendulum-v99", r"gym:Pendulum-v99 is no environment of Gymnasium.*v99"),
        ("no_such_module:Task-v0", r"no_such_module:Task-v0 needs a package that is not installed.*no_such_module"),
        ("tests.tiny_env:Tomorrow-v0", r"Tomorrow-v0 needs a package that is not installed.*physics_of_tomorrow"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        make_gym_env(GymParams(name))
