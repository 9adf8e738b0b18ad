"""The values that move through the stack. Frozen, SI, stamped in integer nanoseconds of ROS time.

They hold what the messages hold, bit for bit (ranges as float32, yaw as the quaternion's z and w), so that the
simulator, the nodes and a rosbag give the very same numbers to the observation, the reward and the guard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Twist = tuple[float, float]  # speed m/s, yaw rate rad/s

NS = 1_000_000_000


def ns(seconds: float) -> int:
    """Seconds as integer nanoseconds, rounded to nearest."""
    return round(seconds * NS)


@dataclass(frozen=True, eq=False)
class Scan:
    """One lidar scan in the sensor frame. Ranges follow REP-117: +inf no return, -inf too close, NaN invalid.

    Two scans are equal only if they are the same object, so that what is computed from one can be kept for it.
    """

    stamp_ns: int
    ranges_m: Floats32  # (B,)
    angle_min_rad: float = 0.0
    angle_increment_rad: float = 0.0
    frame_id: str = "laser"


@dataclass(frozen=True)
class Odom:
    """Planar pose in the odom frame and twist in the base frame."""

    stamp_ns: int
    x_m: float
    y_m: float
    qz: float  # quaternion of the yaw: z = sin(yaw / 2), w = cos(yaw / 2)
    qw: float
    speed_mps: float
    yaw_rate_radps: float

    @classmethod
    def from_yaw(
        cls, stamp_ns: int, x_m: float, y_m: float, yaw_rad: float, speed_mps: float, yaw_rate_radps: float
    ) -> Odom:
        """The odometry with its yaw stored as a quaternion."""
        half = 0.5 * yaw_rad
        return cls(stamp_ns, x_m, y_m, math.sin(half), math.cos(half), speed_mps, yaw_rate_radps)

    @property
    def yaw_rad(self) -> float:
        """Heading in the odom frame, in [-pi, pi]."""
        return math.remainder(2.0 * math.atan2(self.qz, self.qw), 2.0 * math.pi)


@dataclass(frozen=True)
class Imu:
    """Yaw rate and planar acceleration in the base frame."""

    stamp_ns: int
    yaw_rate_radps: float
    accel_x_mps2: float
    accel_y_mps2: float


@dataclass(frozen=True)
class Goal:
    """Where to go, in the odom frame."""

    stamp_ns: int
    x_m: float
    y_m: float


@dataclass(frozen=True, eq=False)
class Plan:
    """A path to follow, in the odom frame, and the speed to follow it at.

    Two plans are equal only if they are the same object, as scans are.
    """

    stamp_ns: int
    points_m: Floats  # (N, 2), N at least 2, no two in a row the same
    speed_mps: float

    def __post_init__(self) -> None:
        points = self.points_m
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.all(np.isfinite(points)):
            raise ValueError(f"plan: points_m must be finite, of shape (N, 2) with N >= 2; got shape {points.shape}")
        if np.any(np.all(points[1:] == points[:-1], axis=1)):
            raise ValueError("plan: points_m repeats a point; leave the second one out")
        if not (math.isfinite(self.speed_mps) and self.speed_mps > 0.0):
            raise ValueError(f"plan: speed_mps = {self.speed_mps} must be above 0")


@dataclass(frozen=True)
class Command:
    """A twist of the base: what the policy asks for, or what the guard sent. The stamp is the message header's."""

    stamp_ns: int
    speed_mps: float
    yaw_rate_radps: float

    @property
    def finite(self) -> bool:
        """True where neither part is NaN or infinite."""
        return math.isfinite(self.speed_mps) and math.isfinite(self.yaw_rate_radps)


@dataclass(frozen=True)
class Contact:
    """The bumper: True while anything touches the robot's body. The simulator always has one."""

    stamp_ns: int
    touching: bool


Sample = Scan | Odom | Imu | Goal | Plan | Command | Contact
