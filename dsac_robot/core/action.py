"""What an action means: the affine map between the actor's [-1, 1] and a twist in SI."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.robot import Limits
from dsac_robot.core.values import Floats, Twist


@dataclass(frozen=True)
class ActionMap:
    """Action meaning "twist": (speed m/s, yaw rate rad/s) between ``low`` and ``high``."""

    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def of(cls, limits: Limits) -> ActionMap:
        """The map that spans the robot's command limits."""
        return cls(
            (limits.speed_mps_min, -limits.yaw_rate_radps_max), (limits.speed_mps_max, limits.yaw_rate_radps_max)
        )

    def to_command(self, action: Floats) -> Floats:
        """Twist for normalised actions in [-1, 1]; values outside are clipped. # (..., 2) -> (..., 2)"""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return np.asarray(low + 0.5 * (np.clip(action, -1.0, 1.0) + 1.0) * (high - low))

    def to_action(self, command: Floats) -> Floats:
        """Normalised actions of twists; inverse of ``to_command`` inside the limits. # (..., 2) -> (..., 2)"""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return np.asarray(np.clip(2.0 * (np.asarray(command) - low) / (high - low) - 1.0, -1.0, 1.0))


@dataclass(frozen=True)
class Ramp:
    """Where drive commands stand: the twist sent last, and how fast its two parts were changing.

    The one place that limits the change of drive commands: the guard, the environments and the closed loop without a
    guard all step it. Stops do not: they go down at ``brake_mps2``.
    """

    twist: Twist = (0.0, 0.0)
    rates: Twist = (0.0, 0.0)  # m/s^2, rad/s^2

    def toward(self, asked: Twist, limits: Limits, elapsed_s: float) -> Ramp:
        """The next twist, as near to ``asked`` as the limits allow ``elapsed_s`` after the last.

        Speeds are clipped to the robot's range, their changes to its accelerations (up or down alike), the changes of
        those to its jerks: an acceleration is taken back early enough that the twist ends at what is asked. Where
        something else is asked at once the twist goes on for a moment, but never beyond the robot's range.
        """
        speed = _step(
            (self.twist[0], self.rates[0]),
            min(max(asked[0], limits.speed_mps_min), limits.speed_mps_max),
            (limits.speed_mps_min, limits.speed_mps_max),
            (limits.accel_mps2_max, limits.jerk_mps3_max),
            elapsed_s,
        )
        turn_max = limits.yaw_rate_radps_max
        turn = _step(
            (self.twist[1], self.rates[1]),
            min(max(asked[1], -turn_max), turn_max),
            (-turn_max, turn_max),
            (limits.yaw_accel_radps2_max, limits.yaw_jerk_radps3_max),
            elapsed_s,
        )
        return Ramp((speed[0], turn[0]), (speed[1], turn[1]))


def _step(
    now: tuple[float, float], asked: float, span: tuple[float, float], limits: tuple[float, float], elapsed_s: float
) -> tuple[float, float]:
    """One axis: value and rate ``elapsed_s`` after ``now`` (value and rate). ``limits``: of rate, and of its change.

    In steps of equal length, with q the most by which a step may differ from the one before: the largest first step of
    n falling ones, each shorter by q, that end at a gap g is g / n + q (n - 1) / 2, n the least with q n (n + 1) / 2 >=
    g.
    """
    if elapsed_s <= 0.0:
        return now
    value, rate = now
    most, change = limits[0] * elapsed_s, limits[1] * elapsed_s**2
    gap = asked - value
    count = max(1, math.ceil(0.5 * (math.sqrt(1.0 + 8.0 * abs(gap) / change) - 1.0) - 1e-9))
    wanted = math.copysign(min(abs(gap) / count + 0.5 * change * (count - 1), most), gap)
    step = min(max(wanted, rate * elapsed_s - change), rate * elapsed_s + change)
    step = min(max(step, -most), most)
    if step == gap:  # exactly what is asked, not a digit beside it
        return asked, step / elapsed_s
    after = min(max(value + step, span[0]), span[1])
    return after, (after - value) / elapsed_s
