"""Messages to the core's values and back, exact: float32 ranges stay float32, stamps are integer nanoseconds.

Nothing here decides anything. A message that cannot be a value raises ConversionError naming the field and the value;
values that are merely bad (NaN, Inf, an old stamp) pass through, because the guard must see them.
"""

from __future__ import annotations

import array
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import Imu as ImuMessage
from sensor_msgs.msg import LaserScan, Range

from dsac_robot.core.history import History
from dsac_robot.core.kinematics import to_odom
from dsac_robot.core.robot import Lidar
from dsac_robot.core.values import NS, Command, Contact, Floats, Goal, Imu, Odom, Plan, Scan, ns

# (target frame, source frame, x, y) -> x, y in the target frame; LookupError where the frames are not connected (yet)
Lookup = Callable[[str, str, float, float], tuple[float, float]]

ODOM_FRAME = "odom"
BASE_FRAME = "base_link"
BUMPER_FRAME = "bumper"


class ConversionError(ValueError):
    """A message does not hold what its topic promises. The message names the field, the value and what is allowed."""


@dataclass(frozen=True)
class Frames:
    """Names of the frames, for several robots on one /tf tree."""

    odom: str = ODOM_FRAME
    base: str = BASE_FRAME


def same_frame(name: str, expected: str) -> bool:
    """True where two frame names are the same but for a leading slash (ROS 1 bags have one)."""
    return name.removeprefix("/") == expected.removeprefix("/")


