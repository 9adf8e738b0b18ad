"""How fast the simulator is, and how much its time step matters: the measurements of ``dsac-robot bench sim``.

Two things to compare are run in turn, an episode of one and then of the other, and the median of the turns' ratios
counts: what else the machine does at the time then hits both alike. What runs on one core is timed by that thread's
clock, which on a quiet machine is the wall's; two processes against one are timed by the wall's. Resets count. The
driver that chooses the actions does not: what it did is driven a second time and then timed.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import mujoco
import numpy as np

from dsac_robot.core.kinematics import wheel_speeds
from dsac_robot.core.observation import ObservationLayout
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Floats, Floats32, ns
from sim.navigate import COMMAND_PERIOD_S, NavigateEnv, NavigateEnvParams
from sim.robot_model import build
from sim.simulator import Simulator
from sim.worlds import World, barn_ids, generate_clutter, read_barn_world

WORLDS = 8
EPISODE_S = 20.0  # as in the training recipes
DRIVE_S = 10.0  # of open loop, when two time steps are compared
DRIVES = 6


@dataclass(frozen=True)
class WorldList:
    """A world source that gives a few worlds in turn; it goes to worker processes."""

    worlds: tuple[World, ...]

    def __call__(self, seed: int) -> World:
        """The world for ``seed``."""
        return self.worlds[seed % len(self.worlds)]


def worlds_of(folder: Path | None) -> tuple[World, ...]:
    """Eight worlds spread over a BARN directory, or generated clutter. Raises WorldError for a bad directory."""
    if folder is None:
        return tuple(generate_clutter(seed) for seed in range(WORLDS))
    ids = barn_ids(folder)
    chosen = sorted({ids[int(i)] for i in np.linspace(0, len(ids) - 1, WORLDS)})
    return tuple(read_barn_world(folder, number) for number in chosen)


def make_env(robot: Robot, worlds: Sequence[World]) -> NavigateEnv:
    """The training environment as it is: all noise, all beams, a scan at every control tick."""
    period_s = max(ObservationLayout().control_period_s, math.ceil(50.0 / robot.lidar.rate_hz) / 50.0)
    params = NavigateEnvParams(time_limit_s=EPISODE_S, forward_only=True)
    layout = replace(ObservationLayout(), control_period_s=period_s)
    return NavigateEnv(robot, layout, params=params, worlds=WorldList(tuple(worlds)))


# -- the environment against its physics -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Episode:
    """One episode of the driver: enough to drive it again."""

    seed: int
    sim_s: float
    actions: Floats32  # (T, 2)
    controls: Floats  # (T, wheels): wheel set points after each step


def drive_episode(env: NavigateEnv, rng: np.random.Generator) -> Episode:
    """Drive one episode from reset to end."""
    seed = int(rng.integers(2**31))
    observation, _ = env.reset(seed=seed)
    actions, controls, ended = [], [], False
    while not ended:
        actions.append(steer(env, observation))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        controls.append(env.sim.data.ctrl.copy())
        ended = terminated or truncated
    return Episode(seed, env.sim.time_ns / NS, np.array(actions), np.array(controls))


def time_episode(env: NavigateEnv, episode: Episode) -> float:
    """Core time of the environment in the same episode, its reset too, without the driver."""
    began = time.thread_time()
    env.reset(seed=episode.seed)
    for action in episode.actions:
        env.step(action)
    return time.thread_time() - began


def steer(env: NavigateEnv, observation: Floats32) -> Floats32:
    """A driver good enough to keep moving: towards the freest sector near the goal's direction. # (D,) -> (2,)"""
    lidar, sectors = env.robot.lidar, env.layout.sectors
    free = observation[:sectors]  # the newest frame comes first
    goal_x, goal_y = observation[env.layout.frames * sectors :][:2]
    edges = np.linspace(0, lidar.beams, sectors, endpoint=False)
    bearing = lidar.yaw_rad + lidar.angle_min_rad + (edges + 0.5 * lidar.beams / sectors) * lidar.angle_increment_rad
    wide = np.minimum.reduce([np.roll(free, shift) for shift in (-2, -1, 0, 1, 2)])
    best = int(np.argmax(np.minimum(wide, 2.0) + 1.5 * np.cos(bearing - math.atan2(goal_y, goal_x))))
    turn = math.remainder(float(bearing[best]), 2.0 * math.pi)
    ahead = float(free[np.argmin(np.abs(np.cos(bearing) - 1.0))])
    limits = env.robot.limits
    twist = limits.speed_mps_max * min(0.6, max(0.1, 0.4 * ahead)) * max(0.2, math.cos(turn)), 2.0 * turn
    return env.actions.to_action(np.array(twist)).astype(np.float32)


