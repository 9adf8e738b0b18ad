"""What an action means: the affine map between the actor's [-1, 1] and a twist in SI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsac_robot.core.robot import Limits
from dsac_robot.core.values import Command, Floats


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


def slew(last: Command, asked: Command, limits: Limits, period_s: float) -> Command:
    """The command nearest to ``asked`` that the limits allow one period after ``last`` was sent.

    Speeds are clipped to the robot's range, changes to its accelerations (``brake_mps2`` is for stops). The stamp is
    that of ``asked``.
    """
    speed = min(max(asked.speed_mps, limits.speed_mps_min), limits.speed_mps_max)
    yaw_rate = min(max(asked.yaw_rate_radps, -limits.yaw_rate_radps_max), limits.yaw_rate_radps_max)
    step = limits.accel_mps2_max * period_s
    turn = limits.yaw_accel_radps2_max * period_s
    return Command(
        asked.stamp_ns,
        min(max(speed, last.speed_mps - step), last.speed_mps + step),
        min(max(yaw_rate, last.yaw_rate_radps - turn), last.yaw_rate_radps + turn),
    )
