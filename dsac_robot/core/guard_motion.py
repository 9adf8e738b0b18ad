"""How the base will move: commands under way, the stop that would be sent, and roll-outs of both. Planar, vectorised.

The base is modelled as a pure delay and a first-order lag on speed and yaw rate (``robot.actuation``); in a turn its
tyres slip outward, so that it moves in the direction it had ``side_slip_s`` before. Time runs from the stamp of the
newest odometry; poses are in the base frame at that stamp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.robot import Limits, Robot
from dsac_robot.core.values import NS, Floats, Twist

GRID_S = 0.02  # time step of a roll-out
SPACING_M = 0.025  # poses are checked at this spacing of the fastest corner, or at GRID_S where that is coarser
REST_MPS = 0.02  # below this speed of every corner the robot is at rest


@dataclass(frozen=True)
class Sent:
    """A command that the guard sent, with the time when it did."""

    at_ns: int
    speed_mps: float
    yaw_rate_radps: float


@dataclass(frozen=True, eq=False)
class Motion:
    """The base's response, tabulated: lag over the grid, delay, limits. ``Motion.of`` makes it."""

    limits: Limits
    delay_s: float
    radius_m: float  # circumradius of the footprint about the base origin
    settle_s: float  # the lag has died out after this
    side_slip_s: float  # the direction of motion is behind the heading by this times the yaw rate
    lag: Floats  # (T, T): twist after each grid step = lag @ commands + decay * first twist
    decay: Floats  # (T,)

    @classmethod
    def of(cls, robot: Robot, horizon_s: float) -> Motion:
        """The response tables for roll-outs whose commands end within ``horizon_s``."""
        tau = robot.actuation.motor_time_constant_s
        settle = 4.0 * tau
        steps = math.ceil((horizon_s + settle) / GRID_S) + 1
        keep = math.exp(-GRID_S / tau) if tau > 0.0 else 0.0
        lead = np.arange(steps)[:, None] - np.arange(steps)[None, :]  # (T, T)
        lag = np.where(lead >= 0, (1.0 - keep) * np.power(keep, np.maximum(lead, 0)), 0.0)
        radius = float(np.hypot(*robot.footprint.T).max())
        decay = np.power(keep, np.arange(steps) + 1.0)
        delay = robot.actuation.action_delay_s + robot.actuation.response_delay_s
        slip = robot.actuation.side_slip_s
        return cls(robot.limits, delay, radius, settle, slip, lag, np.asarray(decay))


@dataclass(frozen=True, eq=False)
class Rollout:
    """Sampled poses of K commands, from now until rest. Samples after a command's own rest repeat its last pose."""

    x_m: Floats  # (K, M)
    y_m: Floats  # (K, M)
    yaw_rad: Floats  # (K, M)
    moving_s: Floats  # (K, M) time since the odometry's stamp, not counted on at rest

    @property
    def length_m(self) -> float:
        """Length of the first command's path, along the sampled poses."""
        return float(np.hypot(np.diff(self.x_m[0]), np.diff(self.y_m[0])).sum())

    def only(self, index: int) -> Rollout:
        """The roll-out of one of the commands."""
        pick = slice(index, index + 1)
        return Rollout(self.x_m[pick], self.y_m[pick], self.yaw_rad[pick], self.moving_s[pick])


def stop_time_s(speed_mps: float, yaw_rate_radps: float, limits: Limits) -> float:
    """Time in which the stop profile brings a commanded twist to zero, both parts together (curvature kept)."""
    return max(abs(speed_mps) / limits.brake_mps2, abs(yaw_rate_radps) / limits.yaw_accel_radps2_max)


def stop_step(last: Twist, elapsed_s: float, limits: Limits) -> Twist:
    """The next command of a controlled stop: down the ramp from the ``last`` one, along the same arc."""
    needed = stop_time_s(*last, limits)
    if needed <= elapsed_s + 1e-9:
        return 0.0, 0.0
    scale = 1.0 - elapsed_s / needed
    return last[0] * scale, last[1] * scale


