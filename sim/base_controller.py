"""What the robot's own controller does with commands: the link's delay, wheel speeds, and a ramp to rest in silence."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from dsac_robot.core.kinematics import wheel_speeds
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, ns
from sim.robot_model import TIME_STEP_S

STEP_NS = ns(TIME_STEP_S)


class BaseController:
    """Commands go in with the time at which they were sent; the wheels' set points come out when they change.

    ``robot`` is the machine as it truly is, ``nominal`` what its controller believes of wheel radius and track. ``rng``
    draws the link's jitter; None: there is none.
    """

    def __init__(self, robot: Robot, nominal: Robot, extra_delay_s: float, rng: np.random.Generator | None) -> None:
        self._actuation, self._nominal = robot.actuation, nominal
        self._delay_s = robot.actuation.action_delay_s + extra_delay_s
        self._rng = rng if robot.actuation.delay_jitter_s > 0.0 else None
        self._timeout_ns = ns(robot.actuation.command_timeout_s)
        self._last_ns = -(10**18)  # when it last heard a command
        self._command = (0.0, 0.0)
        self._newest_ns = 0  # a link that takes longer for one command does not let the next one overtake
        self._pending: deque[tuple[int, float, float]] = deque()  # none is due before the one ahead of it

    def send(self, command: Command, now_ns: int) -> None:
        """Take in a command, sent at its stamp. One that is not finite is not heard."""
        delay_s = self._delay_s
        if self._rng is not None:
            delay_s += float(self._rng.uniform(0.0, self._actuation.delay_jitter_s))
        if command.finite:
            self._newest_ns = max(command.stamp_ns + ns(delay_s), now_ns, self._newest_ns)
            self._pending.append((self._newest_ns, command.speed_mps, command.yaw_rate_radps))

    def next_change_ns(self, now_ns: int) -> int:
        """When the set points next change: a pending command, or every step of a timeout's ramp."""
        soonest = self._pending[0][0] if self._pending else now_ns + NS
        if any(self._command):
            silent_from = self._last_ns + self._timeout_ns
            soonest = min(soonest, silent_from if silent_from > now_ns else now_ns + STEP_NS)
        return max(soonest, now_ns + STEP_NS)

    def wheel_speeds_radps(self, now_ns: int) -> tuple[float, float] | None:
        """The left and the right wheels' set points, where they change now."""
        due = bool(self._pending) and self._pending[0][0] <= now_ns
        if not (due or self._silent(now_ns)):
            return None
        while self._pending and self._pending[0][0] <= now_ns:
            self._last_ns, *command = self._pending.popleft()
            self._command = (command[0], command[1])
        if self._silent(now_ns):
            speed, yaw_rate = self._command
            slower = max(0.0, abs(speed) - self._actuation.timeout_brake_mps2 * TIME_STEP_S)
            keep = slower / abs(speed) if abs(speed) > 1e-9 else 0.0
            self._command = (math.copysign(slower, speed) if slower > 0.0 else 0.0, yaw_rate * keep)
        return wheel_speeds(*self._command, self._nominal.base.wheel_radius_m, self._nominal.effective_track_m)

    def _silent(self, now_ns: int) -> bool:
        return now_ns - self._last_ns >= self._timeout_ns and any(self._command)
