"""The fallback: where the policy asks only for what is not safe, back off a little along the way the robot came.

It takes over where the guard has held the robot for ``fallback_after_s`` and the robot has not got away, drives back
along the key-frames of the guard's memory (space the robot itself stood in), and hands back. Each time that the robot
is held again at the same place it backs off farther. Its commands pass the same checks as the policy's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dsac_robot.core.guard_geometry import Pose
from dsac_robot.core.guard_memory import Memory
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.robot import Limits
from dsac_robot.core.values import Twist

AWAY_M = 0.1  # farther from where it was held, the robot is under way again
SAME_PLACE_M = 1.0  # held again so near: it is the same trouble
LOOK_BACK_M = 0.3  # the key-frame to steer back to is at least so far away
STEPS_MAX = 4  # the distance grows with each try, up to so many times the first
SLOWNESS = 2.0  # gives up after so many times the time that the distance should take


@dataclass(frozen=True)
class BackOff:
    """One backing off under way."""

    start: Pose  # odom frame
    distance_m: float
    left_s: float


@dataclass(frozen=True)
class Fallback:
    """How long the robot has been held, where, how often it was at about this place, and the backing off under way."""

    anchor: Pose | None = None  # odom frame
    held_s: float = 0.0
    place: Pose | None = None  # of the last backing off
    tries: int = 0
    under_way: BackOff | None = None

    def held(self, base: Pose, elapsed_s: float, held: bool, params: GuardParams) -> Fallback:
        """After a period in which the policy drove; ``held``: the guard did not let the robot do what it asked."""
        if self.anchor is None or math.dist(self.anchor[:2], base[:2]) > AWAY_M:
            return replace(self, anchor=base, held_s=0.0, under_way=None)
        held_s = self.held_s + (elapsed_s if held else 0.0)
        if params.fallback_after_s <= 0.0 or held_s < params.fallback_after_s:
            return replace(self, held_s=held_s, under_way=None)
        again = self.place is not None and math.dist(self.place[:2], base[:2]) < SAME_PLACE_M
        tries = min(self.tries + 1, STEPS_MAX) if again else 1
        distance = tries * params.fallback_distance_m
        left_s = SLOWNESS * distance / params.fallback_speed_mps
        return Fallback(base, 0.0, base, tries, BackOff(base, distance, left_s))

    def over(self) -> Fallback:
        """The backing off has ended, for whatever reason."""
        return replace(self, anchor=None, held_s=0.0, under_way=None)

    def step(self, base: Pose, elapsed_s: float) -> Fallback:
        """One period of backing off; over when it has gone far enough or takes too long."""
        now = self.under_way
        if now is None or now.left_s <= 0.0 or math.dist(now.start[:2], base[:2]) >= now.distance_m:
            return self.over()
        return replace(self, under_way=replace(now, left_s=now.left_s - elapsed_s))


def back_off_command(base: Pose, memory: Memory, limits: Limits, params: GuardParams) -> Twist:
    """Backwards on the arc to the newest key-frame that lies ``LOOK_BACK_M`` behind; straight back where none does."""
    speed = -min(params.fallback_speed_mps, -limits.speed_mps_min)
    c, s = math.cos(base[2]), math.sin(base[2])
    for frame in reversed(memory.frames):
        dx, dy = frame.pose[0] - base[0], frame.pose[1] - base[1]
        x, y = c * dx + s * dy, c * dy - s * dx
        gap = math.hypot(x, y)
        if gap > LOOK_BACK_M and x < 0.0:
            turn = speed * 2.0 * y / gap**2  # the arc that is tangent to the heading and meets (x, y)
            return speed, min(max(turn, -limits.yaw_rate_radps_max), limits.yaw_rate_radps_max)
    return speed, 0.0
