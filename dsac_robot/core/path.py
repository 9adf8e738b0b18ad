"""Where a robot is with respect to a plan: pure geometry of odometry and polyline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dsac_robot.core.kinematics import wrap_angle
from dsac_robot.core.values import Floats, Odom, Plan


@dataclass(frozen=True)
class PathErrors:
    """How a robot deviates from a plan."""

    lateral_m: float  # of its origin, positive left of the path
    heading_rad: float  # against the path's direction there, in [-pi, pi]
    speed_mps: float  # forward speed less the plan's


@dataclass(frozen=True)
class _Legs:
    """The plan's straight pieces."""

    directions: Floats  # (L, 2) unit vectors
    lengths_m: Floats  # (L,)
    begins_m: Floats  # (L,) way along the path at which each begins


@lru_cache(maxsize=16)  # a plan serves a whole episode
def _legs(plan: Plan) -> _Legs:
    steps = np.diff(plan.points_m, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    return _Legs(steps / lengths[:, None], lengths, np.concatenate([[0.0], np.cumsum(lengths)[:-1]]))


def nearest_on(odom: Odom, plan: Plan) -> tuple[int, float]:
    """The leg with the point nearest to the robot, and that point's way along it in metres.

    The first and the last leg go on as straight lines beyond the path's ends, so that errors stay errors of following.
    """
    legs = _legs(plan)
    away = np.array([odom.x_m, odom.y_m]) - plan.points_m[:-1]  # (L, 2)
    raw = np.sum(away * legs.directions, axis=1)
    low, high = np.zeros(len(raw)), legs.lengths_m.copy()
    low[0], high[-1] = -np.inf, np.inf
    along = np.clip(raw, low, high)
    off = away - along[:, None] * legs.directions
    leg = int(np.argmin(np.sum(off * off, axis=1)))
    return leg, float(along[leg])


def path_errors(odom: Odom, plan: Plan) -> PathErrors:
    """The errors of the paper's tracking task (DSAC-T, real-robot experiment): e_y, e_phi, e_v."""
    legs = _legs(plan)
    leg, along = nearest_on(odom, plan)
    dx, dy = (float(d) for d in legs.directions[leg])
    x, y = plan.points_m[leg] + along * legs.directions[leg]
    gap_x, gap_y = odom.x_m - float(x), odom.y_m - float(y)
    side = dx * gap_y - dy * gap_x
    return PathErrors(
        math.copysign(math.hypot(gap_x, gap_y), side),
        wrap_angle(odom.yaw_rad - math.atan2(dy, dx)),
        odom.speed_mps - plan.speed_mps,
    )


def way_left_m(odom: Odom, plan: Plan) -> float:
    """How much of the plan lies ahead of the point nearest to the robot; negative beyond its end."""
    legs = _legs(plan)
    leg, along = nearest_on(odom, plan)
    return float(legs.begins_m[-1] + legs.lengths_m[-1] - legs.begins_m[leg]) - along


def points_ahead(odom: Odom, plan: Plan, ahead_m: Floats) -> Floats:
    """Points of the plan so far along it from the one nearest to the robot, seen from the robot. # (K,) -> (K, 2)"""
    legs = _legs(plan)
    leg, along = nearest_on(odom, plan)
    ways = legs.begins_m[leg] + along + ahead_m  # (K,)
    at = np.clip(np.searchsorted(legs.begins_m, ways, side="right") - 1, 0, len(legs.begins_m) - 1)
    points = plan.points_m[at] + (ways - legs.begins_m[at])[:, None] * legs.directions[at]
    dx, dy = points[:, 0] - odom.x_m, points[:, 1] - odom.y_m
    c, s = math.cos(odom.yaw_rad), math.sin(odom.yaw_rad)
    return np.stack([c * dx + s * dy, c * dy - s * dx], axis=1)
