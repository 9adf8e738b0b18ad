"""Docking: for a short time, near where it was asked for, the robot may go slowly nearer to things than elsewhere.

The operator asks by ``~/dock``. It ends by itself after ``docking_s``, farther than ``docking_radius_m`` from where it
began, at any fault, stop or latch, and when the operator says so; then only a new call begins it anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dsac_robot.core.guard_geometry import Pose
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.values import NS, ns


@dataclass(frozen=True)
class Docking:
    """A docking under way: until when, and where it began."""

    until_ns: int
    start: Pose  # odom frame

    def left_s(self, now_ns: int) -> float:
        """Time until it ends by itself."""
        return (self.until_ns - now_ns) / NS


def docking_params(params: GuardParams) -> GuardParams:
    """The limits of clearance while docking. Obstacles are taken to stand still: the operator vouches for that."""
    return replace(params, margin_m=min(params.margin_m, params.docking_margin_m), obstacle_speed_mps_max=0.0)


def docking_now(docking: Docking | None, inp: GuardInput, base: Pose | None, params: GuardParams) -> Docking | None:
    """The docking of this step. ``base`` is None where the robot's pose is not known for sure, which ends it.

    A call while one is under way does not prolong it.
    """
    if base is None or inp.dock is False or not inp.enabled:
        return None
    if docking is None:
        return Docking(inp.now_ns + ns(params.docking_s), base) if inp.dock else None
    gone = math.dist(docking.start[:2], base[:2]) > params.docking_radius_m
    began_ns = docking.until_ns - ns(params.docking_s)
    return docking if began_ns <= inp.now_ns < docking.until_ns and not gone else None


def docking_after(docking: Docking | None, decision: Decision) -> Docking | None:
    """What is left of it after a decision: nothing after a stop, but for one because the way is blocked."""
    blocked = decision.level == Level.STOP and decision.reason == Reason.NO_SAFE_COMMAND
    return docking if decision.level < Level.STOP or blocked else None
