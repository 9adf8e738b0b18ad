"""What the guard assumes of the world, looked at step by step with the simulator's truth.

The promise holds if obstacles move no faster than the bound and are seen, and if the robot acts as late as its file
says and then brakes by ``brake_mps2`` at least. A contact counts against the guard unless one of these was broken
within the last ``WINDOW_S`` before it.
"""

from __future__ import annotations

import math
from collections import deque

from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.navigate import CAUSED_MPS
from dsac_robot.core.robot import Robot

WINDOW_S = 1.0  # longer than any stop takes, reaction included
SPEED_SLACK_MPS = 0.05  # the tyres' springing, and the tail of the lag
REST_S = 0.5  # told to stand for so long, a robot that moves at all is being pushed
ASSUMPTIONS = ("braking", "obstacle_speed", "lidar_sees")


class Braking:
    """Whether the robot is no faster than one that answers as its file says and brakes as assumed.

    With commands c(t) sent, such a robot's speed is at most e(t) = max(c over the last ``late_s``, e(t - dt) - b dt),
    forwards and backwards alike. ``late_s``: the guard's period, delay, response delay, and the motors' time constant,
    by which a first-order lag follows a ramp later.
    """

    def __init__(self, robot: Robot, params: GuardParams) -> None:
        actuation = robot.actuation
        late_s = params.period_s + actuation.action_delay_s + actuation.response_delay_s
        late_s += actuation.motor_time_constant_s
        self._sent: deque[float] = deque([0.0], maxlen=math.ceil(late_s / params.period_s - 1e-6) + 1)
        self._fall_mps = robot.limits.brake_mps2 * params.period_s
        self._period_s = params.period_s
        self._high = self._low = self._stood_s = 0.0

    def holds(self, speed_mps: float) -> bool:
        """Whether the speed that the robot has now is within what was assumed."""
        self._high = max(max(self._sent), self._high - self._fall_mps)
        self._low = min(min(self._sent), self._low + self._fall_mps)
        slack = SPEED_SLACK_MPS if self._stood_s < REST_S else CAUSED_MPS
        return self._low - slack <= speed_mps <= self._high + slack

    def sent(self, speed_mps: float) -> None:
        """A command that was sent now."""
        self._sent.append(speed_mps)
        self._stood_s = self._stood_s + self._period_s if speed_mps == 0.0 else 0.0


class Ledger:
    """Counts steps, and those in which an assumption was broken."""

    def __init__(self, period_s: float) -> None:
        self.steps = 0
        self.broken = dict.fromkeys(ASSUMPTIONS, 0)
        self.broken_steps = 0  # steps with any of them broken
        self._period_s, self._last = period_s, -math.inf

    def note(self, braking: bool, obstacle_speed: bool, lidar_sees: bool) -> None:
        """One step; each True where the assumption held."""
        self.steps += 1
        for name, held in zip(ASSUMPTIONS, (braking, obstacle_speed, lidar_sees), strict=True):
            self.broken[name] += not held
        if not (braking and obstacle_speed and lidar_sees):
            self.broken_steps += 1
            self._last = self.steps

    @property
    def held_lately(self) -> bool:
        """Whether all held for the last ``WINDOW_S``."""
        return (self.steps - self._last) * self._period_s > WINDOW_S
