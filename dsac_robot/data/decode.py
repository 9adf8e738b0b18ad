"""Messages of a bag, as rosbags decodes them, to the core's values: the one border where fields are named.

The same numbers as the nodes' converters give for the same bytes (a test holds them together).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.ood import check_numbers
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.values import NS, Command, Contact, Floats, Imu, Odom, Scan


class DecodeError(ValueError):
    """A message does not hold what its topic promises. The message names the field and the value."""


@dataclass(frozen=True)
class GoalPoint:
    """A goal as it was sent: in a named frame, not yet in odometry's."""

    stamp_ns: int
    frame_id: str
    x_m: float
    y_m: float


@dataclass(frozen=True, eq=False)
class PlanPoints:
    """A plan as it was sent: in a named frame, with its speed where its poses are a schedule."""

    goal: GoalPoint  # its last pose
    points_m: Floats  # (N, 2), no two in a row the same
    speed_mps: float | None


@dataclass(frozen=True)
class GuardState:
    """What safety/state said: who is in command and why, and the twist that was sent."""

    stamp_ns: int
    judged_stamp_ns: int
    level: Level
    reason: Reason
    speed_mps: float
    yaw_rate_radps: float


Decoded = Scan | Odom | Imu | Contact | Command | GoalPoint | PlanPoints | GuardState | Verdict
Decoder = Callable[[Any, int], Decoded]  # the message and the time at which it was logged


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * NS + int(stamp.nanosec)


def _scan(message: Any, log_time_ns: int) -> Scan:
    ranges = np.array(message.ranges, np.float32)
    ranges.setflags(write=False)
    return Scan(
        _stamp_ns(message),
        ranges,
        float(message.angle_min),
        float(message.angle_increment),
        str(message.header.frame_id),
    )


def _odom(message: Any, log_time_ns: int) -> Odom:
    pose, twist = message.pose.pose, message.twist.twist
    return Odom(
        _stamp_ns(message),
        float(pose.position.x),
        float(pose.position.y),
        float(pose.orientation.z),
        float(pose.orientation.w),
        float(twist.linear.x),
        float(twist.angular.z),
    )


def _imu(message: Any, log_time_ns: int) -> Imu:
    accel = message.linear_acceleration
    return Imu(_stamp_ns(message), float(message.angular_velocity.z), float(accel.x), float(accel.y))


def _twist_stamped(message: Any, log_time_ns: int) -> Command:
    twist = message.twist
    return Command(_stamp_ns(message), float(twist.linear.x), float(twist.angular.z))


def _twist(message: Any, log_time_ns: int) -> Command:
    return Command(log_time_ns, float(message.linear.x), float(message.angular.z))


def _range_contact(message: Any, log_time_ns: int) -> Contact:
    if not math.isinf(message.range):
        raise DecodeError(f"contact range = {message.range} must be -inf (touching) or inf (not touching)")
    return Contact(_stamp_ns(message), bool(message.range < 0.0))


def _bool_contact(message: Any, log_time_ns: int) -> Contact:
    return Contact(log_time_ns, bool(message.data))


def _goal(message: Any, log_time_ns: int) -> GoalPoint:
    return _goal_point(message, message.pose, log_time_ns)


def _plan(message: Any, log_time_ns: int) -> PlanPoints:
    if not len(message.poses):
        raise DecodeError("plan has no poses: its last pose would be the goal")
    goal = _goal_point(message, message.poses[-1].pose, log_time_ns)
    positions = (pose.pose.position for pose in message.poses)
    points = np.array([(float(place.x), float(place.y)) for place in positions], np.float64)
    if not np.all(np.isfinite(points)):
        raise DecodeError("plan: the position of each pose must be finite")
    points = points[np.concatenate([[True], np.any(np.diff(points, axis=0) != 0.0, axis=1)])]
    return PlanPoints(goal, points, _scheduled_mps([_stamp_ns(pose) for pose in message.poses], points))


