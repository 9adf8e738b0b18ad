"""The fallback: where the policy asks only for what is not safe, back off a little along the way the robot came.

It takes over where the guard has held the robot for ``fallback_after_s`` and the robot has not got away, drives back
along the key-frames of the guard's memory (space the robot itself stood in), and hands back. Each time that the robot
is held again at the same place it backs off farther. Its commands pass the same checks as the policy's.
``FallbackPolicy`` is the same controller as a policy: it takes a policy's place wherever one is driven.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dsac_robot.core.guard_geometry import Pose, pose_of
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.history import MissingSampleError
from dsac_robot.core.observation import Observation
from dsac_robot.core.robot import Limits, Robot
from dsac_robot.core.values import Command, Odom, Sample, Twist, ns

AWAY_M = 0.1  # farther from where it was held, the robot is under way again
SAME_PLACE_M = 1.0  # held again so near: it is the same trouble
LOOK_BACK_M = 0.3  # the key-frame to steer back to is at least so far away
STEPS_MAX = 4  # the distance grows with each try, up to so many times the first
TRAIL_STEP_M, TRAIL_MAX = 0.1, 64  # of a FallbackPolicy: how dense and how long the way is that it knows
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


def back_off_command(base: Pose, trail: Sequence[Pose], limits: Limits, params: GuardParams) -> Twist:
    """Backwards on the arc to the newest pose of the trail that lies ``LOOK_BACK_M`` behind; straight back where none
    does."""
    speed = -min(params.fallback_speed_mps, -limits.speed_mps_min)
    c, s = math.cos(base[2]), math.sin(base[2])
    for pose in reversed(trail):
        dx, dy = pose[0] - base[0], pose[1] - base[1]
        x, y = c * dx + s * dy, c * dy - s * dx
        gap = math.hypot(x, y)
        if gap > LOOK_BACK_M and x < 0.0:
            turn = speed * 2.0 * y / gap**2  # the arc that is tangent to the heading and meets (x, y)
            return speed, min(max(turn, -limits.yaw_rate_radps_max), limits.yaw_rate_radps_max)
    return speed, 0.0


class FallbackPolicy:
    """Backs off along the way the robot came, by ``fallback_distance_m``, and stops. Has the interface of a policy.

    Simple enough to be checked by reading: from odometry alone, a constant speed backwards on arcs to where the robot
    stood before, and zero after the distance or after twice the time that it should take.
    """

    observation: Observation | None = None  # it looks at odometry only

    def __init__(self, robot: Robot, params: GuardParams = GuardParams(), period_s: float = 0.1) -> None:
        self._robot, self._params, self._period_ns = robot, params, ns(period_s)
        self.reset()

    def reset(self) -> None:
        """Forget the way and begin anew."""
        self._trail: tuple[Pose, ...] = ()
        self._odom: Odom | None = None
        self._start: Pose | None = None
        self._begun_ns = self._ticked_ns = -1

    def add(self, sample: Sample) -> None:
        """Take in a sample; anything but odometry is of no use here."""
        if not isinstance(sample, Odom):
            return
        self._odom, pose = sample, pose_of(sample)
        if not self._trail or math.dist(self._trail[-1][:2], pose[:2]) >= TRAIL_STEP_M:
            self._trail = (*self._trail, pose)[-TRAIL_MAX:]

    def due(self, scan_stamp_ns: int) -> bool:
        """Whether a scan of this stamp is a tick."""
        return self._ticked_ns < 0 or scan_stamp_ns >= self._ticked_ns + self._period_ns

    def tick(self, scan_stamp_ns: int) -> Command:
        """The command at this tick; the first one begins the backing off. MissingSampleError without odometry."""
        if self._odom is None:
            raise MissingSampleError("no odometry yet: the fallback does not know where it came from")
        self._ticked_ns = scan_stamp_ns
        base = pose_of(self._odom)
        if self._start is None:
            self._start, self._begun_ns = base, scan_stamp_ns
        distance_m, speed_mps = self._params.fallback_distance_m, self._params.fallback_speed_mps
        late = scan_stamp_ns - self._begun_ns >= ns(SLOWNESS * distance_m / speed_mps)
        if late or math.dist(self._start[:2], base[:2]) >= distance_m:
            return Command(scan_stamp_ns, 0.0, 0.0)
        return Command(scan_stamp_ns, *back_off_command(base, self._trail, self._robot.limits, self._params))
