"""Goals in other frames than odom and base: moved by tf2 where tf2_ros can be imported, refused elsewhere."""

from __future__ import annotations

import math
from typing import Any

from rclpy.time import Time

from dsac_robot.nodes.converters import Lookup
from dsac_robot.nodes.lifecycle import StackNode

try:
    import tf2_ros
except ImportError:  # not on PyPI; a robot's system ROS has it
    tf2_ros = None


def planar(transform: Any, x_m: float, y_m: float) -> tuple[float, float]:
    """A point moved by a geometry_msgs/Transform, yaw only."""
    yaw_rad = 2.0 * math.atan2(transform.rotation.z, transform.rotation.w)
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return transform.translation.x + c * x_m - s * y_m, transform.translation.y + s * x_m + c * y_m


def make_lookup(node: StackNode) -> Lookup | None:
    """A lookup in the newest transforms that ``node`` hears, or None where tf2_ros is not installed."""
    if tf2_ros is None:
        return None
    buffer = tf2_ros.Buffer()
    node.at_cleanup(tf2_ros.TransformListener(buffer, node).unregister)

    def lookup(target: str, source: str, x_m: float, y_m: float) -> tuple[float, float]:
        try:
            found = buffer.lookup_transform(target, source, Time())
        except tf2_ros.TransformException as error:
            raise LookupError(str(error)) from error
        return planar(found.transform, x_m, y_m)

    return lookup
