"""What a peer's planner is given at a tick, and how it looks ahead in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.guard_geometry import Outline, Pose
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Floats
from sim.peers.cost_to_go import CostToGo
from sim.peers.rolling_map import CELL_M, DistanceMap

OUTLINE_SPACING_M = 0.12  # BARN's cylinders are 0.15 m thick
OUT_OF_MARGIN_M = 0.005  # a robot inside its margin may creep if it comes no nearer than so
CREEP_MPS = 0.4


@dataclass(frozen=True, eq=False)
class Body:
    """The robot as the planners see it."""

    robot: Robot
    outline_m: Floats  # (Q, 2) points on the outline, base frame
    inscribed_m: float  # radius of the largest disc about the base's origin inside the outline

    @classmethod
    def of(cls, robot: Robot) -> Body:
        """From the robot's description."""
        outline = Outline.of(robot.footprint, OUTLINE_SPACING_M)
        return cls(robot, outline.boundary, float(outline.planes[:, 2].min()))


@dataclass(frozen=True, eq=False)
class Situation:
    """One tick. All in the odom frame, at the time when a command that is given now will act."""

    pose: Pose
    speed_mps: float  # as last commanded
    yaw_rate_radps: float
    goal_m: tuple[float, float]
    distance_m: DistanceMap  # (I, J) from the cells of the rolling map to what is occupied
    low_m: Floats  # (2,) centre of its first cell
    way: CostToGo
    body: Body

    def clearance_m(self, poses: Floats) -> Floats:
        """Distance of the outline to the nearest occupied cell, at most 0.6 m; by points on the outline.

        # (..., 3): x, y, yaw -> (...)
        """
        # in cells, and in single precision to be fast
        poses = ((poses - (*self.low_m, 0.0)) * (1 / CELL_M, 1 / CELL_M, 1.0)).astype(np.float32)
        x, y = (self.body.outline_m.T / CELL_M).astype(np.float32)
        cos, sin = np.cos(poses[..., 2:]), np.sin(poses[..., 2:])
        i = np.rint(poses[..., :1] + cos * x - sin * y).astype(np.int32)
        j = np.rint(poses[..., 1:2] + sin * x + cos * y).astype(np.int32)
        last = len(self.distance_m) - 1  # beyond the border as at it
        found = self.distance_m[np.minimum(np.maximum(i, 0), last), np.minimum(np.maximum(j, 0), last)]
        return np.asarray(found.min(axis=-1), dtype=np.float64)

    def margin_m(self, wanted_m: float, growth_s: float, speeds_mps: Floats) -> Floats:
        """Clearance to keep at each speed: ``wanted_m`` and so much more the faster; less for a robot that is inside
        it already and creeps out. # (...) -> (...)"""
        speeds = np.abs(speeds_mps)
        creeping = max(0.0, float(self.clearance_m(np.array(self.pose))) - OUT_OF_MARGIN_M)
        wanted = wanted_m + growth_s * speeds
        return np.asarray(np.where(speeds <= CREEP_MPS, np.minimum(wanted, creeping), wanted))


def arcs(pose: Pose, speeds_mps: Floats, yaw_rates_radps: Floats, times_s: Floats) -> Floats:
    """Poses along circular arcs. # (N,), (N,), (T,) -> (N, T, 3): x, y, yaw"""
    distance = speeds_mps[:, None] * times_s
    half = 0.5 * yaw_rates_radps[:, None] * times_s
    chord = distance * np.sinc(half / math.pi)
    heading = pose[2] + half
    return np.stack([pose[0] + chord * np.cos(heading), pose[1] + chord * np.sin(heading), heading + half], axis=-1)


def ahead(poses: Floats, distance_m: float) -> Floats:
    """The point so far in front of each pose: what is scored there rewards turning towards the way, as
    dwa_local_planner's forward_point_distance does. # (..., 3) -> (..., 2)"""
    x, y, yaw = np.moveaxis(poses, -1, 0)
    return np.stack([x + distance_m * np.cos(yaw), y + distance_m * np.sin(yaw)], axis=-1)