def under_way(sent: tuple[Sent, ...], start_ns: int, acts_s: float, delay_s: float) -> Floats:
    """What the wheels obey at each grid step from ``start_ns`` until a command sent now acts. # (H, 2)"""
    steps = max(0, round(acts_s / GRID_S))
    times = start_ns / NS + (np.arange(steps) + 0.5) * GRID_S
    if not sent:
        return np.zeros((steps, 2))
    begins = np.array([s.at_ns / NS + delay_s for s in sent])
    twists = np.array([[s.speed_mps, s.yaw_rate_radps] for s in sent])
    return np.asarray(twists[np.maximum(np.searchsorted(begins, times, side="right") - 1, 0)])


def roll_out(commands: Floats, first: Twist, before: Floats, hold_s: float, motion: Motion) -> Rollout:
    """Poses when each command acts for ``hold_s`` and the stop profile follows.

    ``commands`` # (K, 2); ``first`` the measured twist; ``before`` the commands that still act first. # (H, 2)
    """
    limits, begin = motion.limits, len(before) * GRID_S
    stop_s = np.maximum(
        np.abs(commands[:, 0]) / limits.brake_mps2, np.abs(commands[:, 1]) / limits.yaw_accel_radps2_max
    )
    end_s = begin + hold_s + float(stop_s.max()) + motion.settle_s
    steps = min(len(motion.decay), max(len(before) + 1, math.ceil(end_s / GRID_S)))
    head = before[:steps]
    since = (np.arange(steps - len(head)) + 0.5) * GRID_S - hold_s  # (S,)
    scale = np.clip(1.0 - since / np.maximum(stop_s, 1e-9)[:, None], 0.0, 1.0)  # (K, S)
    lag, decay = motion.lag[:steps, :steps], motion.decay[:steps]
    fixed = lag[:, : len(head)] @ head + decay[:, None] * np.asarray(first)  # (T, 2)
    shape = scale @ lag[:, len(head) :].T  # (K, T)
    speed, turn = np.empty((len(commands), steps + 1)), np.empty((len(commands), steps + 1))
    speed[:, 0], turn[:, 0] = first
    speed[:, 1:] = fixed[:, 0] + commands[:, :1] * shape
    turn[:, 1:] = fixed[:, 1] + commands[:, 1:] * shape
    return _sampled(speed, turn, motion)


def _sampled(speed: Floats, turn: Floats, motion: Motion) -> Rollout:
    """Integrate twists on the grid and keep poses spaced by SPACING_M of the fastest candidate. # (K, T + 1) each"""
    corner = np.abs(speed) + motion.radius_m * np.abs(turn)  # speed of the fastest corner, at most
    count = speed.shape[1] - 1
    moving = corner > REST_MPS
    last = count + 1 - moving[:, ::-1].argmax(axis=1)  # (K,) first grid index at rest
    last[last > count] = 0  # all at rest, unless the last sample moves
    last[moving[:, -1]] = count + 1
    final = min(int(last.max()), count)
    yaw, x, y = np.zeros((3, len(speed), final + 1))
    steps = (turn[:, 1 : final + 1] + turn[:, :final]) * (0.5 * GRID_S)
    steps.cumsum(axis=1, out=yaw[:, 1:])
    middle = yaw[:, 1:] - (0.5 + motion.side_slip_s / GRID_S) * steps  # of the motion, which lags the heading
    travel = (speed[:, 1 : final + 1] + speed[:, :final]) * (0.5 * GRID_S)
    (travel * np.cos(middle)).cumsum(axis=1, out=x[:, 1:])
    (travel * np.sin(middle)).cumsum(axis=1, out=y[:, 1:])
    fastest = corner[0, :final] if len(corner) == 1 else corner[:, :final].max(axis=0)
    cells = np.zeros(final + 1)
    np.ceil(fastest.cumsum() * (GRID_S / SPACING_M), out=cells[1:])
    cells[final:] += 1.0  # the pose at rest always counts
    new = cells != np.concatenate((cells[:1] - 1.0, cells[:-1]))
    picks = new.nonzero()[0]
    if len(speed) == 1:
        return Rollout(x[:, picks], y[:, picks], yaw[:, picks], picks[None] * GRID_S)
    index = np.minimum(picks, np.minimum(last, final)[:, None])  # (K, M)
    row = np.arange(len(index))[:, None]
    return Rollout(x[row, index], y[row, index], yaw[row, index], index * GRID_S)
