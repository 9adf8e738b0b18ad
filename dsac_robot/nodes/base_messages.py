"""Messages of the wire and the odometry's estimate as ROS messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import BatteryState
from sensor_msgs.msg import Imu as ImuMessage

from dsac_robot.core import robot
from dsac_robot.core.base_odometry import Estimate
from dsac_robot.core.protocol_messages import Imu, Status
from dsac_robot.core.values import Odom
from dsac_robot.nodes.converters import Frames, odom_to_message, stamp_to_message
from dsac_robot.nodes.lifecycle import StackNode
from dsac_robot.nodes.topics import EVENTS

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not everywhere
    TFMessage = None

STANDS = 1e-6  # variance of what a robot on a plane cannot do: z, roll, pitch; small, for filters that invert
X, Y, YAW = 0, 1, 5  # in the 6 x 6 covariances of ROS: x, y, z, roll, pitch, yaw


def odometry_message(estimate: Estimate, stamp_ns: int, frames: Frames) -> Odometry:
    """Odometry with both covariances; what cannot move on a plane has a small variance."""
    values = Odom.from_yaw(stamp_ns, *estimate.pose, estimate.speed_mps, estimate.yaw_rate_radps)
    message = odom_to_message(values, frames)
    pose, twist = message.pose.covariance, message.twist.covariance
    for axis in range(6):
        pose[7 * axis] = twist[7 * axis] = STANDS
    for i, row in enumerate((X, Y, YAW)):
        for j, column in enumerate((X, Y, YAW)):
            pose[6 * row + column] = float(estimate.pose_covariance[i, j])
    for i, row in enumerate((X, YAW)):
        for j, column in enumerate((X, YAW)):
            twist[6 * row + column] = float(estimate.twist_covariance[i, j])
    return message


def imu_message(imu: Imu, stamp_ns: int, frame_id: str, described: robot.Imu) -> ImuMessage:
    """Imu with all six axes; the orientation is marked as not estimated."""
    message = ImuMessage()
    message.header.stamp = stamp_to_message(stamp_ns)
    message.header.frame_id = frame_id
    message.orientation_covariance[0] = -1.0
    for axis in "xyz":
        setattr(message.angular_velocity, axis, getattr(imu, f"gyro_{axis}_uradps") * 1e-6)
        setattr(message.linear_acceleration, axis, getattr(imu, f"accel_{axis}_umps2") * 1e-6)
    for i in (0, 4, 8):
        message.angular_velocity_covariance[i] = described.gyro_noise_radps**2
        message.linear_acceleration_covariance[i] = described.accel_noise_mps2**2
    return message


def battery_message(status: Status, stamp_ns: int) -> BatteryState:
    """BatteryState with what is measured; NaN where the message says so for what is not."""
    message = BatteryState()
    message.header.stamp = stamp_to_message(stamp_ns)
    message.voltage = status.battery_mv / 1e3
    message.current = -status.battery_ma / 1e3 if status.battery_ma else math.nan
    message.temperature = message.charge = message.capacity = message.design_capacity = message.percentage = math.nan
    message.power_supply_status = BatteryState.POWER_SUPPLY_STATUS_UNKNOWN
    message.present = True
    return message


def transform_publisher(node: StackNode) -> Callable[[Odometry], None]:
    """Publishes odom -> base on /tf where tf2_msgs can be imported; does nothing elsewhere."""
    if TFMessage is None:
        return lambda odometry: None
    publisher = node.create_publisher(TFMessage, "/tf", EVENTS.profile())
    node.at_cleanup(lambda: node.destroy_publisher(publisher))

    def publish(odometry: Odometry) -> None:
        transform: Any = TransformStamped(header=odometry.header, child_frame_id=odometry.child_frame_id)
        pose = odometry.pose.pose
        transform.transform.translation.x, transform.transform.translation.y = pose.position.x, pose.position.y
        transform.transform.rotation = pose.orientation
        publisher.publish(TFMessage(transforms=[transform]))

    return publish