def stamp_to_message(stamp_ns: int) -> Time:
    """builtin_interfaces/Time of integer nanoseconds; ConversionError outside what the message can hold."""
    if not 0 <= stamp_ns < 2**31 * NS:
        raise ConversionError(f"stamp {stamp_ns} ns is outside [0, 2^31 s): a Time message cannot hold it")
    return Time(sec=stamp_ns // NS, nanosec=stamp_ns % NS)


def stamp_from_message(stamp: Time) -> int:
    """Integer nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * NS + int(stamp.nanosec)


def scan_to_message(scan: Scan, lidar: Lidar) -> LaserScan:
    """LaserScan of a scan; range limits and rate are the lidar's. Angles are float32 in the message."""
    message = LaserScan()
    message.header.stamp = stamp_to_message(scan.stamp_ns)
    message.header.frame_id = scan.frame_id
    message.angle_min = scan.angle_min_rad
    message.angle_increment = scan.angle_increment_rad
    message.angle_max = scan.angle_min_rad + scan.angle_increment_rad * (len(scan.ranges_m) - 1)
    message.scan_time = 1.0 / lidar.rate_hz
    message.range_min = lidar.range_min_m
    message.range_max = lidar.range_max_m
    ranges = array.array("f")
    ranges.frombytes(np.ascontiguousarray(scan.ranges_m, np.float32).tobytes())
    message.ranges = ranges
    return message


def scan_from_message(message: LaserScan) -> Scan:
    """Scan of a LaserScan: the very float32 bits, NaN and Inf included, in an array that cannot be written."""
    ranges = np.array(message.ranges, np.float32)
    ranges.setflags(write=False)
    return Scan(
        stamp_from_message(message.header.stamp),
        ranges,
        float(message.angle_min),
        float(message.angle_increment),
        message.header.frame_id,
    )


def odom_to_message(odom: Odom, frames: Frames = Frames()) -> Odometry:
    """Odometry of a planar pose and twist. Covariances are zero: unknown."""
    message = Odometry()
    message.header.stamp = stamp_to_message(odom.stamp_ns)
    message.header.frame_id = frames.odom
    message.child_frame_id = frames.base
    message.pose.pose.position.x = odom.x_m
    message.pose.pose.position.y = odom.y_m
    message.pose.pose.orientation.z = odom.qz
    message.pose.pose.orientation.w = odom.qw
    message.twist.twist.linear.x = odom.speed_mps
    message.twist.twist.angular.z = odom.yaw_rate_radps
    return message


def odom_from_message(message: Odometry) -> Odom:
    """Odom of an Odometry. The quaternion's x and y (roll, pitch) are left out: the robot drives on a plane."""
    pose, twist = message.pose.pose, message.twist.twist
    return Odom(
        stamp_from_message(message.header.stamp),
        pose.position.x,
        pose.position.y,
        pose.orientation.z,
        pose.orientation.w,
        twist.linear.x,
        twist.angular.z,
    )


def imu_to_message(imu: Imu, frame_id: str = BASE_FRAME) -> ImuMessage:
    """Imu message; the orientation is marked as not estimated (covariance -1, as the message defines)."""
    message = ImuMessage()
    message.header.stamp = stamp_to_message(imu.stamp_ns)
    message.header.frame_id = frame_id
    message.orientation_covariance[0] = -1.0
    message.angular_velocity.z = imu.yaw_rate_radps
    message.linear_acceleration.x = imu.accel_x_mps2
    message.linear_acceleration.y = imu.accel_y_mps2
    return message


def imu_from_message(message: ImuMessage) -> Imu:
    """Imu of an Imu message: yaw rate and planar acceleration."""
    return Imu(
        stamp_from_message(message.header.stamp),
        message.angular_velocity.z,
        message.linear_acceleration.x,
        message.linear_acceleration.y,
    )


def contact_to_message(contact: Contact, frame_id: str = BUMPER_FRAME) -> Range:
    """The bumper as sensor_msgs/Range knows a fixed-distance ranger: -inf where something touches, +inf where not.

    std_msgs/Bool has no stamp, and rewards are recomputed from bags by stamp; of the stamped standard messages this is
    the one whose definition covers a binary detector (min_range = max_range = distance of detection, here 0).
    """
    message = Range()
    message.header.stamp = stamp_to_message(contact.stamp_ns)
    message.header.frame_id = frame_id
    message.radiation_type = Range.INFRARED
    message.min_range = message.max_range = 0.0
    message.range = -math.inf if contact.touching else math.inf
    return message


def contact_from_message(message: Range) -> Contact:
    """Contact of a fixed-distance Range; ConversionError if the range is neither -inf nor +inf."""
    if not math.isinf(message.range):
        raise ConversionError(f"contact range = {message.range} must be -inf (touching) or inf (not touching)")
    return Contact(stamp_from_message(message.header.stamp), message.range < 0.0)


def command_to_message(command: Command, frame_id: str = BASE_FRAME) -> TwistStamped:
    """TwistStamped of a command."""
    message = TwistStamped()
    message.header.stamp = stamp_to_message(command.stamp_ns)
    message.header.frame_id = frame_id
    message.twist = twist_to_message(command)
    return message


def command_from_message(message: TwistStamped) -> Command:
    """Command of a TwistStamped."""
    return Command(stamp_from_message(message.header.stamp), message.twist.linear.x, message.twist.angular.z)


def twist_to_message(command: Command) -> Twist:
    """Twist of a command; its stamp is lost."""
    message = Twist()
    message.linear.x = command.speed_mps
    message.angular.z = command.yaw_rate_radps
    return message


def twist_from_message(message: Twist, stamp_ns: int) -> Command:
    """Command of an unstamped Twist that was received at ``stamp_ns``."""
    return Command(stamp_ns, message.linear.x, message.angular.z)


def goal_to_message(goal: Goal, frames: Frames = Frames()) -> PoseStamped:
    """PoseStamped in the odom frame; the heading is the identity (a goal is a point)."""
    message = PoseStamped()
    message.header.stamp = stamp_to_message(goal.stamp_ns)
    message.header.frame_id = frames.odom
    message.pose.position.x = goal.x_m
    message.pose.position.y = goal.y_m
    message.pose.orientation.w = 1.0
    return message


def goal_from_message(
    message: PoseStamped | Path,
    history: History,
    received_ns: int,
    frames: Frames = Frames(),
    lookup: Lookup | None = None,
) -> Goal:
    """Goal in the odom frame from a pose, or from the last pose of a path (in the frame of the path's own header).

    In the base frame it is moved with the newest odometry stamped not after the goal, so that it depends on data and
    not on when it came; in other frames by ``lookup`` (tf2), if there is one. A stamp of 0, as `ros2 topic pub` sends,
    means ``received_ns``. Raises ConversionError naming the frame if nothing can place it, or for an empty path;
    LookupError (MissingSampleError is one) while the odometry or the transform is not there yet.
    """
    stamp_ns = stamp_from_message(message.header.stamp) or received_ns
    point = _goal_pose(message).position
    if not (math.isfinite(point.x) and math.isfinite(point.y)):
        raise ConversionError(f"goal position ({point.x}, {point.y}) must be finite")
    place = _placed(message.header.frame_id, "goal", stamp_ns, history, frames, lookup)
    return Goal(stamp_ns, *place(point.x, point.y))


def _placed(
    frame: str, what: str, stamp_ns: int, history: History, frames: Frames, lookup: Lookup | None
) -> Callable[[float, float], tuple[float, float]]:
    """What moves points of ``frame`` into the odom frame; raises as ``goal_from_message`` does."""
    if same_frame(frame, frames.odom):
        return lambda x, y: (x, y)
    if same_frame(frame, frames.base):
        odom = history.newest(Odom, stamp_ns)
        return lambda x, y: to_odom(odom, x, y)
    if lookup is None or not frame:
        raise ConversionError(
            f"{what} in frame {frame!r} refused: send it in {frames.odom!r} or {frames.base!r}"
            + ("" if lookup else "; other frames need tf2_ros, which is not installed")
        )
    return lambda x, y: lookup(frames.odom, frame, x, y)


def plan_to_message(plan: Plan, frames: Frames = Frames()) -> Path:
    """Path in the odom frame. The poses' stamps say when the plan's speed brings a robot there, from its own stamp."""
    message = Path()
    message.header.stamp = stamp_to_message(plan.stamp_ns)
    message.header.frame_id = frames.odom
    steps_m = np.diff(plan.points_m, axis=0)
    ways_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps_m, axis=1))])
    steps_m = np.concatenate([steps_m, steps_m[-1:]])
    for (x, y), (dx, dy), way_m in zip(plan.points_m.tolist(), steps_m.tolist(), ways_m.tolist(), strict=True):
        pose = PoseStamped()
        pose.header.stamp = stamp_to_message(plan.stamp_ns + ns(way_m / plan.speed_mps))
        pose.header.frame_id = frames.odom
        pose.pose.position.x, pose.pose.position.y = x, y
        half = 0.5 * math.atan2(dy, dx)
        pose.pose.orientation.z, pose.pose.orientation.w = math.sin(half), math.cos(half)
        message.poses.append(pose)
    return message


