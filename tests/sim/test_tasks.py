"""The contract that every task keeps: Gymnasium's rules, the declared specs, reproducible, judged by the log alone."""

import functools
import itertools
import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim
from dsac_robot.core import navigate, track
from dsac_robot.core.files import share_path
from dsac_robot.core.history import History
from dsac_robot.core.observation import LAYOUTS, flatten, layout_for
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Contact, Goal, Odom, Plan, Scan, ns
from sim.navigate import NavigateEnv, NavigateEnvParams
from sim.registration import NAVIGATE, TRACK, make_navigate, make_track, register_envs
from sim.simulator import Simulator
from sim.task_env import COMMAND_PERIOD_S, TaskEnv
from sim.track import TrackEnv, TrackEnvParams
from sim.vector import ProcessVectorEnv
from sim.worlds import Mover, World, generate
from sim.worlds_track import generate_track

ROBOT = load_robot("jackal")
Judged = tuple[float, float]  # reward, cost


def busy_world(seed: int) -> World:
    """One of a few worlds of all kinds, the start moved to where there is something to run into."""
    world = generate(("clutter", "corridors", "offices", "pedestrians")[seed % 4], seed % 3, 0.7)
    if seed % 4 == 0:
        return replace(world, start=(world.start[0], 1.0, world.start[2]))
    return world


def judge_navigate(log: History, tick_ns: int, then_ns: int) -> Judged:
    newest, task = log.newest, navigate.NavigateParams()
    step = navigate.Step(
        newest(Odom, tick_ns),
        newest(Odom, then_ns),
        newest(Goal, tick_ns),
        newest(Command, tick_ns),
        newest(Command, then_ns),
        newest(Scan, then_ns),
        newest(Contact, then_ns).touching,
    )
    return navigate.reward(step, ROBOT, task), navigate.cost(step, ROBOT, task)


def judge_track(log: History, tick_ns: int, then_ns: int) -> Judged:
    newest, task = log.newest, track.TrackParams()
    step = track.TrackStep(
        newest(Odom, then_ns),
        newest(Plan, then_ns),
        newest(Command, then_ns),
        newest(Scan, then_ns),
        newest(Contact, then_ns).touching,
    )
    return track.reward(step, ROBOT, task), track.cost(step, ROBOT, task)


@dataclass(frozen=True)
class Task:
    """A task of the contract: how it is made, with episodes of 1.5 s, and how a log of it is judged."""

    make: Callable[[], TaskEnv]
    judge: Callable[[History, int, int], Judged]


def busy_track(seed: int) -> World:
    """A world of the generator; in every second one its obstacle is near the start."""
    world = generate_track(seed % 8, 0.4, 20.0)
    if seed % 2:
        near = Mover.along(0.37, np.array([[1.0, 0.6], [1.0, -0.6]]), 0.3)
        return replace(world, movers=(near,), start=(0.0, 0.0, 0.0))
    return world


TASKS = {
    "navigate": Task(
        functools.partial(NavigateEnv, ROBOT, params=NavigateEnvParams(time_limit_s=1.5), worlds=busy_world),
        judge_navigate,
    ),
    "track": Task(
        functools.partial(
            TrackEnv, ROBOT, LAYOUTS["track"], params=TrackEnvParams(time_limit_s=1.5), worlds=busy_track
        ),
        judge_track,
    ),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def actions_of(seed: int, steps: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, 2)).astype(np.float32)


Transition = tuple[bytes, float, bool, bool, float]


def drive(env: TaskEnv, seed: int, actions: np.ndarray) -> list[Transition]:
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


@pytest.mark.parametrize("robot", ["jackal", "burger", "rosbot_xl"])
@pytest.mark.parametrize("name", [NAVIGATE, TRACK])
def test_gymnasium_makes_each_registered_env_and_its_own_checks_pass(name: str, robot: str) -> None:
    env = gymnasium.make(name, robot=robot).unwrapped
    assert env.spec is not None and env.spec.id == name
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity.*")  # raw SI observations have no declared bound
        check_env(env)


@pytest.mark.parametrize(("name", "params"), [(NAVIGATE, NavigateEnvParams(worlds="mix")), (TRACK, TrackEnvParams())])
def test_gymnasium_makes_vectors_of_each_registered_env_with_its_parameters(name: str, params: object) -> None:
    envs = gymnasium.make_vec(name, num_envs=2, vectorization_mode="async", robot="jackal", params=params)
    try:
        observation, _ = envs.reset(seed=1)
        assert observation.shape == (2, *envs.single_observation_space.shape)
        assert np.all(np.isfinite(envs.step(np.zeros((2, 2), np.float32))[0]))
    finally:
        envs.close()


