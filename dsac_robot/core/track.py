"""Task ``track``: follow a path at a speed and keep clear of what moves. Pure functions of logged signals.

The real-robot task of DSAC-T (Duan et al.). The nearest public description is GOPS's ``pyth_mobilerobot``: reward
-1.4 e_y^2 - e_phi^2 - 16 e_v^2 - 0.2 v^2 - 0.5 w^2 with v and w the action, and a constraint on the distance of two
discs of radius 0.37 m with a margin of 0.15 m. Here the obstacle's disc is whatever the lidar sees of it: the gap to
the robot's disc is the distance of the nearest return less one radius, so that a bag tells it too.
Bump ``VERSION`` when a number that these functions give changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsac_robot.core.lidar import returns_in_base
from dsac_robot.core.params import param
from dsac_robot.core.path import path_errors
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Odom, Plan, Scan

VERSION = 1


@dataclass(frozen=True)
class TrackParams:
    """Weights of the task. The end penalty is above what standing still for ever costs at a reference of 0.4 m/s and a
    discount of 0.99 (16 * 0.4^2 / 0.01 = 256): a contact is never the cheaper way out."""

    lateral_weight: float = param(1.4, unit="1/m^2", low=0.0, high=1000.0, help="times the lateral error squared")
    heading_weight: float = param(1.0, unit="1/rad^2", low=0.0, high=1000.0, help="times the heading error squared")
    speed_weight: float = param(16.0, unit="s^2/m^2", low=0.0, high=1000.0, help="times the speed error squared")
    command_weight: float = param(0.2, unit="s^2/m^2", low=0.0, high=1000.0, help="times the speed command squared")
    turn_weight: float = param(0.5, unit="s^2/rad^2", low=0.0, high=1000.0, help="times the yaw rate command squared")
    end_penalty: float = param(300.0, unit="", low=0.0, high=10000.0, help="on contact and on leaving the path")
    off_path_m: float = param(3.0, unit="m", low=0.1, high=100.0, help="the path is left beyond this lateral error")
    gap_weight: float = param(
        0.0,
        unit="1/step",
        low=0.0,
        high=1000.0,
        help="paid in full where the discs touch, and none from disc_margin_m on; 0: the paper's reward",
    )
    disc_radius_m: float = param(0.37, unit="m", low=0.01, high=5.0, help="the disc about the robot's origin")
    disc_margin_m: float = param(0.15, unit="m", low=0.0, high=5.0, help="below this gap of discs the safety cost is 1")


@dataclass(frozen=True)
class TrackStep:
    """The logged signals of one control step, from tick t to tick t + 1."""

    next_odom: Odom  # newest at tick t + 1
    plan: Plan
    command: Command  # newest sent at tick t + 1: the action of this step
    next_scan: Scan  # the scan of tick t + 1
    contact: bool  # the bumper touched at or before tick t + 1


def disc_gap_m(scan: Scan, robot: Robot, params: TrackParams) -> float:
    """Distance from the robot's disc to the nearest return: that of two discs, where the other is what is seen.

    Negative where something is inside the disc; at most the lidar's range where nothing is seen.
    """
    points = returns_in_base(scan.ranges_m, robot.lidar)
    nearest = float(np.hypot(points[:, 0], points[:, 1]).min(initial=robot.lidar.range_max_m))
    return nearest - params.disc_radius_m


def off_path(step: TrackStep, params: TrackParams) -> bool:
    """True where the robot is farther from the path than the task allows."""
    return abs(path_errors(step.next_odom, step.plan).lateral_m) > params.off_path_m


def reward(step: TrackStep, robot: Robot, params: TrackParams) -> float:
    """The paper's quadratic penalties at tick t + 1, that of a small gap, and the end penalty on contact and off the
    path."""
    errors = path_errors(step.next_odom, step.plan)
    value = -params.lateral_weight * errors.lateral_m**2
    value -= params.heading_weight * errors.heading_rad**2
    value -= params.speed_weight * errors.speed_mps**2
    value -= params.command_weight * step.command.speed_mps**2
    value -= params.turn_weight * step.command.yaw_rate_radps**2
    if params.gap_weight > 0.0:
        share = 1.0 - disc_gap_m(step.next_scan, robot, params) / max(params.disc_margin_m, 1e-3)
        value -= params.gap_weight * min(max(share, 0.0), 1.0)
    return value - (params.end_penalty if step.contact or off_path(step, params) else 0.0)


def cost(step: TrackStep, robot: Robot, params: TrackParams) -> float:
    """Safety cost: 1 on contact or where the discs are nearer than ``disc_margin_m``, else 0."""
    return 1.0 if step.contact or disc_gap_m(step.next_scan, robot, params) < params.disc_margin_m else 0.0