def against_bare(env: NavigateEnv, seconds: float) -> dict[str, Floats]:
    """Simulated seconds per second of one core, turn by turn: the environment (``env_x``), a loop of ``mj_step`` on the
    same model under the same wheel set points (``bare_x``), and the simulator with every sensor at its own rate but no
    observation, reward or cost (``full_x``). # (T,) each"""
    rng = np.random.default_rng(0)
    rows: list[tuple[float, float, float]] = []
    drive_episode(env, rng)  # caches fill
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rows) < 3:
        episode = drive_episode(env, rng)
        env_s = time_episode(env, episode)
        bare_s = _bare_loop(env.sim.model, episode.controls, env.layout.control_period_s)
        full_s = _full_rate(env, episode)
        length_s = len(episode.controls) * env.layout.control_period_s
        rows.append((episode.sim_s / env_s, length_s / bare_s, episode.sim_s / full_s))
    env_x, bare_x, full_x = np.array(rows).T
    return {"env_x": env_x, "bare_x": bare_x, "full_x": full_x}


def _bare_loop(model: mujoco.MjModel, controls: Floats, period_s: float) -> float:
    """Core time of nothing but ``mj_step``."""
    data = mujoco.MjData(model)
    steps = round(period_s / model.opt.timestep)
    mujoco.mj_step(model, data, nstep=100)
    began = time.thread_time()
    for control in controls:
        data.ctrl[:] = control
        for _ in range(steps):
            mujoco.mj_step(model, data)
    return time.thread_time() - began


