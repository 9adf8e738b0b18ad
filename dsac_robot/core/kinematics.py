"""Planar kinematics of wheeled bases: arcs, frames, wheel speeds, odometry."""

from __future__ import annotations

import math

from dsac_robot.core.values import Odom


def wrap_angle(angle_rad: float) -> float:
    """The same angle in [-pi, pi]."""
    return math.remainder(angle_rad, 2.0 * math.pi)


def move_along_arc(
    x_m: float, y_m: float, yaw_rad: float, distance_m: float, turn_rad: float
) -> tuple[float, float, float]:
    """The pose after a circular arc of signed length ``distance_m`` that turns by ``turn_rad`` (exact integration)."""
    half = 0.5 * turn_rad
    chord = distance_m * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
    return x_m + chord * math.cos(yaw_rad + half), y_m + chord * math.sin(yaw_rad + half), yaw_rad + turn_rad


def to_base(odom: Odom, x_m: float, y_m: float) -> tuple[float, float]:
    """A point of the odom frame, seen from the robot at ``odom``."""
    dx, dy = x_m - odom.x_m, y_m - odom.y_m
    turned_rad = 2.0 * math.atan2(odom.qz, odom.qw)  # yaw_rad but for a whole turn
    c, s = math.cos(turned_rad), math.sin(turned_rad)
    return c * dx + s * dy, -s * dx + c * dy


def to_odom(odom: Odom, x_m: float, y_m: float) -> tuple[float, float]:
    """A point of the base frame of the robot at ``odom``, in the odom frame."""
    c, s = math.cos(odom.yaw_rad), math.sin(odom.yaw_rad)
    return odom.x_m + c * x_m - s * y_m, odom.y_m + s * x_m + c * y_m


def wheel_speeds(
    speed_mps: float, yaw_rate_radps: float, wheel_radius_m: float, effective_track_m: float
) -> tuple[float, float]:
    """Left and right wheel speeds (rad/s) for a twist of a differential or skid-steer base."""
    turn = 0.5 * effective_track_m * yaw_rate_radps
    return (speed_mps - turn) / wheel_radius_m, (speed_mps + turn) / wheel_radius_m


def twist_of_wheels(
    left_radps: float, right_radps: float, wheel_radius_m: float, effective_track_m: float
) -> tuple[float, float]:
    """Speed (m/s) and yaw rate (rad/s) of the base from its wheel speeds: the inverse of ``wheel_speeds``."""
    return (
        0.5 * wheel_radius_m * (left_radps + right_radps),
        wheel_radius_m * (right_radps - left_radps) / effective_track_m,
    )
