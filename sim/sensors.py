"""What wheel encoders, gyro and accelerometers make of the true motion: ticks, white noise, biases that walk, slip.

Biases have random streams of their own, so that switching one deviation on does not change the draws of another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dsac_robot.core.kinematics import move_along_arc
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Floats, Imu, Odom


class BiasWalk:
    """A bias drawn at the start and then a random walk: N(0, start), plus N(0, walk) a root second."""

    def __init__(self, start: Floats, walk: Floats, rng: np.random.Generator) -> None:
        self._walk, self._rng, self._at_ns = walk, rng, 0
        self._bias = rng.normal(0.0, 1.0, len(start)) * start
        self._walks = bool(np.any(walk > 0.0))

    def at(self, time_ns: int) -> Floats:
        """The bias at ``time_ns``, which must not be before the last one asked for. # (N,)"""
        if self._walks and time_ns > self._at_ns:
            root = math.sqrt((time_ns - self._at_ns) / NS)
            self._bias = self._bias + self._rng.normal(0.0, 1.0, len(self._walk)) * self._walk * root
            self._at_ns = time_ns
        return self._bias


class InertialUnit:
    """Gyro about z and accelerometers in x and y. Without ``noise`` it is ideal."""

    def __init__(self, robot: Robot, rng: np.random.Generator, bias_rng: np.random.Generator, noise: bool) -> None:
        self._imu, self._rng, self._noise = robot.imu, rng, noise
        imu = robot.imu
        self._gyro = BiasWalk(np.array([imu.gyro_bias_radps]), np.array([imu.gyro_bias_walk]), bias_rng)
        self._accel = BiasWalk(np.full(2, imu.accel_bias_mps2), np.full(2, imu.accel_bias_walk), bias_rng.spawn(1)[0])
        self._last_ns, self._last_velocity = 0, np.zeros(3)

    def measure(self, time_ns: int, velocity_mps: Floats, yaw_rad: float, yaw_rate_radps: float) -> Imu:
        """The sample at ``time_ns`` of a robot with this velocity in the world. # (3,)"""
        accel = (velocity_mps - self._last_velocity) / _elapsed_s(time_ns, self._last_ns, self._imu.rate_hz)
        self._last_ns, self._last_velocity = time_ns, velocity_mps
        c, s = math.cos(yaw_rad), math.sin(yaw_rad)
        true = np.array([yaw_rate_radps, accel[0] * c + accel[1] * s, accel[1] * c - accel[0] * s])
        if self._noise:
            spread = [self._imu.gyro_noise_radps, self._imu.accel_noise_mps2, self._imu.accel_noise_mps2]
            true += self._rng.normal(0.0, 1.0, 3) * spread
            true += np.append(self._gyro.at(time_ns), self._accel.at(time_ns))
        return Imu(time_ns, *(float(value) for value in true))

    def turn_error_rad(self, time_ns: int, elapsed_s: float) -> float:
        """What integrating the gyro over the last ``elapsed_s`` adds to the true turn."""
        if not self._noise:
            return 0.0
        white = self._rng.normal(0.0, self._imu.gyro_noise_radps)
        return float(white + self._gyro.at(time_ns)[0]) * elapsed_s


class WheelOdometry:
    """Dead reckoning from encoder ticks, with the radius that the base believes, and the gyro's or the wheels' turn.

    The frame starts where the robot starts. ``nominal`` is the description that the base goes by. Without ``noise`` the
    believed radius is right and nothing is drawn; what the tyres really slip and what the ticks round off stays.
    """

    def __init__(
        self, robot: Robot, nominal: Robot, angles_rad: Sequence[float], rng: np.random.Generator, noise: bool
    ) -> None:
        self._robot, self._nominal, self._rng, self._noise = robot, nominal, rng, noise
        self._ticks, self._last_ns = self._count(angles_rad), 0
        self._pose = (0.0, 0.0, 0.0)
        odometry = robot.odometry
        errors = (odometry.radius_error_left, odometry.radius_error_right) if noise else (0.0, 0.0)
        self._metres_per_tick = [
            2.0 * math.pi * nominal.base.wheel_radius_m * (1.0 + error) / odometry.ticks_per_turn for error in errors
        ]

    def elapsed_s(self, time_ns: int) -> float:
        """Time since the last message: the simulator's steps do not divide every period."""
        return _elapsed_s(time_ns, self._last_ns, self._robot.odometry.rate_hz)

    def measure(self, time_ns: int, angles_rad: Sequence[float], gyro_turn_rad: float) -> Odom:
        """The message at ``time_ns`` from wheel angles, left ones first, and the gyro's turn since the last one."""
        ticks, elapsed_s = self._count(angles_rad), self.elapsed_s(time_ns)
        half = len(ticks) // 2
        turned = [now - before for now, before in zip(ticks, self._ticks, strict=True)]
        left_m = sum(turned[:half]) / half * self._metres_per_tick[0]
        right_m = sum(turned[half:]) / half * self._metres_per_tick[1]
        self._ticks, self._last_ns = ticks, time_ns
        forward_m = 0.5 * (left_m + right_m)
        turn_rad = gyro_turn_rad
        if self._robot.odometry.heading == "wheels":
            turn_rad = (right_m - left_m) / self._nominal.effective_track_m
        slip = self._robot.odometry.slip_noise
        if self._noise and slip > 0.0:
            forward_m += float(self._rng.normal(0.0, slip)) * math.sqrt(abs(forward_m))
        self._pose = move_along_arc(*self._pose, forward_m, turn_rad)
        return Odom.from_yaw(time_ns, *self._pose, forward_m / elapsed_s, turn_rad / elapsed_s)

    def _count(self, angles_rad: Sequence[float]) -> list[int]:
        """Encoder counts, one a wheel."""
        per_rad = self._robot.odometry.ticks_per_turn / (2.0 * math.pi)
        return [math.floor(angle * per_rad) for angle in angles_rad]


def _elapsed_s(time_ns: int, last_ns: int, rate_hz: float) -> float:
    """Time since the last sample; one period before the first."""
    return (time_ns - last_ns) / NS if time_ns > last_ns else 1.0 / rate_hz
