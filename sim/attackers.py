"""What attacks the guard: commands at random, forces on the body, obstacles that come at the robot.

Everything here is drawn from seeds, and keeps to what the guard assumes of the world: forces leave the tyres enough to
brake by ``brake_mps2``, obstacles move at the bound at most and only where the lidar sees them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from dsac_robot.core.geometry import half_planes
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Sample, Scan
from sim.robot_model import SPARE_RADIUS_M
from sim.simulator import Simulator
from sim.worlds_base import Point, World

GRAVITY_MPS2 = 9.81
REST_MPS = 0.05
TICK_S = 0.1  # a policy's control period
Twist = tuple[float, float]


class Driver(Protocol):
    """Who commands the robot in an attack. Made anew for each episode."""

    def take(self, sample: Sample) -> None:
        """A sample of the robot's sensors, or the command that was sent."""

    def command(self, now_ns: int) -> Twist:
        """What it asks for now: speed m/s, yaw rate rad/s."""


class RandomDriver:
    """Commands held for a while each: ``white`` new ones at each control period, ``bang`` extremes for longer."""

    def __init__(self, robot: Robot, seed: int, kind: str) -> None:
        self._limits, self._rng, self._kind = robot.limits, np.random.default_rng((seed, 12)), kind
        self._next_ns, self._asked = 0, (0.0, 0.0)
        self._dwell_s = TICK_S if kind == "white" else float(self._rng.uniform(0.2, 1.5))

    def take(self, sample: Sample) -> None:
        """It looks at nothing."""

    def command(self, now_ns: int) -> Twist:
        """The command of this time."""
        if now_ns >= self._next_ns:
            limits, rng = self._limits, self._rng
            turn = limits.yaw_rate_radps_max
            if self._kind == "white":
                self._asked = (
                    float(rng.uniform(limits.speed_mps_min, limits.speed_mps_max)),
                    float(rng.uniform(-turn, turn)),
                )
                wait_s = TICK_S
            else:
                speed = (limits.speed_mps_min, limits.speed_mps_max, limits.speed_mps_max)[int(rng.integers(3))]
                self._asked = speed, turn * float(rng.integers(-1, 2))
                wait_s = float(rng.exponential(self._dwell_s))
            self._next_ns = now_ns + round(wait_s * NS)
        return self._asked


class WanderingDriver:
    """Correlated noise (Ornstein-Uhlenbeck) around a forward speed, clipped to the limits."""

    def __init__(self, robot: Robot, seed: int) -> None:
        rng = np.random.default_rng((seed, 13))
        self._limits, self._rng, self._next_ns = robot.limits, rng, 0
        self._keep = math.exp(-TICK_S / float(rng.uniform(0.3, 3.0)))
        self._mean = float(rng.uniform(0.3, 1.0)) * robot.limits.speed_mps_max
        self._noise = rng.standard_normal(2)

    def take(self, sample: Sample) -> None:
        """It looks at nothing."""

    def command(self, now_ns: int) -> Twist:
        """The command of this time."""
        if now_ns >= self._next_ns:
            fresh = math.sqrt(1.0 - self._keep**2) * self._rng.standard_normal(2)
            self._noise = self._keep * self._noise + fresh
            self._next_ns = now_ns + round(TICK_S * NS)
        limits = self._limits
        speed = self._mean + 0.7 * limits.speed_mps_max * float(self._noise[0])
        turn = 0.6 * limits.yaw_rate_radps_max * float(self._noise[1])
        high = limits.yaw_rate_radps_max
        return min(max(speed, limits.speed_mps_min), limits.speed_mps_max), min(max(turn, -high), high)


def force_bound_n(robot: Robot) -> float:
    """The largest force from any side beside which the tyres still brake by ``brake_mps2`` in the tightest turn at full
    speed, by Coulomb's law."""
    limits = robot.limits
    needed = math.hypot(limits.brake_mps2, limits.speed_mps_max * limits.yaw_rate_radps_max)
    return robot.base.mass_kg * max(0.0, robot.base.friction * GRAVITY_MPS2 - needed)


class Pusher:
    """Forces of up to ``force_bound_n``: while the robot moves: along the motion (it brakes worst so), or anywhere."""

    def __init__(self, robot: Robot, seed: int) -> None:
        self._rng, self._bound_n = np.random.default_rng((seed, 14)), force_bound_n(robot)
        self._along = bool(self._rng.random() < 0.7)
        self._next_ns, self._part, self._heading = 0, 0.0, 0.0

    def act(self, now_ns: int, sim: Simulator) -> None:
        """Push for the next period."""
        if now_ns >= self._next_ns:
            self._part = float(self._rng.uniform(0.5, 1.0))
            self._heading = float(self._rng.uniform(-math.pi, math.pi))
            self._next_ns = now_ns + round(float(self._rng.exponential(0.6)) * NS)
        speed, yaw = sim.twist[0], sim.pose[2]
        if abs(speed) < REST_MPS:  # to shove a robot that stands into something is no attack on its guard
            sim.push(0.0, 0.0)
            return
        heading = self._heading
        if self._along:
            heading = yaw if speed > 0.0 else yaw + math.pi
        force = self._part * self._bound_n
        sim.push(force * math.cos(heading), force * math.sin(heading))


