"""Whether a command is safe, and which one is the nearest that is. Passive safety by roll-out; see DESIGN section 10.

A command passes if, rolled on for the reaction time and then stopped along its arc, the outline gets to no return
nearer than the margin (plus how far obstacles may have moved by then), and enters no space that was not seen free.
Where the stop itself already comes nearer than that to some return, a command may come as near to it, but no nearer:
so that a robot at rest inside a margin may do what takes no return nearer, and nothing else. That is for the margin
alone: a command by which an obstacle that moves at the bound could meet the robot before it rests never passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dsac_robot.core.guard_geometry import (
    Outline,
    Pose,
    boundary_points,
    clearances,
    from_frame,
    to_frame,
    within_reach,
)
from dsac_robot.core.guard_inputs import Numbers
from dsac_robot.core.guard_memory import BODY_M, Mask, Memory, View, hidden_points, seen_free
from dsac_robot.core.guard_motion import REST_MPS, Motion, Rollout, roll_out, stop_step
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Floats, Twist

TIE_M = 2e-5  # rounding in "no nearer than the stop"
SPEED_PARTS = np.array([1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0])  # of the way from the stop's speed to the asked one
TURN_PARTS = np.array(
    [0.0, 1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0, -2.0 / 3.0, 1.0, -1.0]
)  # of the reachable change of yaw rate
TURN_COST = 1.2  # a full change of yaw rate against a full change of speed: slowing down on the arc is preferred
FLIP_COST = 0.5  # against turning back and forth
START_YAW_RATE_RADPS = 0.5  # the turning counterpart of start_speed_mps
CREEP_MPS = 1.5 * REST_MPS  # of the fastest corner
STILL_MPS, STILL_RADPS = 0.01, 0.03  # a slower motion is none
UNSEEN_TRIES = 6  # candidates tried against unseen space, each costing a look-up


@dataclass(frozen=True, eq=False)
class Situation:
    """What a check needs to know: where things are, what the base does now and what it was told."""

    motion: Motion
    period_s: float

    now_ns: int
    odom_ns: int
    base: Pose  # odom frame, at odom_ns
    twist: Twist  # measured
    last: Twist  # sent last
    elapsed_s: float  # since then
    before: Floats  # (H, 2) commands that still act first
    points: Floats  # (N, 2) returns, base frame at odom_ns
    view: View
    memory: Memory

    @cached_property
    def stop_roll(self) -> Rollout:
        """The roll-out of stopping now."""
        stop = stop_step(self.last, max(self.elapsed_s, self.period_s), self.motion.limits)
        return roll_out(np.array([stop]), self.twist, self.before, self.period_s, self.motion)


@dataclass(frozen=True)
class Choice:
    """The command to send, and why it is not the asked one."""

    twist: Twist
    level: Level
    reason: Reason
    numbers: Numbers


@dataclass(frozen=True, eq=False)
class Checker:
    """The check's fixed parts. ``Checker.of`` makes it."""

    params: GuardParams
    robot: Robot
    outline: Outline
    motion: Motion
    hold_s: float

    @classmethod
    def of(cls, params: GuardParams, robot: Robot) -> Checker:
        """The checker of a robot."""
        limits = robot.limits
        delay = robot.actuation.action_delay_s + robot.actuation.response_delay_s
        hold = max(params.period_s, params.reaction_s - robot.actuation.action_delay_s)
        stop = max(
            max(limits.speed_mps_max, -limits.speed_mps_min) / limits.brake_mps2,
            limits.yaw_rate_radps_max / limits.yaw_accel_radps2_max,
        )
        horizon = params.odom_timeout_s + delay + hold + stop + 0.1
        return cls(params, robot, Outline.of(robot.footprint), Motion.of(robot, horizon), hold)

    @property
    def look_m(self) -> float:
        """No return farther from the base than this matters to any check."""
        limits, params = self.robot.limits, self.params
        time = len(self.motion.decay) * 0.02
        speed = max(limits.speed_mps_max, -limits.speed_mps_min)
        travel = speed * (time - 0.5 * speed / limits.brake_mps2)
        return self.outline.radius_m + travel + params.margin_m + params.obstacle_speed_mps_max * (time + 0.2)

    def points(self, view: View, memory: Memory, base: Pose) -> Floats:
        """All returns that count, seen now or remembered behind the robot, in the base frame. # -> (N, 2)"""
        relative = from_frame(np.array([view.pose[:2]]), base)[0]
        seen = to_frame(view.returns, (float(relative[0]), float(relative[1]), view.pose[2] - base[2]))
        hidden = hidden_points(memory, view, base, self.look_m, self.robot.lidar)
        return np.concatenate([seen, from_frame(hidden, base)]) if len(hidden) else seen

    def rolled(self, commands: Floats, at: Situation) -> Rollout:
        """The commands' roll-outs. # (K, 2)"""
        return roll_out(self.probe(commands, at), at.twist, at.before, self.hold_s, self.motion)

    def inflation_m(self, rollout: Rollout, at: Situation) -> Floats:
        """Distance to keep at each pose. # (K, M)"""
        params = self.params
        age = rollout.moving_s + (at.odom_ns - at.view.stamp_ns) / NS
        return np.asarray(params.margin_m + params.obstacle_speed_mps_max * np.maximum(age, 0.0))

    def clear(self, rollout: Rollout, at: Situation) -> tuple[Mask, float]:
        """Which of the commands keep their distance, and the first one's least clearance. # -> (K,)"""
        wanted = self.inflation_m(rollout, at)
        reach = self.outline.radius_m + float(wanted.max())
        near = within_reach(rollout, at.points, reach)
        if len(near) == 0:
            return np.ones(len(wanted), bool), float(wanted.max())
        signed = clearances(rollout, near, self.outline)  # (K, M, N)
        short = signed < wanted[..., None]
        least = float(signed[0].min())
        if not short.any():
            return np.ones(len(wanted), bool), least
        bad = np.flatnonzero(short.any(axis=(0, 1)))  # (n,) points that any command comes near to
        floor = clearances(at.stop_roll, near[bad], self.outline)[0].min(axis=0) - TIE_M  # (n,)
        nearer = signed[:, :, bad] < floor
        if self.params.obstacle_speed_mps_max > 0.0:  # what moves may have come so far: at rest before it is there
            nearer |= signed[:, :, bad] < wanted[..., None] - self.params.margin_m
        return ~(short[:, :, bad] & nearer).any(axis=(1, 2)), least

    def seen(self, rollout: Rollout, at: Situation) -> bool:
        """Whether the first command's swept area was all seen free."""
        points = boundary_points(rollout, self.outline)
        points = points[self.outline.clearance_m(points) > BODY_M]
        if len(points) == 0:
            return True
        world = to_frame(points, at.base)
        bound = self.params.unseen_speed_mps_max
        free = seen_free(at.memory, at.view, world, at.now_ns, self.outline, self.robot.lidar, bound)
        return bool(free.all())

    def probe(self, commands: Floats, at: Situation) -> Floats:
        """The commands as checked: from rest, at least at the start speed; under way, at least at a speed that a
        roll-out does not take for rest, or a robot could creep anywhere. # (K, 2)"""
        if at.last != (0.0, 0.0):
            corner = np.abs(commands[:, 0]) + self.outline.radius_m * np.abs(commands[:, 1])
            slow = (corner > 0.0) & (corner < CREEP_MPS)
            return commands * np.where(slow, CREEP_MPS / np.maximum(corner, 1e-12), 1.0)[:, None]
        driving = np.abs(commands[:, 0]) > 1e-3
        by_speed = np.abs(commands[:, 0]) / max(self.params.start_speed_mps, 1e-6)
        part = np.maximum(np.where(driving, by_speed, np.abs(commands[:, 1]) / START_YAW_RATE_RADPS), 1e-6)
        probed = commands * np.maximum(1.0, 1.0 / part)[:, None]
        limits = self.robot.limits
        probed[:, 0] = np.clip(probed[:, 0], limits.speed_mps_min, limits.speed_mps_max)
        probed[:, 1] = np.clip(probed[:, 1], -limits.yaw_rate_radps_max, limits.yaw_rate_radps_max)
        return np.asarray(probed)

    def choose(self, target: Twist, limited: Twist, at: Situation) -> Choice:
        """``limited`` (the target within the rate limits) if it is safe, else the nearest safe command, else a stop."""
        if is_still(target) and is_still(at.last) and is_still(at.twist):
            return Choice((0.0, 0.0), Level.DRIVE, Reason.NONE, ())
        rollout = self.rolled(np.array([limited]), at)
        clear, least = self.clear(rollout, at)
        numbers: Numbers = (("clearance_m", least), ("stop_distance_m", rollout.length_m))
        seen = bool(clear[0]) and self.seen(rollout, at)
        if seen:
            return Choice(limited, Level.DRIVE, Reason.NONE, numbers)
        reason = Reason.UNSEEN_SPACE if clear[0] else Reason.CLEARANCE
        found = self.search(target, limited, at)
        if found is not None:
            return Choice(found, Level.LIMITED, reason, numbers)
        stop = stop_step(at.last, at.elapsed_s, self.robot.limits)
        rolled = at.stop_roll
        wanted = self.inflation_m(rolled, at)
        near = within_reach(rolled, at.points, self.outline.radius_m + float(wanted.max()))
        braking = not is_still(at.last) and not bool((clearances(rolled, near, self.outline) < wanted[..., None]).any())
        if braking:  # the stop is what keeps the distance: it ends where it should
            return Choice(stop, Level.LIMITED, reason, numbers)
        return Choice(stop, Level.STOP, Reason.NO_SAFE_COMMAND, numbers)

    def search(self, target: Twist, limited: Twist, at: Situation) -> Twist | None:
        """The nearest safe command that the rate limits permit, or None where only a stop is left."""
        commands, cost = candidates(target, limited, at, self.robot)
        if len(commands) == 0:
            return None
        rollout = self.rolled(commands, at)
        clear, _ = self.clear(rollout, at)
        best = [int(i) for i in np.argsort(cost, kind="stable") if clear[i]]
        for index in best[:UNSEEN_TRIES]:
            if self.seen(rollout.only(index), at):
                return float(commands[index, 0]), float(commands[index, 1])
        return None


