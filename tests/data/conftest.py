"""Bags made of core values, serialized by rosbags, written by our writer."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.values import NS, Command, Contact, Goal, Imu, Odom, Plan, Sample, Scan, ns
from dsac_robot.data.decode import GuardState
from dsac_robot.data.mcap_writer import BagTopic, BagWriter, OfferedQos

Row = tuple[str, Sample | GuardState | Verdict, int]  # topic, value, log time
Written = Callable[..., Path]

STORE = get_typestore(Stores.LATEST)
TYPES = STORE.types
LATCHED = OfferedQos(durability="transient_local")


def header(stamp_ns: int, frame: str):
    stamp = TYPES["builtin_interfaces/msg/Time"](sec=stamp_ns // NS, nanosec=stamp_ns % NS)
    return TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def vector(x: float = 0.0, y: float = 0.0, z: float = 0.0):
    return TYPES["geometry_msgs/msg/Vector3"](x=x, y=y, z=z)


def pose(x: float, y: float, qz: float = 0.0, qw: float = 1.0):
    return TYPES["geometry_msgs/msg/Pose"](
        position=TYPES["geometry_msgs/msg/Point"](x=x, y=y, z=0.0),
        orientation=TYPES["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=qz, w=qw),
    )


def twist(speed: float, yaw_rate: float):
    return TYPES["geometry_msgs/msg/Twist"](linear=vector(speed), angular=vector(z=yaw_rate))


def message_of(value: Sample | GuardState | Verdict, frame: str = "odom") -> tuple[str, object]:
    """The message type and message of a value."""
    if isinstance(value, Scan):
        return "sensor_msgs/msg/LaserScan", TYPES["sensor_msgs/msg/LaserScan"](
            header=header(value.stamp_ns, value.frame_id),
            angle_min=value.angle_min_rad,
            angle_max=0.0,
            angle_increment=value.angle_increment_rad,
            time_increment=0.0,
            scan_time=0.1,
            range_min=0.0,
            range_max=10.0,
            ranges=value.ranges_m,
            intensities=np.zeros(0, np.float32),
        )
    if isinstance(value, Odom):
        zeros = np.zeros(36)
        return "nav_msgs/msg/Odometry", TYPES["nav_msgs/msg/Odometry"](
            header=header(value.stamp_ns, "odom"),
            child_frame_id="base_link",
            pose=TYPES["geometry_msgs/msg/PoseWithCovariance"](
                pose=pose(value.x_m, value.y_m, value.qz, value.qw), covariance=zeros
            ),
            twist=TYPES["geometry_msgs/msg/TwistWithCovariance"](
                twist=twist(value.speed_mps, value.yaw_rate_radps), covariance=zeros
            ),
        )
    if isinstance(value, Imu):
        nine = np.zeros(9)
        return "sensor_msgs/msg/Imu", TYPES["sensor_msgs/msg/Imu"](
            header=header(value.stamp_ns, "base_link"),
            orientation=pose(0.0, 0.0).orientation,
            orientation_covariance=nine,
            angular_velocity=vector(z=value.yaw_rate_radps),
            angular_velocity_covariance=nine,
            linear_acceleration=vector(value.accel_x_mps2, value.accel_y_mps2),
            linear_acceleration_covariance=nine,
        )
    if isinstance(value, Command):
        return "geometry_msgs/msg/TwistStamped", TYPES["geometry_msgs/msg/TwistStamped"](
            header=header(value.stamp_ns, "base_link"), twist=twist(value.speed_mps, value.yaw_rate_radps)
        )
    if isinstance(value, Goal):
        return "geometry_msgs/msg/PoseStamped", TYPES["geometry_msgs/msg/PoseStamped"](
            header=header(value.stamp_ns, frame), pose=pose(value.x_m, value.y_m)
        )
    if isinstance(value, Plan):
        return "nav_msgs/msg/Path", path_message(value, frame)
    if isinstance(value, Contact):
        return "sensor_msgs/msg/Range", TYPES["sensor_msgs/msg/Range"](
            header=header(value.stamp_ns, "bumper"),
            radiation_type=1,
            field_of_view=0.0,
            min_range=0.0,
            max_range=0.0,
            range=-math.inf if value.touching else math.inf,
            variance=0.0,
        )
    return "diagnostic_msgs/msg/DiagnosticArray", state_message(value)


def path_message(plan: Plan, frame: str):
    """The plan with its speed as the schedule of its poses."""
    ways_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(plan.points_m, axis=0), axis=1))])
    poses = [
        TYPES["geometry_msgs/msg/PoseStamped"](
            header=header(plan.stamp_ns + ns(way_m / plan.speed_mps), frame), pose=pose(x, y)
        )
        for (x, y), way_m in zip(plan.points_m.tolist(), ways_m.tolist(), strict=True)
    ]
    return TYPES["nav_msgs/msg/Path"](header=header(plan.stamp_ns, frame), poses=poses)


def state_message(value: GuardState | Verdict):
    if isinstance(value, Verdict):
        numbers = {
            "score": value.score,
            "caution_threshold": value.caution_threshold,
            "alarm_threshold": value.alarm_threshold,
        }
    else:
        numbers = {"speed_mps": value.speed_mps, "yaw_rate_radps": value.yaw_rate_radps}
    shown = {
        "level": str(int(value.level)),
        "reason": str(int(value.reason)),
        "judged_stamp_ns": str(value.judged_stamp_ns),
        **{key: repr(number) for key, number in numbers.items()},
    }
    pairs = [TYPES["diagnostic_msgs/msg/KeyValue"](key=key, value=text) for key, text in shown.items()]
    status = TYPES["diagnostic_msgs/msg/DiagnosticStatus"](
        level=0, name="x", message=value.reason.name, hardware_id="", values=pairs
    )
    return TYPES["diagnostic_msgs/msg/DiagnosticArray"](header=header(value.stamp_ns, ""), status=[status])


def serialized(value: Sample | GuardState | Verdict, frame: str = "odom") -> tuple[str, bytes]:
    """The message type and CDR bytes of a value."""
    kind, message = message_of(value, frame)
    return kind, bytes(STORE.serialize_cdr(message, kind))


def write_bag(path: Path, rows: Iterable[Row], namespace: str = "", goal_frame: str = "odom", **options: int) -> Path:
    """A bag of values, each on its topic."""
    with BagWriter(path, **options) as writer:
        for topic, value, log_time_ns in rows:
            name = f"{namespace}/{topic}"
            kind, data = serialized(value, goal_frame)
            latched = topic in ("goal_pose", "plan")
            writer.add_topic(BagTopic(name, kind, (LATCHED if latched else OfferedQos(),), int(latched)))
            writer.write(name, data, log_time_ns)
    return path


@pytest.fixture
def bag_of(tmp_path: Path) -> Written:
    """A function (rows, name="bag", **options) -> path of a bag below tmp_path."""

    def made(rows: Iterable[Row], name: str = "bag", **options: int) -> Path:
        return write_bag(tmp_path / name, rows, **options)

    return made


@pytest.fixture
def serialize() -> Callable[..., tuple[str, bytes]]:
    """A function value -> (message type, CDR bytes)."""
    return serialized
