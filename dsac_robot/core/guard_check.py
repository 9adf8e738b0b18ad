"""Whether a command is safe, and which one is the nearest that is. Passive safety by roll-out; see DESIGN section 10.

A command passes if, rolled on for the reaction time and then stopped along its arc, the outline gets to no return
nearer than the margin (more at speed, plus how far obstacles may have moved by then), and enters no space that was not
seen free. Where the stop itself already comes nearer than that to some return, a command may come as near to it, but no
nearer, and the slower the less of the margin is left: so that a robot at rest inside a margin may do what takes no
return nearer, and so that a moving one does not use up the margin by the errors of one roll-out after the other. That
is for the margin alone: a command by which an obstacle that moves at the bound could meet the robot before it rests
never passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dsac_robot.core.guard_geometry import Outline, Pose
from dsac_robot.core.guard_inputs import Numbers
from dsac_robot.core.guard_loops import REST_MPS, keep_clear, near_discs, nearest_disc
from dsac_robot.core.guard_memory import Known, Memory, View, eye_of, read_scan, remember, seen_free, with_slip
from dsac_robot.core.guard_motion import Motion, Rollout, roll_out, stop_step
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.lidar import Mask
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Floats, Scan, Twist

SPEED_PARTS = np.array([1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0])  # of the way from the stop's speed to the asked one
TURN_PARTS = np.array(
    [0.0, 1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0, -2.0 / 3.0, 1.0, -1.0]
)  # of the reachable change of yaw rate
TURN_COST = 1.2  # a full change of yaw rate against a full change of speed: slowing down on the arc is preferred
FLIP_COST = 0.5  # against turning back and forth
START_YAW_RATE_RADPS = 0.5  # the turning counterpart of start_speed_mps
CREEP_MPS = 1.5 * REST_MPS  # of the fastest corner
ESCAPE_MPS = 0.3  # of the fastest corner: for what is allowed only because the stop is no better
STILL_MPS, STILL_RADPS = 0.01, 0.03  # a slower motion is none
UNSEEN_TRIES = 6  # candidates tried against unseen space, each costing a look-up


@dataclass(frozen=True, eq=False)
class Situation:
    """What a check needs to know: where things are, what the base does now and what it was told."""

    checker: Checker
    now_ns: int
    odom_ns: int
    base: Pose  # odom frame, at odom_ns
    twist: Twist  # measured
    last: Twist  # sent last
    elapsed_s: float  # since then
    before: Floats  # (H, 2) commands that still act first
    view: View
    memory: Memory

    @cached_property
    def stop_roll(self) -> Rollout:
        """The roll-out of stopping now."""
        motion, period_s = self.checker.motion, self.checker.params.period_s
        stop = stop_step(self.last, max(self.elapsed_s, period_s), motion.limits)
        return roll_out(np.array([stop]), self.twist, self.before, period_s, motion)

    @cached_property
    def known(self) -> Known:
        """What was seen free and still counts."""
        outline, lidar = self.checker.outline, self.checker.robot.lidar
        params = self.checker.params
        speeds = params.unseen_speed_mps_max, params.obstacle_speed_mps_max
        return Known.of(self.memory, self.view, self.now_ns, outline, lidar, *speeds)


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
        hold = max(params.period_s, params.reaction_s - robot.actuation.action_delay_s)
        return cls(params, robot, Outline.of(robot.footprint), Motion.of(robot), hold)

    def rolled(self, commands: Floats, at: Situation) -> Rollout:
        """The commands' roll-outs. # (K, 2)"""
        return roll_out(self.probe(commands, at), at.twist, at.before, self.hold_s, self.motion)

    def corner_mps(self, commands: Floats) -> Floats:
        """Speed of the fastest corner of the outline, at most. # (K, 2) -> (K,)"""
        return np.asarray(np.abs(commands[:, 0]) + self.outline.radius_m * np.abs(commands[:, 1]))

    def keeps(self, commands: Floats, at: Situation) -> tuple[Floats, float, float]:
        """Distance that each command keeps from what stands still; its growth with time, and the scan's age. # (K,)"""
        age_s = (at.odom_ns - at.view.stamp_ns) / NS
        margins = self.params.margin_m + self.params.margin_s * self.corner_mps(commands)
        return margins, float(self.params.obstacle_speed_mps_max), age_s

    def near(self, keeps: tuple[Floats, float, float], rollout: Rollout, at: Situation) -> Floats:
        """The returns to which the distance may not be kept, seen now or remembered where the newest scan does not
        look, as discs in the base frame: x, y, and by how much odometry may have slipped since. # -> (N, 3)"""
        view, eye = at.view, eye_of(at.view.pose, self.robot.lidar)
        frames = np.array(at.base), view.returns, np.array(view.pose), eye
        old = at.memory.points, np.array(view.slip)
        return near_discs(rollout.poses, rollout.counts, *keeps, self.outline.radius_m, *frames, view.free_m, *old)

    def nearest(self, command: Floats, rollout: Rollout, at: Situation) -> tuple[float, float]:
        """Of one command: the least clearance, and the least less what is to be kept (negative: too near). # (1, 2)"""
        margins, growth, age_s = keeps = self.keeps(command, at)
        near = self.near(keeps, rollout, at)
        shape = self.outline.planes, float(margins[0])
        return nearest_disc(rollout.poses[0], rollout.counts[0], near, *shape, growth, age_s)

    def clear(self, commands: Floats, rollout: Rollout, at: Situation) -> Mask:
        """Which of the commands keep their distance. # (K, 2) -> (K,)"""
        keeps, stop = self.keeps(commands, at), at.stop_roll
        fastest = np.maximum(self.corner_mps(commands), self.corner_mps(np.array([at.twist])))
        limits = self.robot.limits
        most = max(limits.speed_mps_max, -limits.speed_mps_min) + self.outline.radius_m * limits.yaw_rate_radps_max
        slowness = np.clip((fastest - ESCAPE_MPS) / max(most - ESCAPE_MPS, 1e-9), 0.0, 1.0)
        stop_poses = stop.poses[0, : stop.counts[0]]
        outline = self.outline.planes, self.outline.radius_m
        near = self.near(keeps, rollout, at)
        return keep_clear(rollout.poses, rollout.counts, *keeps, slowness, stop_poses, near, *outline)

    def seen(self, rollout: Rollout, at: Situation) -> bool:
        """Whether the first command's swept area was all seen free."""
        return seen_free(rollout.poses[0, : rollout.counts[0]], at.base, at.known, self.outline)

    def probe(self, commands: Floats, at: Situation) -> Floats:
        """The commands as checked: from rest, at least at the start speed; under way, at least at a speed that a
        roll-out does not take for rest, or a robot could creep anywhere. # (K, 2)"""
        if at.last != (0.0, 0.0):
            corner = self.corner_mps(commands)
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
        asked = np.array([limited])
        rollout = self.rolled(asked, at)
        least, short = self.nearest(asked, rollout, at)
        numbers: Numbers = (("clearance_m", least), ("stop_distance_m", rollout.length_m))
        clear = short >= 0.0 or bool(self.clear(asked, rollout, at)[0])
        if clear and self.seen(rollout, at):
            return Choice(limited, Level.DRIVE, Reason.NONE, numbers)
        reason = Reason.UNSEEN_SPACE if clear else Reason.CLEARANCE
        found = self.search(target, limited, at)
        if found is not None:
            return Choice(found, Level.LIMITED, reason, numbers)
        stop = stop_step(at.last, at.elapsed_s, self.robot.limits)
        stops_clear = not is_still(at.last) and self.nearest(np.array([stop]), at.stop_roll, at)[1] >= 0.0
        if stops_clear:  # the stop is what keeps the distance: it ends where it should
            return Choice(stop, Level.LIMITED, reason, numbers)
        return Choice(stop, Level.STOP, Reason.NO_SAFE_COMMAND, numbers)

    def search(self, target: Twist, limited: Twist, at: Situation) -> Twist | None:
        """The nearest safe command that the rate limits permit, or None where only a stop is left."""
        commands, cost = candidates(target, limited, at, self.robot)
        if len(commands) == 0:
            return None
        rollout = self.rolled(commands, at)
        clear = self.clear(commands, rollout, at)
        best = [int(i) for i in np.argsort(cost, kind="stable") if clear[i]]
        for index in best[:UNSEEN_TRIES]:
            if self.seen(rollout.only(index), at):
                return float(commands[index, 0]), float(commands[index, 1])
        return None


def compile_loops(checker: Checker) -> None:
    """Call once each loop that a check runs, so that none is compiled while the robot drives (it takes seconds)."""
    lidar, memory = checker.robot.lidar, Memory()
    ranges = np.full(lidar.beams, 0.5 * lidar.range_max_m, np.float32)
    scan = Scan(0, ranges, lidar.angle_min_rad, lidar.angle_increment_rad)
    before = None
    for x_m in (0.0, 1.0):
        view = with_slip(read_scan(scan, lidar, (x_m, 0.0, 0.0), x_m), memory, lidar)
        memory, before = remember(memory, before, view, lidar), view
    rest = 0.0, 0.0
    at = Situation(checker, 0, 0, (1.0, 0.0, 0.0), rest, rest, 0.0, np.zeros((1, 2)), view, memory)
    commands = np.array([[0.1, 0.1]])
    rollout = checker.rolled(commands, at)
    checker.nearest(commands, rollout, at)
    checker.clear(commands, rollout, at)
    checker.seen(rollout, at)


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
