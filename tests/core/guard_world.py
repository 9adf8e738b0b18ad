"""A kinematic world for the guard's tests: discs and walls, a delayed and lagging unicycle, a 270 degree lidar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from dsac_robot.core.geometry import outward_distance
from dsac_robot.core.guard import GuardModel, GuardState, initial_state, step
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams
from dsac_robot.core.robot import Lidar, Robot, load_robot
from dsac_robot.core.values import NS, Command, Floats, Odom, Scan, ns

JACKAL = load_robot("jackal")
STATIC = GuardParams(obstacle_speed_mps_max=0.0, margin_m=0.03, require_verdict=False, fallback_after_s=0.0)
TICK_S = 0.005
GUARD_TICKS, SCAN_TICKS, ODOM_TICKS, POLICY_TICKS = 4, 5, 4, 20

Policy = Callable[["Run"], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class World:
    """Discs (x, y, radius) and walls (x0, y0, x1, y1), in metres."""

    discs: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    walls: Floats = field(default_factory=lambda: np.zeros((0, 4)))

    def ranges(self, x: float, y: float, yaw: float, lidar: Lidar) -> Floats:
        """Exact ranges, +inf without return. # (B,)"""
        origin = np.array([x + lidar.x_m * math.cos(yaw), y + lidar.x_m * math.sin(yaw)])
        angles = lidar.angles_rad + yaw
        beams = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (B, 2)
        best = np.full(len(beams), np.inf)
        if len(self.discs):
            rel = self.discs[:, :2] - origin  # (D, 2)
            along = beams @ rel.T  # (B, D)
            across2 = (rel**2).sum(axis=1) - along**2
            half2 = self.discs[:, 2] ** 2 - across2
            near = along - np.sqrt(np.maximum(half2, 0.0))
            best = np.minimum(best, np.where((half2 >= 0.0) & (near > 0.0), near, np.inf).min(axis=1))
        if len(self.walls):
            a, d = self.walls[:, :2] - origin, self.walls[:, 2:] - self.walls[:, :2]  # (W, 2)
            cross = beams[:, :1] * d[:, 1] - beams[:, 1:] * d[:, 0]  # (B, W)
            with np.errstate(divide="ignore", invalid="ignore"):
                t = (a[:, 0] * d[:, 1] - a[:, 1] * d[:, 0]) / cross
                u = (a[:, 0] * beams[:, 1:] - a[:, 1] * beams[:, :1]) / cross
            best = np.minimum(best, np.where((t > 0.0) & (u >= 0.0) & (u <= 1.0), t, np.inf).min(axis=1))
        return np.where(best <= lidar.range_max_m, best, np.inf)

    def clearance_m(self, x: float, y: float, yaw: float, footprint: Floats) -> float:
        """Distance of the nearest obstacle to the footprint, at most 0 on contact (walls sampled at 1 cm)."""
        c, s = math.cos(yaw), math.sin(yaw)
        turn = np.array([[c, -s], [s, c]])
        best = np.inf
        if len(self.discs):
            points = (self.discs[:, :2] - (x, y)) @ turn
            best = min(best, float((outward_distance(points, footprint) - self.discs[:, 2]).min()))
        points = self.wall_points - (x, y)
        points = points[np.abs(points).max(axis=1) < 0.7]
        if len(points):
            best = min(best, float(outward_distance(points @ turn, footprint).min()))
        return best

    @cached_property
    def wall_points(self) -> Floats:
        """The walls, a point every centimetre. # (N, 2)"""
        points = [np.zeros((0, 2))]
        for x0, y0, x1, y1 in self.walls:
            parts = np.linspace(0.0, 1.0, max(2, int(math.hypot(x1 - x0, y1 - y0) / 0.01)))
            points.append(np.stack([x0 + parts * (x1 - x0), y0 + parts * (y1 - y0)], axis=1))
        return np.concatenate(points)


