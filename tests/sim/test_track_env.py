"""Task track: driven by a plain controller it is what it says, and its episodes end as they must."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.observation import LAYOUTS, PATH_AHEAD_S
from dsac_robot.core.params import ParameterError, build
from dsac_robot.core.path import path_errors, points_ahead
from dsac_robot.core.robot import load_robot
from dsac_robot.core.track import TrackParams, disc_gap_m
from dsac_robot.core.values import Odom, Scan
from sim.track import SPEED_SHARE_MAX, TrackEnv, TrackEnvParams
from sim.worlds import Mover, World, WorldError, empty_world
from sim.worlds_track import generate_track

ROBOT = load_robot("jackal")
TASK = TrackParams()


def free_world(seed: int) -> World:
    """A world without its obstacle, the robot on the path."""
    world = generate_track(seed % 100, 0.4, 30.0, 1.0)
    path_m = world.route.points_m
    heading = math.atan2(*(path_m[1] - path_m[0])[::-1])
    x, y = (float(value) for value in path_m[0])
    return replace(world, movers=(), start=(x, y, heading))


def crossed_world(seed: int) -> World:
    """An obstacle crosses 2 m ahead just when the reference is there."""
    world = generate_track(1, 0.4, 30.0, 0.0)
    mover = Mover.along(0.37, np.array([[2.0, -2.5], [2.0, 2.5]]), 0.5)
    return replace(world, movers=(mover,), start=(0.0, 0.0, 0.0))


def follow(env: TrackEnv, speed_mps: float) -> np.ndarray:
    """Pure pursuit of the path at a speed."""
    odom = env._newest(Odom)
    x, y = points_ahead(odom, env._plan, np.array([0.5]))[0]
    turn = 2.0 * speed_mps * y / (x * x + y * y)
    return env.actions.to_action(np.array([speed_mps, turn])).astype(np.float32)


def test_a_path_follower_stays_on_the_path_at_the_reference_and_pays_little() -> None:
    env = TrackEnv(ROBOT, params=TrackEnvParams(time_limit_s=15.0), worlds=free_world)
    for seed in (3, 4):
        env.reset(seed=seed)
        places = [env.sim.pose[:2]]
        rows, truncated = [], False
        while not truncated:
            _, value, terminated, truncated, info = env.step(follow(env, 0.4))
            assert not terminated
            errors = path_errors(env._newest(Odom), env._plan)
            rows.append((errors.lateral_m, errors.speed_mps, value))
            places.append(env.sim.pose[:2])
        settled = np.array(rows)[10:]
        assert np.abs(settled[:, 0]).max() < 0.1
        assert np.abs(settled[:, 1]).mean() < 0.05
        assert settled[:, 2].mean() > -0.3
        assert info["outcome"] == "success"
        gone_m = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
        assert gone_m == pytest.approx(0.4 * 14.7, rel=0.05)  # at the reference speed, but for setting off


def run(env: TrackEnv, careful: bool) -> tuple[str, float, float]:
    """Outcome, sum of costs and least true gap of the discs of one episode."""
    env.reset(seed=0)
    costs, least = 0.0, math.inf
    while True:
        seen = env._newest(Scan)
        wait = careful and disc_gap_m(seen, ROBOT, TASK) < 1.2
        _, _, terminated, truncated, info = env.step(follow(env, 0.0001 if wait else 0.4))
        x, y, _ = env.sim.pose
        place = env.world.movers[0].position_m(env.sim.time_ns / 1e9)
        least = min(least, math.dist((x, y), place) - 2.0 * 0.37)
        costs += info["cost"]
        if terminated or truncated:
            return info["outcome"], costs, least


def test_who_does_not_look_is_hit_and_who_waits_is_not() -> None:
    env = TrackEnv(ROBOT, params=TrackEnvParams(time_limit_s=14.0), worlds=crossed_world)
    outcome, costs, _ = run(env, careful=False)
    assert outcome == "contact" and costs >= 1.0
    outcome, costs, least = run(env, careful=True)
    assert outcome == "success" and least > TASK.disc_margin_m and costs == 0.0


def test_leaving_the_path_ends_the_episode_with_the_penalty() -> None:
    env = TrackEnv(ROBOT, task=TrackParams(off_path_m=0.5), worlds=free_world)
    env.reset(seed=0)
    turned = env.actions.to_action(np.array([0.5, 1.0])).astype(np.float32)
    straight = env.actions.to_action(np.array([0.5, 0.0])).astype(np.float32)
    ends = [env.step(turned) for _ in range(15)]
    while not ends[-1][2]:
        ends.append(env.step(straight))
    assert ends[-1][4]["outcome"] == "off_path" and abs(ends[-1][4]["lateral_m"]) > 0.5
    assert ends[-1][1] < -TASK.end_penalty < -50.0 < ends[-2][1]


def test_the_observation_holds_the_errors_and_the_path_ahead() -> None:
    env = TrackEnv(ROBOT)
    env.reset(seed=5)
    observation = env.builder.build(env.history, env._tick_ns)
    assert tuple(observation) == LAYOUTS["track"].terms
    odom, plan = env._newest(Odom), env._plan
    errors = path_errors(odom, plan)
    expected = [errors.lateral_m, errors.heading_rad, errors.speed_mps]
    np.testing.assert_allclose(observation["path_errors"], expected, rtol=1e-6)
    ahead = points_ahead(odom, plan, plan.speed_mps * np.array(PATH_AHEAD_S))
    np.testing.assert_allclose(observation["path_ahead"], ahead, rtol=1e-5, atol=1e-7)
    assert abs(errors.lateral_m) < 0.35 and abs(errors.heading_rad) < 0.35  # the start is beside the path


def test_the_reference_is_never_faster_than_a_slow_robot_can_go() -> None:
    slow = replace(ROBOT, limits=replace(ROBOT.limits, speed_mps_max=0.3))
    env = TrackEnv(slow, params=TrackEnvParams(reference_mps=(0.2, 2.0)))
    speeds = [env.reset(seed=seed) and env.world.route.speed_mps for seed in range(6)]
    assert 0.2 <= min(speeds) < max(speeds) <= SPEED_SHARE_MAX * 0.3


def test_a_world_without_a_route_is_refused() -> None:
    env = TrackEnv(ROBOT, worlds=lambda seed: empty_world())
    with pytest.raises(WorldError, match="empty has no route"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"reference_mps": [0.4, 0.3]}, r"reference_mps = \[0.4, 0.3\] must be \[low, high\]"),
        ({"reference_mps": [0.05, 0.3]}, r"reference_mps = 0.05 m/s is outside \[0.1, 10.0\]"),
        ({"difficulty": [0.1, 0.2, 0.3]}, r"difficulty = \[0.1, 0.2, 0.3\] must be"),
        ({"worlds": "clutter"}, "unknown key worlds"),
    ],
)
def test_a_range_that_is_none_is_refused(values: dict, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        build(TrackEnvParams, values, "recipe: environment")