def plan_from_message(
    message: Path,
    speed_mps: float,
    history: History,
    received_ns: int,
    frames: Frames = Frames(),
    lookup: Lookup | None = None,
) -> Plan:
    """Plan in the odom frame from the positions of a path's poses; one that repeats the position before is left out.

    The speed is ``speed_mps``, unless the poses are a schedule, each stamped later than the one before: then it is
    the path's length over the time from the first to the last. Stamp and frame as ``goal_from_message`` has them
    (the frame is that of the path's own header). Raises as that does, and ConversionError for fewer than two positions.
    """
    stamp_ns = stamp_from_message(message.header.stamp) or received_ns
    points = np.array([(p.pose.position.x, p.pose.position.y) for p in message.poses], np.float64).reshape(-1, 2)
    if not np.all(np.isfinite(points)):
        raise ConversionError("plan: the position of each pose must be finite")
    points = points[np.concatenate([[True], np.any(np.diff(points, axis=0) != 0.0, axis=1)])] if len(points) else points
    if len(points) < 2:
        raise ConversionError(f"plan has {len(points)} different positions: following needs at least 2")
    place = _placed(message.header.frame_id, "plan", stamp_ns, history, frames, lookup)
    moved = np.array([place(x, y) for x, y in points.tolist()])
    try:
        return Plan(stamp_ns, moved, _scheduled_mps(message, points) or speed_mps)
    except ValueError as error:
        raise ConversionError(str(error)) from error


def _scheduled_mps(message: Path, points: Floats) -> float | None:
    """The mean speed of a path whose poses are a schedule."""
    stamps_ns = [stamp_from_message(pose.header.stamp) for pose in message.poses]
    if any(later <= earlier for earlier, later in itertools.pairwise(stamps_ns)):
        return None
    length_m = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return length_m * NS / (stamps_ns[-1] - stamps_ns[0])


def _goal_pose(message: PoseStamped | Path) -> Pose:
    if isinstance(message, PoseStamped):
        return message.pose
    if not message.poses:
        raise ConversionError("plan has no poses: send at least one; its last pose is the goal")
    return message.poses[-1].pose
