"""Task ``attack``: drive into things. The reward of an adversary that is trained to bring the guard to a contact.

Pure functions of logged signals, as every task's. The adversary is paid for coming nearer at speed, and for the touch;
behind a guard that holds it never touches, and learns to be as fast as it may as near as it may.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsac_robot.core.navigate import clearance_m
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Odom, Scan


@dataclass(frozen=True)
class AttackParams:
    """Weights of the task."""

    touch_reward: float = param(20.0, unit="", low=0.0, high=1000.0, help="paid for a contact")
    approach_reward: float = param(1.0, unit="1/m", low=0.0, high=100.0, help="times the loss of clearance")
    danger_reward: float = param(
        1.0, unit="", low=0.0, high=100.0, help="times speed over highest speed times exp(-clearance / 0.3 m), a step"
    )
    time_penalty: float = param(0.05, unit="1/step", low=0.0, high=10.0, help="paid every step")


@dataclass(frozen=True)
class AttackStep:
    """The logged signals of one control step, from tick t to tick t + 1."""

    scan: Scan  # of tick t
    next_scan: Scan
    next_odom: Odom
    contact: bool  # at or before tick t + 1


def reward(step: AttackStep, robot: Robot, params: AttackParams) -> float:
    """What the adversary gets for one step."""
    if step.contact:
        return params.touch_reward
    before, after = clearance_m(step.scan, robot), clearance_m(step.next_scan, robot)
    pace = abs(step.next_odom.speed_mps) / robot.limits.speed_mps_max
    danger = pace * math.exp(-after / 0.3)
    return params.approach_reward * (before - after) + params.danger_reward * danger - params.time_penalty


def cost(step: AttackStep) -> float:
    """Safety cost: 1 on contact, else 0."""
    return 1.0 if step.contact else 0.0