def _scheduled_mps(stamps_ns: list[int], points_m: Floats) -> float | None:
    """The mean speed of poses each stamped later than the one before; None for others. # (N, 2)"""
    if len(stamps_ns) < 2 or any(later <= earlier for earlier, later in pairwise(stamps_ns)):
        return None
    length_m = float(np.linalg.norm(np.diff(points_m, axis=0), axis=1).sum())
    return length_m * NS / (stamps_ns[-1] - stamps_ns[0])


def _goal_point(message: Any, pose: Any, log_time_ns: int) -> GoalPoint:
    x_m, y_m = float(pose.position.x), float(pose.position.y)
    if not (math.isfinite(x_m) and math.isfinite(y_m)):
        raise DecodeError(f"goal position ({x_m}, {y_m}) must be finite")
    frame = str(message.header.frame_id).removeprefix("/")
    stamp_ns = _stamp_ns(message) or log_time_ns  # `ros2 topic pub` sends 0
    return GoalPoint(stamp_ns, frame, x_m, y_m)


def _values(message: Any) -> dict[str, str]:
    if len(message.status) != 1:
        raise DecodeError(f"expected one status, got {len(message.status)}")
    return {str(value.key): str(value.value) for value in message.status[0].values}


def _number(values: Mapping[str, str], key: str) -> float:
    try:
        return float(values[key])
    except KeyError:
        raise DecodeError(f"status value {key} is missing; there are {', '.join(values)}") from None
    except ValueError:
        raise DecodeError(f"status value {key} = {values[key]!r} is no number") from None


def _integer(values: Mapping[str, str], key: str) -> int:
    try:
        return int(values[key])
    except KeyError:
        raise DecodeError(f"status value {key} is missing; there are {', '.join(values)}") from None
    except ValueError:
        raise DecodeError(f"status value {key} = {values[key]!r} is no integer") from None


def _guard(message: Any, log_time_ns: int) -> GuardState:
    values = _values(message)
    try:
        level, reason = Level(_integer(values, "level")), Reason(_integer(values, "reason"))
    except ValueError as error:
        raise DecodeError(f"safety state: {error}") from error
    speed, yaw_rate = _number(values, "speed_mps"), _number(values, "yaw_rate_radps")
    judged = _integer(values, "judged_stamp_ns")
    return GuardState(_stamp_ns(message), judged, level, reason, speed, yaw_rate)


def _verdict(message: Any, log_time_ns: int) -> Verdict:
    values = _values(message)
    try:
        level, reason = OodLevel(_integer(values, "level")), Reason(_integer(values, "reason"))
        score, caution, alarm = (_number(values, key) for key in ("score", "caution_threshold", "alarm_threshold"))
        check_numbers(level, (score, caution, alarm))
    except DecodeError:
        raise
    except ValueError as error:
        raise DecodeError(f"ood state: {error}") from error
    return Verdict(_stamp_ns(message), _integer(values, "judged_stamp_ns"), level, reason, score, caution, alarm)


# By the topic's relative name, then by message type.
DECODERS: Mapping[str, Mapping[str, Decoder]] = {
    "scan": {"sensor_msgs/msg/LaserScan": _scan},
    "odom": {"nav_msgs/msg/Odometry": _odom},
    "imu": {"sensor_msgs/msg/Imu": _imu},
    "contact": {"sensor_msgs/msg/Range": _range_contact, "std_msgs/msg/Bool": _bool_contact},
    "goal_pose": {"geometry_msgs/msg/PoseStamped": _goal},
    "plan": {"nav_msgs/msg/Path": _plan},
    "cmd_vel": {"geometry_msgs/msg/TwistStamped": _twist_stamped, "geometry_msgs/msg/Twist": _twist},
    "policy/cmd_vel": {"geometry_msgs/msg/TwistStamped": _twist_stamped, "geometry_msgs/msg/Twist": _twist},
    "safety/state": {"diagnostic_msgs/msg/DiagnosticArray": _guard},
    "ood/state": {"diagnostic_msgs/msg/DiagnosticArray": _verdict},
}