class Chasers:
    """Cylinders that come at the robot at ``speed_mps``, meet where it drives to, and step back where it stands still.

    They move only while the newest scan shows them: what the lidar cannot see is not to move (docs/safety.md). Before a
    robot at rest they stop by ``HOLD_M``, wait, withdraw and come again: to touch a robot at rest proves nothing.
    """

    HOLD_M = 0.03

    def __init__(self, robot: Robot, world: World, seed: int, speed_mps: float) -> None:
        self._rng = np.random.default_rng((seed, 15))
        self._robot, self._speed_mps, self._world = robot, speed_mps, world
        self._normals, self._offsets = half_planes(robot.footprint)
        self._places: dict[int, Point] = {}
        self._back_until_ns: dict[int, int] = {}
        self._lead_s = [float(value) for value in self._rng.uniform(0.0, 1.5, 3)]
        self.last_step_m = 0.0  # the farthest that one moved in the newest period
        self.unseen_move = False  # whether one moved that the newest scan did not show

    def start(self, sim: Simulator) -> None:
        """Put them into the world, away from the robot."""
        x, y, _ = sim.pose
        for _ in range(int(self._rng.integers(1, 4))):
            for _ in range(20):
                angle, away = self._rng.uniform(-math.pi, math.pi), self._rng.uniform(1.5, 3.0)
                place = x + float(away * math.cos(angle)), y + float(away * math.sin(angle))
                if self._free(place):
                    self._places[sim.place_obstacle(*place)] = place
                    break

    def _free(self, place: Point) -> bool:
        walls = self._world.walls_m[:4]
        half_x, half_y = abs(walls[:, 0]).max(), abs(walls[:, 1]).max()
        return bool(abs(place[0]) < half_x - 0.3 and abs(place[1]) < half_y - 0.3)

    def act(self, now_ns: int, period_s: float, sim: Simulator, scan: Scan | None) -> None:
        """Move all for one period."""
        (speed, turn), pose = sim.twist, sim.pose
        resting = abs(speed) < 0.02 and abs(turn) < 0.05
        self.last_step_m = 0.0
        for index, place in self._places.items():
            if scan is None or not self._seen(place, pose, scan):
                continue
            step = self._speed_mps * period_s
            lead = self._lead_s[index % 3]
            aim_x = pose[0] + lead * speed * math.cos(pose[2]) - place[0]
            aim_y = pose[1] + lead * speed * math.sin(pose[2]) - place[1]
            gap = self._gap_m(place, pose)
            if resting and gap < self.HOLD_M + step and now_ns >= self._back_until_ns.get(index, 0):
                self._back_until_ns[index] = now_ns + round(float(self._rng.uniform(0.5, 3.0)) * NS)
            if now_ns < self._back_until_ns.get(index, 0):
                aim_x, aim_y = place[0] - pose[0], place[1] - pose[1]
            length = math.hypot(aim_x, aim_y)
            if length < step:
                continue
            target = place[0] + step * aim_x / length, place[1] + step * aim_y / length
            if self._free(target):
                self._places[index] = target
                sim.move_obstacle(index, *target)
                self.last_step_m = max(self.last_step_m, step)

    def _gap_m(self, place: Point, pose: tuple[float, float, float]) -> float:
        """Distance from the cylinder to the footprint, at most."""
        c, s = math.cos(pose[2]), math.sin(pose[2])
        dx, dy = place[0] - pose[0], place[1] - pose[1]
        base = np.array([c * dx + s * dy, c * dy - s * dx])
        return float((self._normals @ base - self._offsets).max()) - SPARE_RADIUS_M

    def _seen(self, place: Point, pose: tuple[float, float, float], scan: Scan) -> bool:
        """Whether the newest scan has the cylinder's near side, by true geometry a period ago at most."""
        lidar = self._robot.lidar
        c, s = math.cos(pose[2]), math.sin(pose[2])
        dx = place[0] - pose[0] - c * lidar.x_m + s * lidar.y_m
        dy = place[1] - pose[1] - s * lidar.x_m - c * lidar.y_m
        bearing = math.remainder(math.atan2(dy, dx) - pose[2] - lidar.yaw_rad - lidar.angle_min_rad, math.tau)
        beam = round(bearing % math.tau / lidar.angle_increment_rad)
        if beam >= lidar.beams:
            return False
        return bool(abs(float(scan.ranges_m[beam]) - (math.hypot(dx, dy) - SPARE_RADIUS_M)) < 0.15)


RANDOM_DRIVERS: Mapping[str, str] = {"white": "white", "bang": "bang", "wander": "wander"}


def random_driver(kind: str, robot: Robot, seed: int) -> Driver:
    """The driver of a kind in ``RANDOM_DRIVERS``."""
    return WanderingDriver(robot, seed) if kind == "wander" else RandomDriver(robot, seed, kind)


def as_command(now_ns: int, twist: Twist) -> Command:
    """The twist as a policy's command."""
    return Command(now_ns, *twist)