def is_still(twist: Twist) -> bool:
    """Whether a twist is too small to be called a motion."""
    return abs(twist[0]) < STILL_MPS and abs(twist[1]) < STILL_RADPS


def candidates(target: Twist, limited: Twist, at: Situation, robot: Robot) -> tuple[Floats, Floats]:
    """Commands between the asked one and the stop, also with other yaw rates, and their costs. # (K, 2), (K,)"""
    limits = robot.limits
    stop = stop_step(at.last, at.elapsed_s, limits)
    turn_step = limits.yaw_accel_radps2_max * at.elapsed_s
    speeds = stop[0] + SPEED_PARTS * (limited[0] - stop[0])
    if abs(target[0]) > 0.05:
        arc = speeds * (target[1] / target[0])
    else:
        arc = np.full(len(speeds), limited[1])
    low = max(at.last[1] - turn_step, -limits.yaw_rate_radps_max)
    high = min(at.last[1] + turn_step, limits.yaw_rate_radps_max)
    arc = np.clip(arc, low, high)
    turns = np.clip(arc[:, None] + TURN_PARTS * turn_step, low, high)  # (S, W)
    speed_cost = np.abs(SPEED_PARTS - 1.0)
    cost = speed_cost[:, None] + TURN_COST * np.abs(turns - arc[:, None]) / max(turn_step, 1e-9)
    cost = cost + FLIP_COST * (turns * at.last[1] < -1e-4)
    commands = np.stack([np.broadcast_to(speeds[:, None], turns.shape), turns], axis=-1).reshape(-1, 2)
    least = min(STILL_MPS, 0.1 * limits.accel_mps2_max * at.elapsed_s), min(STILL_RADPS, 0.1 * turn_step)
    moving = (np.abs(commands) > np.array(least)).any(axis=1)
    # Turning on the spot is no substitute for driving: only as far as asked, or the robot would sway before a wall.
    spot, turn = np.abs(commands[:, 0]) <= least[0], commands[:, 1]
    moving &= ~(spot & ((turn * target[1] <= 0.0) | (np.abs(turn) > abs(target[1]))))
    return commands[moving], cost.ravel()[moving]
