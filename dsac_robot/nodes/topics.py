"""The topic table as data: name, type and QoS of every topic. The nodes, the recorder and the simulated robot use it.

Names are relative, so that namespaces and several robots work; ``/clock``, ``/tf`` and ``/diagnostics`` are absolute by
ROS convention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import BatteryState, Imu, LaserScan, Range


@dataclass(frozen=True)
class Quality:
    """A QoS as plain data. ``profile()`` gives rclpy's object (a new one each time: rclpy's are mutable)."""

    text: str
    reliable: bool
    transient_local: bool
    depth: int

    def profile(self) -> QoSProfile:
        """The QoSProfile of this quality."""
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self.depth,
            reliability=ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.transient_local else DurabilityPolicy.VOLATILE,
        )


SENSOR_DATA = Quality("sensor data (best effort, depth 5)", reliable=False, transient_local=False, depth=5)
LATCHED = Quality("reliable, transient local, depth 1", reliable=True, transient_local=True, depth=1)
NEWEST = Quality("reliable, depth 1", reliable=True, transient_local=False, depth=1)
EVENTS = Quality("reliable, depth 10", reliable=True, transient_local=False, depth=10)
CLOCK_QUALITY = Quality("best effort, depth 1", reliable=False, transient_local=False, depth=1)


@dataclass(frozen=True)
class Topic:
    """One row of the table."""

    name: str
    type: Any  # the message class
    quality: Quality
    publishers: str
    notes: str

    @property
    def qos(self) -> QoSProfile:
        """The profile that every publisher and subscription of the topic uses."""
        return self.quality.profile()

    @property
    def type_name(self) -> str:
        """The type as ROS writes it, ``sensor_msgs/msg/LaserScan``."""
        package, kind = self.type.__module__.split(".")[:2]
        return f"{package}/{kind}/{self.type.__name__}"


SCAN = Topic("scan", LaserScan, SENSOR_DATA, "lidar driver", "REP-117; the stamp is the tick's name")
ODOM = Topic("odom", Odometry, SENSOR_DATA, "base", "pose in `odom`, twist in `base_link`")
IMU = Topic("imu", Imu, SENSOR_DATA, "base", "optional")
CONTACT = Topic(
    "contact",
    Range,
    EVENTS,
    "bumper, optional",
    "a fixed-distance ranger: `-inf` touching, `+inf` not; stamped, so that rewards can be recomputed from a bag",
)
GOAL_POSE = Topic("goal_pose", PoseStamped, LATCHED, "operator, planner", "in `odom` or `base_link`")
PLAN = Topic(
    "plan",
    Path,
    LATCHED,
    "planner",
    "in `odom` or `base_link`; the goal is its last pose. Bundles of `track` follow it, at the speed that the poses'"
    " stamps give where each is later than the one before, else at `plan_speed_mps`",
)
POLICY_CMD_VEL = Topic(
    "policy/cmd_vel", TwistStamped, NEWEST, "policy", "in `base_link`; the stamp is that of the newest scan used"
)
TELEOP_CMD_VEL = Topic("teleop/cmd_vel", TwistStamped, NEWEST, "operator", "in `base_link`; passes through the guard")
CMD_VEL = Topic("cmd_vel", TwistStamped, NEWEST, "safety_guard only", "what is sent; in `base_link`")
CMD_VEL_UNSTAMPED = Topic("cmd_vel", Twist, NEWEST, "safety_guard only", "instead, with `cmd_vel_type: Twist`")
OOD_STATE = Topic(
    "ood/state", DiagnosticArray, NEWEST, "ood_monitor", "one status; `judged_stamp_ns` is the stamp of the command"
)
SAFETY_STATE = Topic(
    "safety/state", DiagnosticArray, NEWEST, "safety_guard", "one status: level, typed reason and the numbers"
)
BASE_STATE = Topic(
    "base/state", DiagnosticArray, NEWEST, "base", "one status, 10 Hz: armed or why not; a base without it is not asked"
)
BATTERY_STATE = Topic("battery_state", BatteryState, SENSOR_DATA, "base", "10 Hz; what is not measured is NaN")
DIAGNOSTICS = Topic("/diagnostics", DiagnosticArray, EVENTS, "all nodes", "1 Hz")
CLOCK = Topic("/clock", Clock, CLOCK_QUALITY, "simulator, replay", "only with `use_sim_time`")

TOPICS: tuple[Topic, ...] = (
    SCAN,
    ODOM,
    IMU,
    CONTACT,
    GOAL_POSE,
    PLAN,
    POLICY_CMD_VEL,
    TELEOP_CMD_VEL,
    CMD_VEL,
    OOD_STATE,
    SAFETY_STATE,
    BASE_STATE,
    BATTERY_STATE,
    DIAGNOSTICS,
    CLOCK,
)


def cmd_vel_topic(cmd_vel_type: str) -> Topic:
    """The row of ``cmd_vel`` for the guard's parameter ``cmd_vel_type``: "TwistStamped" or "Twist"."""
    return {"TwistStamped": CMD_VEL, "Twist": CMD_VEL_UNSTAMPED}[cmd_vel_type]


def topics_markdown() -> str:
    """The table for docs/interfaces.md."""
    rows = ["| topic | type | QoS | published by | notes |", "|---|---|---|---|---|"]
    for topic in (*TOPICS, CMD_VEL_UNSTAMPED):
        rows.append(
            f"| `{topic.name}` | {topic.type_name} | {topic.quality.text} | {topic.publishers} | {topic.notes} |"
        )
    return "\n".join(rows)
