"""What a world is: static cylinders and walls, moving cylinders, a start and a goal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dsac_robot.core.geometry import box_corners
from dsac_robot.core.params import ParameterError
from dsac_robot.core.values import Floats, Plan

Pose = tuple[float, float, float]
Point = tuple[float, float]


class WorldError(ParameterError):
    """A world or its file is not what it should be. The message names the file or the field and what is wrong."""


@dataclass(frozen=True)
class Mover:
    """A cylinder that goes along a polyline at its own pace, then back the same way, for ever.

    It yields to nothing: where it is depends on the time alone. Raises WorldError naming the field.
    """

    radius_m: float
    times_s: Floats  # (K,) when it is at each point, increasing from 0
    points_m: Floats  # (K, 2)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius_m) and self.radius_m > 0.0):
            raise WorldError(f"mover: radius_m = {self.radius_m} must be above 0")
        if self.points_m.shape != (len(self.times_s), 2) or not np.all(np.isfinite(self.points_m)):
            raise WorldError(f"mover: points_m must be finite, of shape ({len(self.times_s)}, 2) as times_s has it")
        if len(self.times_s) == 0 or self.times_s[0] != 0.0 or not np.all(np.diff(self.times_s) > 0.0):
            raise WorldError(f"mover: times_s = {self.times_s} must increase from 0")

    @classmethod
    def along(cls, radius_m: float, points_m: Floats, speed_mps: float) -> Mover:
        """A mover along ``points_m`` (K, 2) at constant speed. Points that repeat are passed once."""
        gaps = np.linalg.norm(np.diff(points_m, axis=0), axis=1)
        moved = np.concatenate([[True], gaps > 0.0])
        times = np.concatenate([[0.0], np.cumsum(gaps[gaps > 0.0]) / speed_mps])
        return cls(radius_m, times, points_m[moved])

    def position_m(self, time_s: float) -> Point:
        """Where its axis is, ``time_s`` (at least 0) after the start of the world."""
        end_s = float(self.times_s[-1])
        phase = end_s - abs(math.fmod(time_s, 2.0 * end_s) - end_s) if end_s > 0.0 else 0.0
        x, y = (float(np.interp(phase, self.times_s, self.points_m[:, axis])) for axis in (0, 1))
        return x, y

    def velocity_mps(self, time_s: float) -> Point:
        """How it moves then; at a point of its polyline, as it will move next."""
        end_s = float(self.times_s[-1])
        if end_s == 0.0:
            return 0.0, 0.0
        lap_s = math.fmod(time_s, 2.0 * end_s)
        back = lap_s >= end_s
        phase = 2.0 * end_s - lap_s if back else lap_s
        leg = int(np.searchsorted(self.times_s, phase, side="left" if back else "right")) - 1
        leg = min(max(leg, 0), len(self.times_s) - 2)
        step = (self.points_m[leg + 1] - self.points_m[leg]) / (self.times_s[leg + 1] - self.times_s[leg])
        vx, vy = (-step if back else step).tolist()
        return vx, vy

    @property
    def speed_mps_max(self) -> float:
        """The fastest it ever goes."""
        gaps = np.linalg.norm(np.diff(self.points_m, axis=0), axis=1)
        return float((gaps / np.diff(self.times_s)).max(initial=0.0))


@dataclass(frozen=True, eq=False)
class Route:
    """A path to follow through a world, and the speed at which to follow it."""

    points_m: Floats  # (P, 2)
    speed_mps: float

    def plan(self, to_odom: Callable[[float, float], Point], stamp_ns: int = 0) -> Plan:
        """The plan that a robot is given, in its odometry's frame: ``Simulator.world_to_odom`` moves the points."""
        return Plan(stamp_ns, np.array([to_odom(x, y) for x, y in self.points_m.tolist()]), self.speed_mps)


@dataclass(frozen=True)
class World:
    """Obstacles, the start pose (x, y, yaw), the goal, and the length of a known feasible path.

    A wall is a box that stands on the floor: centre, half length, half thickness and the heading of its length.
    """

    name: str
    cylinders_m: Floats  # (N, 3): x, y, radius
    start: Pose
    goal_m: Point
    path_length_m: float
    walls_m: Floats = field(default_factory=lambda: np.zeros((0, 5)))  # (M, 5): x, y, half length, half thickness, yaw
    movers: tuple[Mover, ...] = ()
    route: Route | None = None  # in worlds of task ``track``

    def __post_init__(self) -> None:
        walls = self.walls_m
        if walls.ndim != 2 or walls.shape[1] != 5 or not np.all(np.isfinite(walls)) or np.any(walls[:, 2:4] <= 0.0):
            raise WorldError(f"{self.name}: walls_m must be finite, of shape (M, 5), with half sizes above 0")


def empty_world(goal_m: Point = (10.0, 0.0), walls: bool = True) -> World:
    """Open floor from the origin to ``goal_m``, with a row of posts 3 m to both sides for the lidar to see."""
    posts = [(x, y, 0.075) for x in np.arange(-2.0, goal_m[0] + 3.0, 0.5) for y in (-3.0, 3.0)] if walls else []
    posts += [(goal_m[0] + 3.0, y, 0.075) for y in np.arange(-3.0, 3.1, 0.5)] if walls else []
    return World("empty", np.array(posts, np.float64).reshape(-1, 3), (0.0, 0.0, 0.0), goal_m, math.hypot(*goal_m))


def wall_between(begin_m: Point, end_m: Point, thickness_m: float) -> tuple[float, float, float, float, float]:
    """A row of ``walls_m``: the box whose middle line goes from ``begin_m`` to ``end_m``."""
    dx, dy = end_m[0] - begin_m[0], end_m[1] - begin_m[1]
    middle_x, middle_y = 0.5 * (begin_m[0] + end_m[0]), 0.5 * (begin_m[1] + end_m[1])
    return middle_x, middle_y, 0.5 * math.hypot(dx, dy), 0.5 * thickness_m, math.atan2(dy, dx)


def box_outline(low_m: Point, high_m: Point, thickness_m: float) -> list[tuple[float, float, float, float, float]]:
    """Four walls around the rectangle from ``low_m`` to ``high_m``, outside of it, closed at the corners."""
    (x0, y0), (x1, y1) = low_m, high_m
    t = 0.5 * thickness_m
    return [
        wall_between((x0 - 2.0 * t, y0 - t), (x1 + 2.0 * t, y0 - t), thickness_m),
        wall_between((x0 - 2.0 * t, y1 + t), (x1 + 2.0 * t, y1 + t), thickness_m),
        wall_between((x0 - t, y0), (x0 - t, y1), thickness_m),
        wall_between((x1 + t, y0), (x1 + t, y1), thickness_m),
    ]


wall_corners = box_corners
