"""What the policy and the monitor both listen to: the raw topics that an observation is made of.

A tick for the scan or command stamped t runs when the scan of that stamp and odometry stamped at or after t have come,
so that the observation is a function of the data and not of the order in which messages arrive; at the latest after
``observation_wait_s``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import LaserScan

from dsac_robot.bundle.deployed import Bundle, load_bundle
from dsac_robot.bundle.runtime import CPU, CUDA, NATIVE, PROVIDERS, TENSORRT
from dsac_robot.core.files import share_path
from dsac_robot.core.history import History
from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Command, Odom, Plan, Sample, Scan, ns
from dsac_robot.nodes.converters import (
    ConversionError,
    Frames,
    command_from_message,
    goal_from_message,
    imu_from_message,
    odom_from_message,
    plan_from_message,
    same_frame,
    scan_from_message,
    twist_from_message,
)
from dsac_robot.nodes.lifecycle import StackNode
from dsac_robot.nodes.topics import GOAL_POSE, IMU, ODOM, PLAN, SCAN, cmd_vel_topic
from dsac_robot.nodes.transforms import make_lookup

GOAL_FUTURE_S_MAX = 1.0
SCANS_KEPT = 64


@dataclass(frozen=True)
class RobotParams:
    """Which robot it is and what its frames are called. The same for policy, monitor and guard."""

    robot: str = param("jackal", unit="", help="robot of config/robots, or the path of a .yaml file")
    odom_frame: str = param("odom", unit="", help="frame of the odometry's pose")
    base_frame: str = param("base_link", unit="", help="frame of the odometry's twist and of all commands")
    scan_frame: str = param("", unit="", help="frame of the scan; empty: lidar.frame_id of the robot file")
    cmd_vel_type: str = param("TwistStamped", unit="", choices=("TwistStamped", "Twist"), help="type of cmd_vel")

    @property
    def frames(self) -> Frames:
        """The names of the odom and the base frame."""
        return Frames(self.odom_frame, self.base_frame)


@dataclass(frozen=True)
class BundleParams:
    """Which bundle is used, and whose signature is believed."""

    bundle: str = param("navigate_jackal", unit="", help="bundle of config/bundles, or the path of a directory")
    trusted_keys: str = param("", unit="", help="directory of .pub files; empty: config/trusted_keys")
    provider: str = param(
        "auto", unit="", choices=("auto", "tensorrt", "cuda", "cpu"), help="what runs the models; auto: the fastest"
    )
    allow_unsigned: bool = param(False, unit="", help="use an unsigned bundle; every diagnostic then says so")
    observation_wait_s: float = param(
        0.02, unit="s", low=0.0, high=0.2, help="longest wait for the odometry that follows a scan"
    )
    plan_speed_mps: float = param(
        0.3, unit="m/s", low=0.01, high=10.0, help="speed at which a plan is followed whose poses are no schedule"
    )


def robot_of(params: RobotParams) -> Robot:
    """The robot description that the parameters name. Raises ParameterError as ``load_robot`` does."""
    robot = load_robot(params.robot)
    return robot if not params.scan_frame else replace(robot, lidar=replace(robot.lidar, frame_id=params.scan_frame))


def providers_of(params: BundleParams) -> tuple[str, ...]:
    """The providers to try. One that is named alone must be there, or the node refuses to configure."""
    named = {"tensorrt": (NATIVE, TENSORRT), "cuda": (CUDA,), "cpu": (CPU,)}
    return PROVIDERS if params.provider == "auto" else named[params.provider]


def bundle_of(params: BundleParams) -> Bundle:
    """The verified bundle that the parameters name. Raises ParameterError or BundleError naming what is wrong."""
    path = FilePath(params.bundle)
    if not path.is_dir():
        try:
            path = share_path("config", "bundles", params.bundle)
        except FileNotFoundError as error:
            raise ParameterError(
                f"bundle = {params.bundle!r} is no directory and not in config/bundles: {error}"
            ) from None
    return load_bundle(path, params.trusted_keys or None, params.allow_unsigned)


def signature_of(bundle: Bundle) -> str:
    """Who signed the bundle, or a shout that nobody did."""
    if bundle.signed_by is None:
        return f"UNSIGNED! {bundle.warning}"
    return f"{bundle.signed_by.fingerprint} {bundle.signed_by.comment}".rstrip()


class RobotMessages:
    """Messages of one robot to values, with their frames checked. Each raises ConversionError for a wrong frame."""

    def __init__(self, params: RobotParams, robot: Robot) -> None:
        self._params, self._robot = params, robot

    def scan(self, message: LaserScan) -> Scan:
        """The scan, in the robot's lidar frame."""
        self._expect("scan", "header.frame_id", message.header.frame_id, self._robot.lidar.frame_id)
        return replace(scan_from_message(message), frame_id=self._robot.lidar.frame_id)

    def odom(self, message: Odometry) -> Odom:
        """The odometry, pose in the odom frame and twist in the base frame."""
        self._expect("odom", "header.frame_id", message.header.frame_id, self._params.odom_frame)
        self._expect("odom", "child_frame_id", message.child_frame_id, self._params.base_frame)
        return odom_from_message(message)

    def command(self, message: TwistStamped) -> Command:
        """The twist, in the base frame (an empty frame is taken as such)."""
        if message.header.frame_id:
            self._expect("command", "header.frame_id", message.header.frame_id, self._params.base_frame)
        return command_from_message(message)

    def _expect(self, what: str, field: str, frame: str, expected: str) -> None:
        if not same_frame(frame, expected):
            raise ConversionError(
                f"{what}: {field} = {frame!r} must be {expected!r}: set the driver's or our parameter"
            )


