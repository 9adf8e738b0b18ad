"""The navigate environment: Gymnasium's rules, reproducible, and rewards that a log alone gives back."""

import itertools
import math
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dsac_robot.core.history import History
from dsac_robot.core.navigate import NavigateParams, Step, cost, goal_distance_m, reward
from dsac_robot.core.observation import ObservationLayout, flatten
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Goal, Odom, Scan, ns
from sim.navigate import COMMAND_PERIOD_S, NavigateEnv, NavigateEnvParams
from sim.worlds import World, empty_world, generate_clutter

ROBOT = load_robot("jackal")
PERIOD_NS = ns(ObservationLayout().control_period_s)
FORWARD, HALT = np.array([1.0, 0.0], np.float32), np.array([-0.6, 0.0], np.float32)  # 2 m/s, 0 m/s


def clutter_ahead(seed: int) -> World:
    """Clutter from a few seeds, with the start just before the field: there is something to see at once."""
    world = generate_clutter(seed % 4)
    return World(world.name, world.cylinders_m, (world.start[0], 1.0, world.start[2]), world.goal_m, 9.0)


def posts(seed: int) -> World:
    return empty_world((1.5, 0.0))


def wall(seed: int) -> World:
    cylinders = np.array([(1.5, y, 0.075) for y in np.arange(-1.0, 1.01, 0.1)])
    return World("wall", cylinders, (0.0, 0.0, 0.0), (4.0, 0.0), 4.0)


def short() -> NavigateEnv:
    """An environment with short episodes in clutter."""
    return NavigateEnv(ROBOT, params=NavigateEnvParams(time_limit_s=1.5), worlds=clutter_ahead)


def actions_of(seed: int, steps: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, 2)).astype(np.float32)


Transition = tuple[bytes, float, bool, bool, float]


def drive(env: NavigateEnv, seed: int, actions: np.ndarray) -> list[Transition]:
    """Observation's bytes, reward, ends and cost of every step, with a reset after each episode."""
    observation, _ = env.reset(seed=seed)
    out: list[Transition] = [(observation.tobytes(), 0.0, False, False, 0.0)]
    for action in actions:
        observation, value, terminated, truncated, info = env.step(action)
        out.append((observation.tobytes(), float(value), terminated, truncated, info["cost"]))
        if terminated or truncated:
            observation, _ = env.reset()
            out.append((observation.tobytes(), 0.0, False, False, 0.0))
    return out


def test_gymnasiums_own_checks_pass() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity.*")  # raw SI observations have no declared bound
        check_env(short(), skip_render_check=True)


def test_observations_have_the_declared_shape_and_type_and_are_finite_under_random_driving() -> None:
    env = short()
    size = sum(math.prod(spec.shape) for spec in env.builder.specs)
    observation, _ = env.reset(seed=2)
    seen = [observation]
    for action in actions_of(2, 60):
        observation, value, terminated, truncated, info = env.step(action)
        seen.append(observation)
        assert env.observation_space.contains(observation) and observation.shape == (size,)
        assert math.isfinite(value) and info["cost"] in (0.0, 1.0)
        if terminated or truncated:
            env.reset()
    stacked = np.array(seen)
    assert np.all(np.isfinite(stacked))
    constant = np.flatnonzero(np.ptp(stacked, axis=0) == 0.0)
    assert len(constant) == 0, f"entries {constant} of the observation never changed"


def test_the_same_seed_gives_the_same_trajectory_bit_for_bit_across_episodes() -> None:
    actions = actions_of(0, 25)
    first = drive(short(), 11, actions)
    assert first == drive(short(), 11, actions)
    assert first[0][0] != drive(short(), 12, actions[:1])[0][0]