def _full_rate(env: NavigateEnv, episode: Episode) -> float:
    """Core time of the simulator alone, lidar and odometry at their own rates, over as long a drive."""
    base, track_m = env.robot.base, env.robot.effective_track_m
    half, every = episode.controls.shape[1] // 2, round(env.layout.control_period_s / COMMAND_PERIOD_S)
    left, right = episode.controls[:, 0] * base.wheel_radius_m, episode.controls[:, half] * base.wheel_radius_m
    twists = np.stack([0.5 * (left + right), (right - left) / track_m], axis=1)
    sim = Simulator(env.robot, env.world, 0)
    began = time.thread_time()
    for k in range(round(episode.sim_s / COMMAND_PERIOD_S)):
        speed, yaw_rate = twists[min(k // every, len(twists) - 1)].tolist()
        sim.send(Command(sim.time_ns, speed, yaw_rate))
        sim.advance((k + 1) * ns(COMMAND_PERIOD_S))
    return time.thread_time() - began


def realtime(env: NavigateEnv, seconds: float) -> Floats:
    """Simulated seconds per second of one core, of whole episodes. # (T,)"""
    rng = np.random.default_rng(0)
    drive_episode(env, rng)
    factors: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(factors) < 3:
        episode = drive_episode(env, rng)
        factors.append(episode.sim_s / time_episode(env, episode))
    return np.array(factors)


# -- processes ---------------------------------------------------------------------------------------------------------


def two_against_one(robot: Robot, worlds: Sequence[World], seconds: float) -> Floats:
    """Simulated seconds per second of two processes over those of one, in turns: by the wall's clock, and by that of
    the cores they got (the same on a quiet machine; on a busy one only the second says how they hinder each other).

    # (T, 2)
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for seed in range(2):
        mine, theirs = context.Pipe()
        process = context.Process(target=_worker, args=(theirs, robot, tuple(worlds), seed), daemon=True)
        process.start()
        theirs.close()
        pipes.append(mine)
        processes.append(process)
    slice_s = min(1.0, 0.25 * seconds)
    ratios = []
    try:
        for pipe in pipes:
            pipe.recv()  # ready
        for turn in range(max(2, round(seconds / slice_s / 2.0))):
            alone = _together([pipes[turn % 2]], slice_s)
            ratios.append(np.divide(_together(pipes, slice_s), alone) * (1.0, 2.0))
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(timeout=5.0)
            process.terminate()
    return np.array(ratios)


def _together(pipes: Sequence[Connection], slice_s: float) -> tuple[float, float]:
    """Simulated seconds of these workers at the same time: per wall second, added up, and per core second."""
    for pipe in pipes:
        pipe.send(slice_s)
    sim_s, wall_s, core_s = np.array([pipe.recv() for pipe in pipes]).T
    return float(np.sum(sim_s / wall_s)), float(np.sum(sim_s) / np.sum(core_s))


def _worker(pipe: Connection, robot: Robot, worlds: tuple[World, ...], seed: int) -> None:
    """Drive episodes for as long as each message says, until the pipe is closed."""
    env, rng = make_env(robot, worlds), np.random.default_rng(seed)
    drive_episode(env, rng)
    pipe.send(None)
    try:
        while True:
            slice_s, sim_s = pipe.recv(), 0.0
            began, core_began = time.perf_counter(), time.process_time()
            while time.perf_counter() - began < slice_s:
                sim_s += drive_episode(env, rng).sim_s
            pipe.send((sim_s, time.perf_counter() - began, time.process_time() - core_began))
    except (EOFError, BrokenPipeError):
        return


# -- time step ---------------------------------------------------------------------------------------------------------


def time_step_difference(robot: Robot, step_s: float) -> tuple[float, float, float]:
    """How far positions of this time step come apart from those of a four times finer one: the worst and the median of
    several drives of 10 s under the same commands, open loop and in the open, and the mean way driven (m)."""
    apart, way = [], []
    for seed in range(DRIVES):
        twists = drive_commands(robot, seed)
        coarse, fine = (trajectory(robot, step, twists) for step in (step_s, 0.25 * step_s))
        apart.append(float(np.hypot(*(coarse - fine).T).max()))
        way.append(float(np.hypot(*np.diff(fine, axis=0).T).sum()))
    return max(apart), float(np.median(apart)), float(np.mean(way))


def drive_commands(robot: Robot, seed: int) -> Floats:
    """Twists as in clutter: every half second another speed and turn, within the limits' accelerations. # (T, 2)"""
    rng, limits = np.random.default_rng(seed), robot.limits
    steps = np.array([limits.accel_mps2_max, limits.yaw_accel_radps2_max]) * COMMAND_PERIOD_S
    now, asked, twists = np.zeros(2), np.zeros(2), []
    for k in range(round(DRIVE_S / COMMAND_PERIOD_S)):
        if k % 25 == 0:
            asked = rng.uniform((0.0, -0.75), (1.0, 0.75)) * (limits.speed_mps_max, limits.yaw_rate_radps_max)
        now = now + np.clip(asked - now, -steps, steps)
        twists.append(now)
    return np.array(twists)


def trajectory(robot: Robot, step_s: float, twists: Floats) -> Floats:
    """Positions of the base under those commands, one for each, on an empty floor. # (T, 2) -> (T, 2)"""
    parts = build(robot, World("floor", np.zeros((0, 3)), (0.0, 0.0, 0.0), (1.0, 0.0), 1.0))
    model, half = parts.model, parts.model.nu // 2
    model.opt.timestep = step_s
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=round(0.5 / step_s))
    positions = np.zeros((len(twists), 2))
    for k, (speed, yaw_rate) in enumerate(twists):
        wheels = wheel_speeds(float(speed), float(yaw_rate), robot.base.wheel_radius_m, robot.effective_track_m)
        data.ctrl[:half], data.ctrl[half:] = wheels
        mujoco.mj_step(model, data, nstep=round(COMMAND_PERIOD_S / step_s))
        positions[k] = data.xpos[parts.base_body][:2]
    return positions
