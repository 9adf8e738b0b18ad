"""Odometry and wheel commands of a two-sided base, from and for the wire: dead reckoning with its covariance.

The base sends cumulative encoder counts, so that a lost frame loses nothing. The heading comes from the gyro or from
the wheels, as the robot file says (``odometry.heading``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.kinematics import move_along_arc, wheel_speeds, wrap_angle
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Floats

REST_S = 0.5  # encoders unchanged for so long: the gyro shows its bias alone
BIAS_RADPS_MAX = 0.1  # more than that at rest is somebody turning the robot
BIAS_SHARE = 0.02  # of each sample at rest in the running mean
GAP_S_MAX = 0.1  # longer gaps between gyro samples are not integrated over: the wheels stand in


@dataclass(frozen=True)
class OdometryParams:
    """How far the odometry trusts its parts. Standard deviations grow with the root of the distance or the turn."""

    distance_std_per_root_m: float = param(
        0.02, unit="m/sqrt(m)", low=0.0, high=1.0, help="error of the distance after 1 m: wheel radius, slip"
    )
    turn_std_per_root_rad: float = param(
        0.01, unit="rad/sqrt(rad)", low=0.0, high=1.0, help="error of the heading after a turn of 1 rad: slip, scale"
    )
    heading_std_per_root_s: float = param(
        0.001, unit="rad/sqrt(s)", low=0.0, high=1.0, help="error of the gyro's heading after 1 s: noise, bias"
    )


@dataclass(frozen=True, eq=False)
class Estimate:
    """Pose in the odom frame, twist in the base frame, and their covariances."""

    t_us: int  # base's clock
    pose: tuple[float, float, float]  # x, y, yaw
    speed_mps: float
    yaw_rate_radps: float
    pose_covariance: Floats  # x, y, yaw # (3, 3)
    twist_covariance: Floats  # speed, yaw rate # (2, 2)


class DeadReckoning:
    """Pose from encoder counts and gyro samples, which come with the base's stamps.

    A count that cannot be (the base has booted: its clock or counts went back, or a wheel leapt faster than
    ``4 * speed_mps_max``) anchors anew: the pose stays where it was.
    """

    def __init__(self, robot: Robot, params: OdometryParams = OdometryParams()) -> None:
        self._params, self._robot = params, robot
        self._metres_per_tick = 2.0 * math.pi * robot.base.wheel_radius_m / robot.odometry.ticks_per_turn
        self._gyro_heading = robot.odometry.heading == "gyro"
        self._pose = (0.0, 0.0, 0.0)
        self._covariance = np.zeros((3, 3))
        self._last: tuple[int, int, int] | None = None  # t_us, left, right
        self._moved_us = 0
        self._gyro_us: int | None = None
        self._rate_radps = 0.0
        self._turn_rad = 0.0  # by the gyro, since the last encoder counts
        self._gyro_valid = False
        self.bias_radps = 0.0
        self.anchored = 0  # times that counts could not be continued

    def add_gyro(self, t_us: int, rate_radps: float) -> None:
        """A sample of the yaw rate, in the base frame."""
        last_us, self._gyro_us = self._gyro_us, t_us
        before, self._rate_radps = self._rate_radps, rate_radps
        if last_us is None or not 0 < t_us - last_us <= GAP_S_MAX * 1e6:
            self._gyro_valid = False
            return
        at_rest = self._last is not None and t_us - self._moved_us > REST_S * 1e6
        if at_rest and abs(rate_radps) < BIAS_RADPS_MAX:
            self.bias_radps += BIAS_SHARE * (rate_radps - self.bias_radps)
        self._turn_rad += (0.5 * (before + rate_radps) - self.bias_radps) * (t_us - last_us) * 1e-6
        self._gyro_valid = True

    def add_ticks(self, t_us: int, left_ticks: int, right_ticks: int) -> Estimate:
        """Encoder counts since boot, forward positive; returns where the robot is now."""
        last = self._last
        if last is not None and t_us == last[0]:  # the same instant twice: the next counts tell it all
            return self._estimate(t_us, 0.0, 0.0)
        self._last = (t_us, left_ticks, right_ticks)
        turn_of_gyro, self._turn_rad = self._turn_rad, 0.0
        if last is None or t_us < last[0]:
            return self._anchor(t_us)
        elapsed_s = (t_us - last[0]) * 1e-6
        left_m, right_m = (
            (now - then) * self._metres_per_tick for now, then in zip((left_ticks, right_ticks), last[1:], strict=True)
        )
        if max(abs(left_m), abs(right_m)) > 4.0 * self._robot.limits.speed_mps_max * elapsed_s + 0.05:
            return self._anchor(t_us)
        if self._last[1:] != last[1:]:
            self._moved_us = t_us
        distance_m = 0.5 * (left_m + right_m)
        turn_rad = (right_m - left_m) / self._robot.effective_track_m
        by_gyro = self._gyro_heading and self._gyro_valid
        if by_gyro:
            turn_rad = turn_of_gyro
        self._move(distance_m, turn_rad, elapsed_s)
        rate_radps = self._rate_radps - self.bias_radps if by_gyro else turn_rad / elapsed_s
        return self._estimate(t_us, distance_m / elapsed_s, rate_radps)

    def _anchor(self, t_us: int) -> Estimate:
        """Go on from here with the counts as they are now."""
        self.anchored += 1
        self._moved_us = t_us
        return self._estimate(t_us, 0.0, 0.0)

    def _move(self, distance_m: float, turn_rad: float, elapsed_s: float) -> None:
        """Along an arc; the covariance as in the prediction of an extended Kalman filter."""
        params, yaw = self._params, self._pose[2] + 0.5 * turn_rad
        self._pose = move_along_arc(*self._pose, distance_m, turn_rad)
        self._pose = (*self._pose[:2], wrap_angle(self._pose[2]))
        c, s = math.cos(yaw), math.sin(yaw)
        of_pose = np.array([[1.0, 0.0, -distance_m * s], [0.0, 1.0, distance_m * c], [0.0, 0.0, 1.0]])
        of_motion = np.array([[c, -0.5 * distance_m * s], [s, 0.5 * distance_m * c], [0.0, 1.0]])
        distance_var = params.distance_std_per_root_m**2 * abs(distance_m)
        turn_var = params.turn_std_per_root_rad**2 * abs(turn_rad) + params.heading_std_per_root_s**2 * elapsed_s
        noise = np.diag([distance_var, turn_var])
        self._covariance = of_pose @ self._covariance @ of_pose.T + of_motion @ noise @ of_motion.T

    def _estimate(self, t_us: int, speed_mps: float, yaw_rate_radps: float) -> Estimate:
        resolution = self._metres_per_tick * 100.0  # one count more or less in a period of 10 ms
        speed_std = resolution + self._params.distance_std_per_root_m * abs(speed_mps)
        gyro_std = self._robot.imu.gyro_noise_radps + self._params.turn_std_per_root_rad * abs(yaw_rate_radps)
        twist = np.diag([speed_std**2, gyro_std**2])
        return Estimate(t_us, self._pose, speed_mps, yaw_rate_radps, self._covariance.copy(), twist)


def wheels_of_twist(
    speed_mps: float, yaw_rate_radps: float, robot: Robot, wheel_radps_max: float
) -> tuple[float, float]:
    """Wheel speeds (rad/s) of a twist; where one is beyond ``wheel_radps_max`` both shrink, and the curve stays."""
    left, right = wheel_speeds(speed_mps, yaw_rate_radps, robot.base.wheel_radius_m, robot.effective_track_m)
    fastest = max(abs(left), abs(right))
    scale = wheel_radps_max / fastest if fastest > wheel_radps_max else 1.0
    return left * scale, right * scale
