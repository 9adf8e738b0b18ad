"""Task navigate: how episodes end, what they pay, which worlds they have, and motions that have a closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.navigate import NavigateParams, goal_distance_m
from dsac_robot.core.observation import LAYOUTS
from dsac_robot.core.params import ParameterError, build
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Odom
from sim.navigate import NavigateEnv, NavigateEnvParams
from sim.worlds import Mover, World, WorldMix, empty_world, generate, pooled_clutter

ROBOT = load_robot("jackal")
PERIOD_S = LAYOUTS["navigate"].control_period_s
FORWARD, HALT = np.array([1.0, 0.0], np.float32), np.array([-0.6, 0.0], np.float32)  # 2 m/s, 0 m/s


def posts(seed: int) -> World:
    return empty_world((1.5, 0.0))


def wall(seed: int) -> World:
    cylinders = np.array([(1.5, y, 0.075) for y in np.arange(-1.0, 1.01, 0.1)])
    return World("wall", cylinders, (0.0, 0.0, 0.0), (4.0, 0.0), 4.0)


def run_to_end(env: NavigateEnv, action: np.ndarray) -> tuple[float, bool, bool, dict]:
    env.reset(seed=1)
    for _ in range(100):
        _, value, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return float(value), terminated, truncated, info
        assert "outcome" not in info
    raise AssertionError("the episode does not end")


def test_time_up_truncates_and_does_not_terminate() -> None:
    env = NavigateEnv(ROBOT, worlds=posts, params=NavigateEnvParams(time_limit_s=1.0))
    value, terminated, truncated, info = run_to_end(env, HALT)
    assert (terminated, truncated, info["outcome"]) == (False, True, "timeout")
    assert value == pytest.approx(-NavigateParams().time_penalty, abs=0.02)
    assert info["cost"] == 0.0


def test_reaching_the_goal_terminates_with_the_end_reward() -> None:
    env = NavigateEnv(ROBOT, worlds=posts)
    value, terminated, truncated, info = run_to_end(env, FORWARD)
    assert (terminated, truncated, info["outcome"]) == (True, False, "success")
    assert value > NavigateParams().end_reward - 1.0
    assert info["distance_m"] < NavigateParams().goal_tolerance_m
    assert info["distance_m"] == goal_distance_m(env.history.newest(Odom, 10**12), env._goal)


def test_a_contact_terminates_with_its_penalty_and_a_cost() -> None:
    value, terminated, truncated, info = run_to_end(NavigateEnv(ROBOT, worlds=wall), FORWARD)
    assert (terminated, truncated, info["outcome"]) == (True, False, "contact")
    assert value == -NavigateParams().end_reward and info["cost"] == 1.0
    assert info["caused"]


def test_a_pedestrian_that_walks_into_a_standing_robot_ends_the_episode_but_the_contact_is_not_caused() -> None:
    walker = Mover.along(0.25, np.array([[0.1, 2.0], [0.1, -2.0]]), 1.0)
    env = NavigateEnv(ROBOT, worlds=lambda seed: replace(empty_world(), movers=(walker,)))
    _, terminated, _, info = run_to_end(env, HALT)
    assert terminated and info["outcome"] == "contact" and not info["caused"]


def test_the_goal_counts_only_without_a_contact() -> None:
    env = NavigateEnv(ROBOT, worlds=lambda seed: World("wall", wall(0).cylinders_m, (0.0, 0.0, 0.0), (1.6, 0.0), 1.6))
    env.task = NavigateParams(goal_tolerance_m=0.3)
    _, terminated, _, info = run_to_end(env, FORWARD)
    assert terminated and info["outcome"] == "contact"


def asking_for(speed_mps: float, yaw_rate_radps: float, env: NavigateEnv) -> np.ndarray:
    """The action that asks for a twist."""
    return env.actions.to_action(np.array([speed_mps, yaw_rate_radps])).astype(np.float32)


def test_a_straight_line_at_constant_speed_takes_the_time_it_must_and_pays_the_way_less_the_time() -> None:
    env = NavigateEnv(ROBOT, params=NavigateEnvParams(extra_delay_s_max=0.0), worlds=lambda seed: empty_world((6.0, 0)))
    env.reset(seed=0)
    before, paid, terminated = env._newest(Odom), [], False
    while not terminated:
        _, value, terminated, _, _ = env.step(asking_for(1.0, 0.0, env))
        paid.append(value)
    steps = len(paid)
    task, limits, actuation = NavigateParams(), ROBOT.limits, ROBOT.actuation
    # the way at speed, half the ramp, and every lag once; the episode ends on the tick after
    moving_s = 6.0 - task.goal_tolerance_m + 0.5 / limits.accel_mps2_max
    moving_s += actuation.action_delay_s + actuation.motor_time_constant_s + actuation.response_delay_s
    assert steps * PERIOD_S == pytest.approx(moving_s, abs=1.5 * PERIOD_S)
    way = goal_distance_m(before, env._goal) - goal_distance_m(env._newest(Odom), env._goal)
    ramp = task.smooth_penalty * 1.0 / (limits.speed_mps_max - limits.speed_mps_min)
    assert sum(paid) == pytest.approx(way - steps * task.time_penalty - ramp + task.end_reward, abs=1e-6)


@pytest.mark.parametrize("turn", [0.5, -0.5])
def test_a_curve_has_the_radius_it_must(turn: float) -> None:
    env = NavigateEnv(ROBOT, worlds=lambda seed: empty_world((30.0, 0.0), walls=False))
    env.reset(seed=0)
    for _ in range(10):
        env.step(asking_for(0.5, turn, env))
    poses = []
    for _ in range(30):
        env.step(asking_for(0.5, turn, env))
        poses.append(env.sim.pose)
    x, y, yaw = np.array(poses).T
    turned = np.unwrap(yaw)[-1] - yaw[0]
    chord = math.hypot(x[-1] - x[0], y[-1] - y[0])
    assert math.copysign(chord / (2.0 * math.sin(0.5 * abs(turned))), turned) == pytest.approx(0.5 / turn, rel=0.15)


@pytest.mark.parametrize("kind", ["clutter", "corridors", "offices", "pedestrians", "mix"])
def test_the_worlds_are_those_that_the_parameters_name(kind: str) -> None:
    env = NavigateEnv(ROBOT, params=build(NavigateEnvParams, {"worlds": kind, "difficulty": [0.2, 0.3]}, "recipe"))
    env.reset(seed=6)
    again = NavigateEnv(ROBOT, params=NavigateEnvParams(worlds=kind, difficulty=(0.2, 0.3)))
    again.reset(seed=6)
    assert env.world.name == again.world.name
    assert env.world.name.startswith(kind) or kind in ("mix", "pedestrians")
    assert bool(env.world.movers) == env.world.name.endswith("pedestrians")


def test_by_default_worlds_are_clutter_of_all_difficulties_as_before() -> None:
    source = NavigateEnv(ROBOT).worlds
    for seed in (3, 4096 + 3):
        assert source(seed).cylinders_m.tobytes() == pooled_clutter(seed).cylinders_m.tobytes()


def test_a_mix_has_all_kinds_and_each_difficulty_only_from_its_range() -> None:
    source = WorldMix("mix")
    names = {source(seed).name.split("_")[0] for seed in range(9)}
    assert names >= {"clutter", "corridors", "offices"}
    easy, hard = WorldMix("corridors", (0.0, 0.0)), WorldMix("corridors", (1.0, 1.0))
    assert easy(2).walls_m.tobytes() == generate("corridors", 2, 0.0).walls_m.tobytes()
    assert hard(2).walls_m.tobytes() == generate("corridors", 2, 1.0).walls_m.tobytes()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"worlds": "maze"}, "worlds = 'maze' must be one of clutter"),
        ({"difficulty": [0.5]}, r"difficulty = \[0.5\] must be \[low, high\]"),
        ({"difficulty": [0.6, 0.5]}, r"must be \[low, high\]"),
        ({"difficulty": [0.0, 1.5]}, r"difficulty = 1.5 .* outside \[0.0, 1.0\]"),
    ],
)
def test_an_unknown_kind_or_a_range_that_is_none_is_refused(values: dict, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        build(NavigateEnvParams, values, "recipe: environment")