class ObservationInputs:
    """Subscribes ``node`` to what an observation is made of, and runs ``tick(stamp)`` when its data are there.

    ``add`` takes each sample (ValueError from it drops the sample with a log line), ``on_scan`` hears of each scan
    stamp, ``reset`` is called when the clock jumps back. ``request(stamp_ns)`` asks for a tick. A Path on ``plan`` is
    the Goal at its last pose; where ``follows_plan``, the Plan too, and a goal without a plan is refused.
    """

    def __init__(
        self,
        node: StackNode,
        params: RobotParams,
        robot: Robot,
        bundle: BundleParams,
        follows_plan: bool,
        add: Callable[[Sample], None],
        tick: Callable[[int], None],
        reset: Callable[[], None],
        on_scan: Callable[[int], None] | None = None,
    ) -> None:
        self._node, self._params = node, params
        self._messages = RobotMessages(params, robot)
        self._wait_ns = ns(bundle.observation_wait_s)
        self._plan_mps, self._fastest_mps = bundle.plan_speed_mps, robot.limits.speed_mps_max
        self._follows_plan = follows_plan
        self._add, self._tick, self._reset, self._on_scan = add, tick, reset, on_scan
        self._odoms = History()  # to place goals of the base frame
        self._newest_odom_ns = -1
        self._scan_stamps: deque[int] = deque(maxlen=SCANS_KEPT)
        self._waiting: dict[int, int] = {}  # stamp of an asked tick -> steady time at which it runs at the latest
        self._goals: dict[str, PoseStamped | Path] = {}  # goals that wait for odometry
        self._lookup = make_lookup(node)
        self._timer = node.steady_timer(max(bundle.observation_wait_s, 1e-3), self._on_timer)
        self._timer.cancel()
        node.subscribe(SCAN, self._scan)
        node.subscribe(ODOM, self._odom)
        node.subscribe(IMU, lambda message: self._take(imu_from_message(message)))
        node.subscribe(GOAL_POSE, lambda message: self._goal("goal_pose", message))
        node.subscribe(PLAN, lambda message: self._goal("plan", message))
        node.subscribe(cmd_vel_topic(params.cmd_vel_type), self._cmd_vel)
        node.on_clock_jump_back(self._jumped)

    def request(self, stamp_ns: int) -> None:
        """Ask for ``tick(stamp_ns)`` once odometry of that stamp or later is there, or the wait is over."""
        if self._complete(stamp_ns) or self._wait_ns == 0:
            self._tick(stamp_ns)
            return
        self._waiting.setdefault(stamp_ns, self._node.steady_ns() + self._wait_ns)
        self._timer.reset()

    @property
    def waiting(self) -> bool:
        """True while an asked tick has not run yet."""
        return bool(self._waiting)

    def has_scan(self, stamp_ns: int) -> bool:
        """True if the scan of exactly that stamp has come."""
        return stamp_ns in self._scan_stamps

    def _complete(self, stamp_ns: int) -> bool:
        return self._newest_odom_ns >= stamp_ns and self.has_scan(stamp_ns)

    def _run_due(self) -> None:
        now_ns = self._node.steady_ns()
        due = [t for t, deadline in self._waiting.items() if self._complete(t) or deadline <= now_ns]
        for stamp_ns in sorted(due):
            del self._waiting[stamp_ns]
            self._tick(stamp_ns)

    def _on_timer(self) -> None:
        self._run_due()
        if not self._waiting:
            self._timer.cancel()

    def _take(self, sample: Sample) -> None:
        try:
            self._add(sample)
        except ValueError as error:
            raise ConversionError(str(error)) from error

    def _scan(self, message: LaserScan) -> None:
        scan = self._messages.scan(message)
        self._take(scan)
        self._scan_stamps.append(scan.stamp_ns)
        if self._on_scan is not None:
            self._on_scan(scan.stamp_ns)
        self._run_due()

    def _odom(self, message: Odometry) -> None:
        odom = self._messages.odom(message)
        self._take(odom)
        self._odoms.add(odom)
        self._newest_odom_ns = max(self._newest_odom_ns, odom.stamp_ns)
        for name, waiting in list(self._goals.items()):
            self._goal(name, waiting)
        self._run_due()

    def _cmd_vel(self, message: Any) -> None:
        if isinstance(message, TwistStamped):
            self._take(self._messages.command(message))
        else:
            self._take(twist_from_message(message, self._node.now_ns()))

    def _goal(self, name: str, message: PoseStamped | Path) -> None:
        """Take a goal; one in the base frame waits for odometry."""
        now_ns = self._node.now_ns()
        self._goals.pop(name, None)  # a newer one replaces what waits
        if self._follows_plan and not isinstance(message, Path):
            raise ConversionError("the bundle follows a plan: send a nav_msgs/Path on `plan`; a goal alone is not used")
        frames = self._params.frames, self._lookup
        plan: Plan | None = None
        try:
            goal = goal_from_message(message, self._odoms, now_ns, *frames)
            if self._follows_plan and isinstance(message, Path):
                plan = plan_from_message(message, self._plan_mps, self._odoms, now_ns, *frames)
        except LookupError as error:
            self._goals[name] = message
            self._node.get_logger().warning(f"{name} waits: {error}", throttle_duration_sec=2.0)
            return
        if goal.stamp_ns > now_ns + ns(GOAL_FUTURE_S_MAX):
            raise ConversionError(
                f"goal stamped {goal.stamp_ns} ns is in the future of {now_ns} ns: its sender uses another clock "
                "(use_sim_time?); stamp it 0 for `now`"
            )
        if plan is not None:
            self._take_plan(plan)
        self._take(goal)
        self._node.get_logger().info(f"goal at ({goal.x_m:.2f}, {goal.y_m:.2f}) m in {self._params.odom_frame}")

    def _take_plan(self, plan: Plan) -> None:
        if plan.speed_mps > self._fastest_mps:
            raise ConversionError(
                f"plan at {plan.speed_mps:.3g} m/s is faster than the robot can: at most {self._fastest_mps} m/s; set "
                "plan_speed_mps, or the stamps of its poses"
            )
        self._take(plan)
        self._node.get_logger().info(f"plan of {len(plan.points_m)} points at {plan.speed_mps:.2f} m/s")

    def _jumped(self) -> None:
        self._node.get_logger().warning("the clock jumped back: forgetting all samples")
        self._odoms.clear()
        self._waiting.clear()
        self._goals.clear()
        self._newest_odom_ns = -1
        self._scan_stamps.clear()
        self._reset()