def test_gymnasium_makes_the_envs_by_module_and_name_without_an_import_before() -> None:
    program = (
        "import sys, gymnasium\n"
        "assert 'sim' not in sys.modules\n"
        f"print(gymnasium.make('sim:{TRACK}', robot='burger').unwrapped.robot.name)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.returncode) == ("burger", 0), result.stderr


def test_importing_sim_registers_the_envs_and_loads_no_physics() -> None:
    program = (
        "import sys, sim, gymnasium\n"
        f"assert {{{NAVIGATE!r}, {TRACK!r}}} <= set(gymnasium.registry)\n"
        "assert 'mujoco' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    register_envs()  # a second time: no complaint, nothing changed
    assert sim.register_envs is register_envs


@pytest.mark.parametrize("make", [make_navigate, make_track])
def test_an_environment_is_made_for_a_slower_lidar_at_its_rate(make: Callable[..., TaskEnv]) -> None:
    slow = replace(ROBOT, lidar=replace(ROBOT.lidar, rate_hz=5.5))
    env = make(slow)
    assert env.layout.control_period_s == 0.2  # 1 / 5.5 s, up to a multiple of the commands' 0.02 s
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    assert env.history.newest(Scan, 10**12).stamp_ns == env._tick_ns
    assert layout_for("navigate", ROBOT) == LAYOUTS["navigate"]


@pytest.mark.parametrize("name", sorted(path.stem for path in share_path("config", "robots").glob("*.yaml")))
@pytest.mark.parametrize("make", [make_navigate, make_track])
def test_every_shipped_robot_does_every_task(make: Callable[..., TaskEnv], name: str) -> None:
    env = make(name)
    observation, _ = env.reset(seed=3)
    for action in actions_of(3, 5):
        observation, value, terminated, _, info = env.step(action)
        assert env.observation_space.contains(observation) and np.all(np.isfinite(observation))
        assert math.isfinite(value) and info["cost"] in (0.0, 1.0) and not terminated


@every_task
def test_observations_keep_their_declared_spec_and_are_finite_and_no_entry_is_constant(task: Task) -> None:
    env = task.make()
    size = sum(math.prod(spec.shape) for spec in env.builder.specs)
    observation, _ = env.reset(seed=2)
    seen = [observation]
    for action in actions_of(2, 60):
        observation, value, terminated, truncated, info = env.step(action)
        seen.append(observation)
        assert env.observation_space.contains(observation) and observation.shape == (size,)
        assert math.isfinite(value) and info["cost"] in (0.0, 1.0)
        assert ("outcome" in info) == (terminated or truncated)
        if terminated or truncated:
            env.reset()
    stacked = np.array(seen)
    assert np.all(np.isfinite(stacked))
    constant = np.flatnonzero(np.ptp(stacked, axis=0) == 0.0)
    assert len(constant) == 0, f"entries {constant} of the observation never changed"


@every_task
def test_the_same_seed_gives_the_same_trajectory_bit_for_bit_across_episodes(task: Task) -> None:
    actions = actions_of(0, 25)
    first = drive(task.make(), 11, actions)
    assert first == drive(task.make(), 11, actions)
    assert first[0][0] != drive(task.make(), 12, actions[:1])[0][0]


@every_task
def test_an_environment_is_pickled_before_and_in_an_episode_and_goes_on_as_it_would_have(task: Task) -> None:
    actions = actions_of(5, 6)
    env = pickle.loads(pickle.dumps(task.make()))
    env.reset(seed=3)
    env.step(actions[0])
    copy = pickle.loads(pickle.dumps(env))
    for action in actions[1:]:
        one, other = env.step(action), copy.step(action)
        assert one[0].tobytes() == other[0].tobytes() and one[1:] == other[1:]


def together_gymnasium(vector: type, task: Task, actions: np.ndarray) -> list[list[Transition]]:
    """What each of two environments gives in a vector of Gymnasium's. # actions (T, 2, 2)"""
    envs = vector([task.make] * 2, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    rows: list[list[Transition]] = [[], []]
    try:
        observation, _ = envs.reset(seed=30)
        for k in range(2):
            rows[k].append((observation[k].tobytes(), 0.0, False, False, 0.0))
        for action in actions:
            observation, rewards, terminated, truncated, infos = envs.step(action)
            for k in range(2):
                ended = bool(terminated[k] or truncated[k])
                last = infos["final_obs"][k] if ended else observation[k]
                costs = infos["final_info"]["cost"] if ended else infos["cost"]
                step = (bool(terminated[k]), bool(truncated[k]), float(costs[k]))
                rows[k].append((last.tobytes(), float(rewards[k]), *step))
                if ended:
                    rows[k].append((observation[k].tobytes(), 0.0, False, False, 0.0))
    finally:
        envs.close()
    return rows


@every_task
@pytest.mark.parametrize("vector", [gymnasium.vector.SyncVectorEnv, gymnasium.vector.AsyncVectorEnv])
def test_environments_run_together_give_what_each_gives_alone(task: Task, vector: type) -> None:
    actions = np.stack([actions_of(k, 15) for k in range(2)], axis=1)
    alone = [drive(task.make(), 30 + k, actions[:, k]) for k in range(2)]
    assert together_gymnasium(vector, task, actions) == alone


@every_task
def test_environments_in_worker_processes_give_what_each_gives_alone(task: Task) -> None:
    actions = np.stack([actions_of(k, 4) for k in range(2)], axis=1)
    envs = ProcessVectorEnv([task.make] * 2)
    try:
        observation, _ = envs.reset(seed=50)
        seen = [observation]
        for action in actions:
            envs.step_async(action)
            seen.append(envs.step_wait()[0])
    finally:
        envs.close()
    for k in range(2):
        assert [rows[k].tobytes() for rows in seen] == [row[0] for row in drive(task.make(), 50 + k, actions[:, k])]


class Log:
    """What a bag of the drive would hold: every sample by its stamp, the bumper's too."""

    def __init__(self, env: TaskEnv) -> None:
        self.env, self.history = env, History(horizon_s=1e6)
        self.history.add(Contact(0, False))
        self.update()

    def update(self) -> None:
        for kept in self.env.history._samples.values():
            for sample in kept:
                self.history.add(sample)
        if self.env.sim.touched:
            self.history.add(Contact(self.env.sim.time_ns, True))


@every_task
def test_reward_cost_and_observation_come_again_from_the_logged_samples_alone(task: Task) -> None:
    env = task.make()
    contacts = costs = 0
    for seed in range(4, 10):
        first, _ = env.reset(seed=seed)
        log, begin_ns, told = Log(env), env._tick_ns, []
        ended = False
        while not ended:
            action = np.array([1.0, 0.1], np.float32)  # hard ahead, into what is there
            observation, value, terminated, truncated, info = env.step(action)
            log.update()
            told.append((observation, value, info["cost"]))
            ended = terminated or truncated
        contacts += info["outcome"] == "contact"
        costs += sum(paid > 0.0 for _, _, paid in told)
        np.testing.assert_array_equal(flatten(env.builder.build(log.history, begin_ns)), first)
        for k, (observation, value, paid) in enumerate(told):
            tick_ns, then_ns = begin_ns + k * env._period_ns, begin_ns + (k + 1) * env._period_ns
            assert task.judge(log.history, tick_ns, then_ns) == (value, paid)
            np.testing.assert_array_equal(flatten(env.builder.build(log.history, then_ns)), observation)
    assert 0 < contacts < 6 and costs > contacts  # both kinds of ending, and closeness before the touch


@every_task
def test_commands_are_sent_at_the_guards_rate_within_the_robots_limits(task: Task) -> None:
    env = task.make()
    env.reset(seed=1)
    log = Log(env)
    for action in actions_of(9, 8):
        if any(env.step(action)[2:4]):
            break
        log.update()
    sent = log.history._samples[Command]
    assert len(sent) > 20
    limits = ROBOT.limits
    for last, now in itertools.pairwise(sent[1:]):
        assert isinstance(last, Command) and isinstance(now, Command)
        assert now.stamp_ns - last.stamp_ns == ns(COMMAND_PERIOD_S)
        assert limits.speed_mps_min <= now.speed_mps <= limits.speed_mps_max
        assert abs(now.speed_mps - last.speed_mps) <= limits.accel_mps2_max * COMMAND_PERIOD_S + 1e-9
        assert abs(now.yaw_rate_radps - last.yaw_rate_radps) <= limits.yaw_accel_radps2_max * COMMAND_PERIOD_S + 1e-9


@every_task
def test_time_up_truncates_and_does_not_terminate(task: Task) -> None:
    env = task.make()
    env.reset(seed=1)
    halt = env.actions.to_action(np.zeros(2)).astype(np.float32)
    ends = [env.step(halt)[2:4] for _ in range(13)]  # two of the fifteen ticks pass while the stack is filled
    assert ends == [(False, False)] * 12 + [(False, True)]


@every_task
def test_an_action_that_is_not_finite_is_refused_and_one_out_of_range_is_clipped(task: Task) -> None:
    env = task.make()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.array([math.nan, 0.0], np.float32))
    wide = drive(task.make(), 3, np.array([[5.0, -7.0]], np.float32))
    assert wide == drive(task.make(), 3, np.array([[1.0, -1.0]], np.float32))


@every_task
def test_forward_only_never_asks_for_reverse(task: Task) -> None:
    env = task.make()
    env._common = replace(env._common, forward_only=True)
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.array([-1.0, 0.0], np.float32))
    assert env._newest(Command).speed_mps == 0.0
    assert isinstance(env.sim, Simulator)
