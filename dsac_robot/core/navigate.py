"""Task ``navigate``: reach a goal through clutter. Reward, safety cost and end as pure functions of logged signals.

The simulator and the bag relabeller call the same functions with the same values, so that a recorded drive gives the
simulator's own rewards. Bump ``VERSION`` when a number that they give changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.geometry import half_planes, nearest_distance, outward_distance
from dsac_robot.core.lidar import nearest_m, nearest_returns
from dsac_robot.core.memo import by_identity
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Floats, Goal, Odom, Scan

VERSION = 1
CAUSED_MPS = 0.02  # DESIGN section 10: a contact is caused when the robot's speed at the touch is above this


@dataclass(frozen=True)
class NavigateParams:
    """Weights of the task."""

    goal_tolerance_m: float = param(0.5, unit="m", low=0.01, high=10.0, help="the goal is reached within this distance")
    time_penalty: float = param(0.05, unit="1/step", low=0.0, high=10.0, help="paid every step")
    smooth_penalty: float = param(0.03, unit="", low=0.0, high=10.0, help="times |change of command| over its range")
    clearance_penalty: float = param(0.15, unit="1/step", low=0.0, high=10.0, help="paid in full at zero clearance")
    clearance_m: float = param(0.15, unit="m", low=0.0, high=5.0, help="below this clearance the penalty grows")
    cost_clearance_m: float = param(0.05, unit="m", low=0.0, high=5.0, help="below this clearance the safety cost is 1")
    end_reward: float = param(10.0, unit="", low=0.0, high=1000.0, help="at the goal; its negative on contact")


@dataclass(frozen=True)
class Step:
    """The logged signals of one control step, from tick t to tick t + 1."""

    odom: Odom  # newest at tick t
    next_odom: Odom  # newest at tick t + 1
    goal: Goal
    last_command: Command  # newest sent at tick t
    command: Command  # newest sent at tick t + 1: the action of this step
    next_scan: Scan  # the scan of tick t + 1
    contact: bool  # the bumper touched at or before tick t + 1


def goal_distance_m(odom: Odom, goal: Goal) -> float:
    """Distance of the robot's origin to the goal."""
    return math.hypot(goal.x_m - odom.x_m, goal.y_m - odom.y_m)


@by_identity(8)  # reward and cost both ask
def clearance_m(scan: Scan, robot: Robot) -> float:
    """Least distance of a lidar return to the footprint (at least 0; range_max_m where nothing is seen)."""
    outline, planes, spread_m = _outline(robot)
    points = nearest_returns(scan, robot.lidar, spread_m)
    if len(points) == 0:
        return robot.lidar.range_max_m
    return max(0.0, nearest_distance(points, outline, planes))


def _closeness(scan: Scan, robot: Robot, within_m: float) -> float:
    """1 at no clearance, 0 at ``within_m`` and above. Only where a return is near is the outline looked at."""
    if within_m <= 0.0 or nearest_m(scan, robot.lidar) > within_m + _outline(robot)[2]:
        return 0.0
    return max(0.0, 1.0 - clearance_m(scan, robot) / within_m)


@by_identity(8)
def _outline(robot: Robot) -> tuple[Floats, tuple[Floats, Floats], float]:
    """The footprint, its half planes, and a length: of two returns, one whose range is longer by more than that is not
    the nearer one to the footprint."""
    outline = robot.footprint
    sensor = np.array([[robot.lidar.x_m, robot.lidar.y_m]])
    farthest = float(np.hypot(*(outline - sensor).T).max())
    outside = max(0.0, float(outward_distance(sensor, outline)[0]))
    return outline, half_planes(outline), farthest + outside + 1e-3


def reached(step: Step, params: NavigateParams) -> bool:
    """True where the goal is within tolerance at tick t + 1."""
    return goal_distance_m(step.next_odom, step.goal) < params.goal_tolerance_m


def reward(step: Step, robot: Robot, params: NavigateParams) -> float:
    """Progress towards the goal in metres, less time, jerkiness and closeness, and the end reward."""
    if step.contact:
        return -params.end_reward
    limits = robot.limits
    change = abs(step.command.speed_mps - step.last_command.speed_mps) / (limits.speed_mps_max - limits.speed_mps_min)
    change += abs(step.command.yaw_rate_radps - step.last_command.yaw_rate_radps) / (2.0 * limits.yaw_rate_radps_max)
    closeness = _closeness(step.next_scan, robot, params.clearance_m)
    value = goal_distance_m(step.odom, step.goal) - goal_distance_m(step.next_odom, step.goal)
    value -= params.time_penalty + params.smooth_penalty * change + params.clearance_penalty * closeness
    return value + (params.end_reward if reached(step, params) else 0.0)


def cost(step: Step, robot: Robot, params: NavigateParams) -> float:
    """Safety cost: 1 on contact or below ``cost_clearance_m``, else 0."""
    near = step.contact or _closeness(step.next_scan, robot, params.cost_clearance_m) > 0.0
    return 1.0 if near else 0.0
