"""How the base will move: commands under way, the stop that would be sent, and roll-outs of both. Planar.

The base is modelled as a pure delay and a first-order lag on speed and yaw rate (``robot.actuation``); in a turn it
slides outwards of its heading by an angle proportional to the yaw rate, as a base does that turns by slipping. Time
runs from the stamp of the newest odometry; poses are in the base frame at that stamp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.guard_loops import GRID_S, roll_out_poses
from dsac_robot.core.robot import Limits, Robot
from dsac_robot.core.values import NS, Floats, Indices, Twist


@dataclass(frozen=True)
class Sent:
    """A command that the guard sent, with the time when it did."""

    at_ns: int
    speed_mps: float
    yaw_rate_radps: float


@dataclass(frozen=True, eq=False)
class Motion:
    """How the base follows commands. ``Motion.of`` makes it."""

    limits: Limits
    delay_s: float
    keep: float  # part of a twist that is left after GRID_S
    settle_s: float  # the lag has died out after this
    side_slip_s: float  # the way is this times the yaw rate to the right of the heading
    radius_m: float  # circumradius of the footprint about the base origin

    @classmethod
    def of(cls, robot: Robot) -> Motion:
        """The motion of a robot."""
        tau = robot.actuation.motor_time_constant_s
        keep = math.exp(-GRID_S / tau) if tau > 0.0 else 0.0
        delay = robot.actuation.action_delay_s + robot.actuation.response_delay_s
        radius = float(np.hypot(*robot.footprint.T).max())
        return cls(robot.limits, delay, keep, 4.0 * tau, robot.actuation.side_slip_s, radius)


@dataclass(frozen=True, eq=False)
class Rollout:
    """Sampled poses of K commands, from now until rest; of the k-th command the first ``counts[k]`` count."""

    poses: Floats  # (K, M, 4): x m, y m, yaw rad, time s since the odometry's stamp
    counts: Indices  # (K,)

    @property
    def x_m(self) -> Floats:
        """Of the first command. # (M,)"""
        return self.poses[0, : self.counts[0], 0]

    @property
    def y_m(self) -> Floats:
        """Of the first command. # (M,)"""
        return self.poses[0, : self.counts[0], 1]

    @property
    def length_m(self) -> float:
        """Length of the first command's path, along the sampled poses."""
        way = np.diff(self.poses[0, : self.counts[0], :2], axis=0)
        return float(np.hypot(way[:, 0], way[:, 1]).sum())

    def only(self, index: int) -> Rollout:
        """The roll-out of one of the commands."""
        return Rollout(self.poses[index : index + 1], self.counts[index : index + 1])


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
    acting = np.zeros((steps, 2))
    if not sent:
        return acting
    newest = len(sent) - 1
    for i in range(steps - 1, -1, -1):
        since_s = (i + 0.5) * GRID_S - delay_s
        while newest > 0 and (sent[newest].at_ns - start_ns) / NS > since_s:
            newest -= 1
        acting[i] = sent[newest].speed_mps, sent[newest].yaw_rate_radps
    return acting


def roll_out(commands: Floats, first: Twist, before: Floats, hold_s: float, motion: Motion) -> Rollout:
    """Poses when each command acts for ``hold_s`` and the stop profile follows.

    ``commands`` # (K, 2); ``first`` the measured twist; ``before`` the commands that still act first. # (H, 2)
    """
    stop_s = np.maximum(
        np.abs(commands[:, 0]) / motion.limits.brake_mps2, np.abs(commands[:, 1]) / motion.limits.yaw_accel_radps2_max
    )
    lag = motion.keep, motion.settle_s, motion.side_slip_s, motion.radius_m
    return Rollout(*roll_out_poses(commands, stop_s, (float(first[0]), float(first[1])), before, hold_s, lag))
