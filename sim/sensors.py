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
    """Biases drawn at the start and then random walks: N(0, start), plus N(0, walk) a root second."""

    def __init__(self, start: Sequence[float], walk: Sequence[float], rng: np.random.Generator) -> None:
        self._walk, self._rng, self._at_ns = tuple(walk), rng, 0
        self._bias = tuple(rng.standard_normal() * spread for spread in start)
        self._walks = any(spread > 0.0 for spread in walk)

    def at(self, time_ns: int) -> tuple[float, ...]:
        """The biases at ``time_ns``, which must not be before the last one asked for. # (N,)"""
        if self._walks and time_ns > self._at_ns:
            root = math.sqrt((time_ns - self._at_ns) / NS)
            draw = self._rng.standard_normal
            self._bias = tuple(
                bias + draw() * spread * root for bias, spread in zip(self._bias, self._walk, strict=True)
            )
            self._at_ns = time_ns
        return self._bias


class InertialUnit:
    """Gyro about z and accelerometers in x and y. Without ``noise`` it is ideal."""

    def __init__(self, robot: Robot, rng: np.random.Generator, bias_rng: np.random.Generator, noise: bool) -> None:
        self._imu, self._rng, self._noise = robot.imu, rng, noise
        imu = robot.imu
        self._gyro = BiasWalk([imu.gyro_bias_radps], [imu.gyro_bias_walk], bias_rng)
        self._accel = BiasWalk([imu.accel_bias_mps2] * 2, [imu.accel_bias_walk] * 2, bias_rng.spawn(1)[0])
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
            true += self._gyro.at(time_ns) + self._accel.at(time_ns)
        return Imu(time_ns, *(float(value) for value in true))

    def turn_error_rad(self, time_ns: int, elapsed_s: float) -> float:
        """What integrating the gyro over the last ``elapsed_s`` adds to the true turn."""
        if not self._noise:
            return 0.0
        white = self._rng.standard_normal() * self._imu.gyro_noise_radps
        return (white + self._gyro.at(time_ns)[0]) * elapsed_s


class WheelOdometry:
    """Dead reckoning from encoder ticks, with the radius that the base believes, and the gyro's or the wheels' turn.

    The frame starts where the robot starts. ``nominal`` is the description that the base goes by. Without ``noise`` the
    believed radius is right and nothing is drawn; what the tyres really slip and what the ticks round off stays.
    """

    def __init__(
        self, robot: Robot, nominal: Robot, angles_rad: Sequence[float], rng: np.random.Generator, noise: bool
    ) -> None:
        odometry = robot.odometry
        self._rng, self._rate_hz = rng, odometry.rate_hz
        self._slip = odometry.slip_noise if noise else 0.0
        self._turn_track_m = nominal.effective_track_m if odometry.heading == "wheels" else None
        self._ticks_per_rad = odometry.ticks_per_turn / (2.0 * math.pi)
        self._ticks, self._last_ns = self._count(angles_rad), 0
        self._pose = (0.0, 0.0, 0.0)
        errors = (odometry.radius_error_left, odometry.radius_error_right) if noise else (0.0, 0.0)
        self._metres_per_tick = [
            2.0 * math.pi * nominal.base.wheel_radius_m * (1.0 + error) / odometry.ticks_per_turn for error in errors
        ]

    def elapsed_s(self, time_ns: int) -> float:
        """Time since the last message: the simulator's steps do not divide every period."""
        return _elapsed_s(time_ns, self._last_ns, self._rate_hz)

    def measure(self, time_ns: int, angles_rad: Sequence[float], gyro_turn_rad: float) -> Odom:
        """The message at ``time_ns`` from wheel angles, left ones first, and the gyro's turn since the last one."""
        ticks, elapsed_s = self._count(angles_rad), self.elapsed_s(time_ns)
        half = len(ticks) // 2
        left_m = (sum(ticks[:half]) - sum(self._ticks[:half])) / half * self._metres_per_tick[0]
        right_m = (sum(ticks[half:]) - sum(self._ticks[half:])) / half * self._metres_per_tick[1]
        self._ticks, self._last_ns = ticks, time_ns
        forward_m = 0.5 * (left_m + right_m)
        turn_rad = gyro_turn_rad if self._turn_track_m is None else (right_m - left_m) / self._turn_track_m
        if self._slip > 0.0:
            forward_m += self._rng.standard_normal() * self._slip * math.sqrt(abs(forward_m))
        self._pose = move_along_arc(*self._pose, forward_m, turn_rad)
        return Odom.from_yaw(time_ns, *self._pose, forward_m / elapsed_s, turn_rad / elapsed_s)

    def _count(self, angles_rad: Sequence[float]) -> list[int]:
        """Encoder counts, one a wheel."""
        return [math.floor(angle * self._ticks_per_rad) for angle in angles_rad]


def _elapsed_s(time_ns: int, last_ns: int, rate_hz: float) -> float:
    """Time since the last sample; one period before the first."""
    return (time_ns - last_ns) / NS if time_ns > last_ns else 1.0 / rate_hz