@pytest.mark.parametrize("vector", [gymnasium.vector.SyncVectorEnv, gymnasium.vector.AsyncVectorEnv])
def test_environments_run_together_give_what_each_gives_alone(vector: type) -> None:
    steps = 20
    actions = np.stack([actions_of(k, steps) for k in range(2)], axis=1)  # (T, 2, 2)
    alone = [drive(short(), 30 + k, actions[:, k]) for k in range(2)]
    together: list[list[Transition]] = [[], []]
    envs = vector([short] * 2, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    try:
        observation, _ = envs.reset(seed=30)
        for k in range(2):
            together[k].append((observation[k].tobytes(), 0.0, False, False, 0.0))
        for t in range(steps):
            observation, rewards, terminated, truncated, infos = envs.step(actions[t])
            for k in range(2):
                ended = bool(terminated[k] or truncated[k])
                last = infos["final_obs"][k] if ended else observation[k]
                costs = infos["final_info"]["cost"] if ended else infos["cost"]
                step = (bool(terminated[k]), bool(truncated[k]), float(costs[k]))
                together[k].append((last.tobytes(), float(rewards[k]), *step))
                if ended:
                    together[k].append((observation[k].tobytes(), 0.0, False, False, 0.0))
    finally:
        envs.close()
    assert together == alone


class Log:
    """What a bag of the drive would hold: every sample, kept for good."""

    def __init__(self, env: NavigateEnv) -> None:
        self.env, self.history = env, History(horizon_s=1e6)

    def update(self) -> None:
        for kept in self.env.history._samples.values():
            for sample in kept:
                self.history.add(sample)

    def step(self, tick_ns: int, contact: bool) -> Step:
        """The signals of the control step that begins at ``tick_ns``, by stamps alone."""
        newest, then_ns = self.history.newest, tick_ns + PERIOD_NS
        return Step(
            newest(Odom, tick_ns),
            newest(Odom, then_ns),
            newest(Goal, tick_ns),
            newest(Command, tick_ns),
            newest(Command, then_ns),
            newest(Scan, then_ns),
            contact,
        )


def test_reward_cost_and_observation_come_again_from_the_logged_samples_alone() -> None:
    env, task = NavigateEnv(ROBOT, worlds=clutter_ahead), NavigateParams()
    first, _ = env.reset(seed=4)
    log, told = Log(env), []
    log.update()
    begin_ns = env._tick_ns
    actions = np.concatenate([actions_of(1, 12), np.tile(FORWARD, (60, 1))])
    for action in actions:
        observation, value, terminated, _, info = env.step(action)
        log.update()
        told.append((observation, value, info["cost"], terminated))
        if terminated:
            break
    assert told[-1][3] and told[-1][2] == 1.0  # it drove into something, so that the end is in the log too
    np.testing.assert_array_equal(flatten(env.builder.build(log.history, begin_ns)), first)
    for k, (observation, value, paid, terminated) in enumerate(told):
        tick_ns = begin_ns + k * PERIOD_NS
        done = log.step(tick_ns, contact=terminated)
        assert reward(done, ROBOT, task) == value
        assert cost(done, ROBOT, task) == paid
        np.testing.assert_array_equal(flatten(env.builder.build(log.history, tick_ns + PERIOD_NS)), observation)


def test_commands_are_sent_at_the_guards_rate_within_the_robots_limits() -> None:
    env = NavigateEnv(ROBOT, worlds=posts, params=NavigateEnvParams(time_limit_s=1.0))
    env.reset(seed=0)
    log = Log(env)
    for action in actions_of(9, 8):
        env.step(action)
        log.update()
    sent = log.history._samples[Command]
    period_ns = ns(COMMAND_PERIOD_S)
    limits = ROBOT.limits
    for last, now in itertools.pairwise(sent[1:]):
        assert isinstance(last, Command) and isinstance(now, Command)
        assert now.stamp_ns - last.stamp_ns == period_ns
        assert limits.speed_mps_min <= now.speed_mps <= limits.speed_mps_max
        assert abs(now.speed_mps - last.speed_mps) <= limits.accel_mps2_max * COMMAND_PERIOD_S + 1e-9
        assert abs(now.yaw_rate_radps - last.yaw_rate_radps) <= limits.yaw_accel_radps2_max * COMMAND_PERIOD_S + 1e-9


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


def test_the_goal_counts_only_without_a_contact() -> None:
    env = NavigateEnv(ROBOT, worlds=lambda seed: World("wall", wall(0).cylinders_m, (0.0, 0.0, 0.0), (1.6, 0.0), 1.6))
    env.task = NavigateParams(goal_tolerance_m=0.3)
    _, terminated, _, info = run_to_end(env, FORWARD)
    assert terminated and info["outcome"] == "contact"


def test_an_action_that_is_not_finite_is_refused_and_one_out_of_range_is_clipped() -> None:
    env = short()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.array([math.nan, 0.0], np.float32))
    wide = drive(short(), 3, np.array([[5.0, -7.0]], np.float32))
    assert wide == drive(short(), 3, np.array([[1.0, -1.0]], np.float32))