@dataclass
class Run:
    """One drive through a world under the guard. Fields may be changed between ticks, to inject faults."""

    world: World
    params: GuardParams = STATIC
    robot: Robot = JACKAL
    noise_m: float = 0.01
    dropout: float = 0.0
    dark: tuple[int, int] = (0, 0)  # beams from one to another that say nothing
    seed: int = 0
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    twist: tuple[float, float] = (0.0, 0.0)
    tick: int = 0
    inp: GuardInput = field(default_factory=lambda: GuardInput(NS))
    state: GuardState = field(default_factory=initial_state)
    decisions: list[Decision] = field(default_factory=list)
    clearance_moving_m: float = math.inf
    distance_m: float = 0.0

    def __post_init__(self) -> None:
        self.model = GuardModel.of(self.params, self.robot)
        self.random = np.random.default_rng(self.seed)
        self.pipe = [(0.0, 0.0)] * round(self.model.checker.motion.delay_s / TICK_S)
        self.wheels = (0.0, 0.0)
        self.silent: set[str] = set()  # of scan, odom, policy

    @property
    def now_ns(self) -> int:
        """The clock."""
        return NS + self.tick * ns(TICK_S)

    def sense(self) -> None:
        """New samples where they are due."""
        x, y, yaw = self.pose
        lidar = self.robot.lidar
        if self.tick % SCAN_TICKS == 0 and "scan" not in self.silent:
            ranges = self.world.ranges(x, y, yaw, lidar)
            ranges = np.maximum(ranges + self.random.normal(0.0, self.noise_m, len(ranges)), 0.0)
            ranges[self.random.random(len(ranges)) < self.dropout] = np.nan
            ranges[slice(*self.dark)] = np.nan
            scan = Scan(
                self.now_ns, ranges.astype(np.float32), lidar.angle_min_rad, lidar.angle_increment_rad, lidar.frame_id
            )
            self.inp = replace(self.inp, scan=scan)
        if self.tick % ODOM_TICKS == 0 and "odom" not in self.silent:
            self.inp = replace(self.inp, odom=Odom.from_yaw(self.now_ns, x, y, yaw, *self.twist))

    def advance(self) -> None:
        """One tick of the base: delay, lag, exact arc."""
        self.pipe.append(self.wheels)
        target = self.pipe.pop(0)
        keep = math.exp(-TICK_S / self.robot.actuation.motor_time_constant_s)
        v, w = (t + (now - t) * keep for t, now in zip(target, self.twist, strict=True))
        x, y, yaw = self.pose
        middle = yaw + 0.5 * TICK_S * w
        self.pose = (x + TICK_S * v * math.cos(middle), y + TICK_S * v * math.sin(middle), yaw + TICK_S * w)
        self.twist = (v, w)
        self.distance_m += abs(v) * TICK_S
        self.tick += 1
        corner = abs(v) + abs(w) * self.model.checker.outline.radius_m
        if corner > 0.02 and self.tick % 2 == 0:
            clearance = self.world.clearance_m(*self.pose, self.robot.footprint)
            self.clearance_moving_m = min(self.clearance_moving_m, clearance)

    def drive(self, policy: Policy, seconds: float, guard: bool = True) -> None:
        """Run for a while; the policy is asked at 10 Hz, the guard at 50 Hz."""
        for _ in range(round(seconds / TICK_S)):
            self.sense()
            if self.tick % POLICY_TICKS == 0 and "policy" not in self.silent and self.inp.scan is not None:
                speed, turn = policy(self)
                self.inp = replace(self.inp, command=Command(self.inp.scan.stamp_ns, speed, turn))
            if self.tick % GUARD_TICKS == 0:
                self.inp = replace(self.inp, now_ns=self.now_ns)
                if guard:
                    self.state, decision = step(self.state, self.inp, self.model)
                    self.decisions.append(decision)
                    self.wheels = (decision.speed_mps, decision.yaw_rate_radps)
                elif self.inp.command is not None:
                    self.wheels = (self.inp.command.speed_mps, self.inp.command.yaw_rate_radps)
            self.advance()
