"""The node ``base``: the robot's wheels, IMU and battery on ROS topics, through a session with the firmware.

Configure opens the port and greets; activate arms; deactivate brings the robot to rest and disarms. All decisions
are in core/base_link.py and in the firmware: this node sends each ``cmd_vel`` once and invents none, so that whoever
falls silent, it, the guard or the wire, is missed by the firmware's own watchdog.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from std_srvs.srv import Trigger

from dsac_robot.core.base_clock import microseconds
from dsac_robot.core.base_link import BaseLink, BaseRefusal, Expected, Phase
from dsac_robot.core.base_odometry import DeadReckoning, OdometryParams, wheels_of_twist
from dsac_robot.core.firmware_params import FIRMWARE_VERSION, firmware_params, limits_crc
from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.protocol_enums import Param, State
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import Crash, Event, Imu, Odom, Status
from dsac_robot.core.reasons import Reason
from dsac_robot.nodes.base_driver import STOPPED, BaseDriver
from dsac_robot.nodes.base_messages import battery_message, imu_message, odometry_message, transform_publisher
from dsac_robot.nodes.base_port import check_port_name
from dsac_robot.nodes.converters import ConversionError, same_frame, stamp_from_message
from dsac_robot.nodes.inputs import RobotParams, robot_of
from dsac_robot.nodes.lifecycle import StackNode, value_pairs
from dsac_robot.nodes.run import spin
from dsac_robot.nodes.states import BaseState, base_to_message
from dsac_robot.nodes.topics import BASE_STATE, BATTERY_STATE, IMU, ODOM, cmd_vel_topic

STATE_PERIOD_S = 0.1
DISARM_S = 2.0
OFFSETS_KEPT = 200  # messages, about a second


@dataclass(frozen=True)
class BaseParams:
    """Parameters of the base's node alone."""

    port: str = param("/dev/ttyACM0", unit="", help="serial device, or socket://HOST:PORT")
    baud: int = param(921600, unit="bit/s", low=1200, high=4_000_000, help="speed of a serial device")
    connect_timeout_s: float = param(
        5.0, unit="s", low=0.5, high=60.0, help="activation fails where the base cannot be armed within this time"
    )
    firmware_build: str = param(
        "", unit="", help="build id (16 hex digits) that the base must have; empty: any build of this version"
    )
    imu_frame: str = param("base_link", unit="", help="frame of the IMU; its axes must be those of the base")


class BaseNode(StackNode):
    """The node ``base``."""

    def __init__(self, arguments: list[str] | None = None, context: Any = None) -> None:
        super().__init__("base", RobotParams, OdometryParams, BaseParams, arguments=arguments, context=context)

    def configure(self) -> None:
        self._params, self._robot_params = self.values(BaseParams), self.values(RobotParams)
        self._robot = robot_of(self._robot_params)
        check_port_name(self._params.port)
        wanted = firmware_params(self._robot)
        self._wheel_radps_max = wanted[Param.SPEED_RADPS_MAX]
        self._odometry = DeadReckoning(self._robot, self.values(OdometryParams))
        expected = Expected(wanted, limits_crc(self._robot), self._build_id(), FIRMWARE_VERSION)
        self._simulated = bool(self.get_clock().ros_time_is_active)
        self._offsets_ns: deque[int] = deque(maxlen=OFFSETS_KEPT)
        link = BaseLink(expected, lambda: secrets.randbelow(2**32 - 1) + 1, self._simulated)
        self._driver = BaseDriver(self._params.port, self._params.baud, link, self._on_messages, self._on_phase)
        self._stamp_ns = 0
        self._latency_s = float("nan")
        self._crash = ""
        self._odom, self._imu = self.publisher(ODOM), self.publisher(IMU)
        self._battery, self._state = self.publisher(BATTERY_STATE), self.publisher(BASE_STATE)
        self._send_transform = transform_publisher(self)
        self.subscribe(cmd_vel_topic(self._robot_params.cmd_vel_type), self._on_cmd_vel)
        for name, callback in (("arm", self._on_arm), ("disarm", self._on_disarm), ("clear", self._on_clear)):
            self.service(Trigger, f"~/{name}", callback)
        self.service(Trigger, "~/estop", self._on_estop)
        self.steady_timer(STATE_PERIOD_S, self._publish_state)
        self.diagnose(1.0, self._status)
        self._driver.start()

    def activate(self) -> None:
        """Arm. Raises BaseRefusal (an OSError, so a refusal) saying why the base cannot be armed."""
        self._driver.arm(self._params.connect_timeout_s)

    def deactivate(self) -> None:
        if not self._driver.disarm(DISARM_S):
            self.get_logger().error(f"the base did not say that it is at rest within {DISARM_S} s")

    def cleanup(self) -> None:
        self._driver.stop()

    @property
    def link(self) -> BaseLink:
        """The session, to look at."""
        return self._driver.link

    def _build_id(self) -> bytes | None:
        text = self._params.firmware_build
        try:
            made = bytes.fromhex(text)
        except ValueError:
            made = b"?"
        if len(made) not in (0, 8):
            raise ParameterError(f"firmware_build = {text!r} must be 16 hex digits, or empty for any build")
        return made or None

    # Commands.

    def _on_cmd_vel(self, message: Any) -> None:
        now_ns, age_ns = time.monotonic_ns(), 0
        twist = message
        if isinstance(message, TwistStamped):
            twist, frame = message.twist, message.header.frame_id
            if frame and not same_frame(frame, self._robot_params.base_frame):
                raise ConversionError(f"header.frame_id = {frame!r} must be {self._robot_params.base_frame!r}")
            age_ns = max(0, self.now_ns() - stamp_from_message(message.header.stamp))
        wheels = wheels_of_twist(twist.linear.x, twist.angular.z, self._robot, self._wheel_radps_max)
        self._driver.command(*wheels, now_ns - age_ns)

    # What the base sends; in the driver's thread.

    def _on_messages(self, messages: list[Message], came_ns: int) -> None:
        for message in messages:
            if isinstance(message, Odom):
                self._on_odom(message, came_ns)
            elif isinstance(message, Imu):
                self._odometry.add_gyro(message.t_us, message.gyro_z_uradps * 1e-6)
                stamp_ns = self._ros_ns(message.t_us, came_ns)
                if stamp_ns is not None:
                    self._imu.publish(imu_message(message, stamp_ns, self._params.imu_frame, self._robot.imu))
            elif isinstance(message, Status):
                self._battery.publish(battery_message(message, self.now_ns()))
            elif isinstance(message, Event):
                self.get_logger().info(f"base: {message.code.name} ({message.value}), {message.state.name}")
            elif isinstance(message, Crash):
                self._crash = f"boot {message.boots}: {message.reset_cause.name} at pc {message.pc:#010x}"

    def _on_odom(self, message: Odom, came_ns: int) -> None:
        estimate = self._odometry.add_ticks(message.t_us, message.left_ticks, message.right_ticks)
        stamp_ns = self._ros_ns(message.t_us, came_ns)
        if stamp_ns is None or stamp_ns <= self._stamp_ns:
            return
        self._stamp_ns = stamp_ns
        odometry = odometry_message(estimate, stamp_ns, self._robot_params.frames)
        self._odom.publish(odometry)
        self._send_transform(odometry)

    def _ros_ns(self, t_us: int, came_ns: int) -> int | None:
        """ROS time of a stamp of the base; None while its clock is not known. Not after now.

        Simulated, both clocks count the same time: their difference is the least that is seen, when nothing was late.
        """
        if self._simulated:
            self._offsets_ns.append(self.now_ns() - 1000 * t_us)
            return 1000 * t_us + min(self._offsets_ns)
        try:
            age_ns = came_ns - 1000 * self.link.clock.to_host_us(t_us, microseconds(came_ns))
        except LookupError:
            return None
        self._latency_s = age_ns * 1e-9
        return self.now_ns() - max(0, age_ns + time.monotonic_ns() - came_ns)

    def _on_phase(self, phase: Phase, why: str) -> None:
        if phase in (Phase.CLOSED, Phase.REFUSED) and why != STOPPED:
            self.get_logger().error(f"{phase.name}: {why}")
        else:
            self.get_logger().info(f"{phase.name}: {why}".rstrip(": "))

    # Services.

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.active:
            response.success, response.message = False, "the node is not active: activate it, that arms"
            return response
        return self._answer(response, lambda: self._driver.arm(self._params.connect_timeout_s))

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, lambda: self._driver.disarm(DISARM_S))

    def _on_clear(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, lambda: self._driver.clear(DISARM_S))

    def _on_estop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._driver.estop)

    def _answer(self, response: Any, act: Any) -> Any:
        try:
            response.success = act() is not False
            response.message = f"{self.link.phase.name} {self.link.stopped_because}".rstrip()
        except BaseRefusal as refusal:
            response.success, response.message = False, str(refusal)
        return response

    # What is said of it.

    def _publish_state(self) -> None:
        self._driver.check()
        link = self.link
        if link.phase == Phase.ARMED:
            reason = Reason.NONE
        elif link.state == State.ESTOP:
            reason = Reason.BASE_ESTOP
        elif link.state == State.FAULT:
            reason = Reason.BASE_FAULT
        else:
            reason = Reason.BASE_NOT_ARMED
        pressed = bool(link.status and link.status.estop_pressed)
        state = -1 if link.state is None else int(link.state)
        self._state.publish(
            base_to_message(BaseState(self.now_ns(), reason, int(link.phase), state, int(link.faults), pressed))
        )

    def _status(self) -> DiagnosticStatus:
        link, hello, status, theirs = self.link, self.link.hello, self.link.status, self.link.base_counters
        armed = link.phase == Phase.ARMED
        level = DiagnosticStatus.OK if armed else DiagnosticStatus.WARN
        if link.phase in (Phase.CLOSED, Phase.REFUSED) or link.latched:
            level = DiagnosticStatus.ERROR
        why = link.refusal or link.stopped_because
        made = DiagnosticStatus(level=level, name="base", message=f"{link.phase.name} {why}".rstrip())
        made.values = value_pairs(
            port=self._params.port,
            state="unknown" if link.state is None else link.state.name,
            faults=link.faults_text or "none",
            estop_pressed=bool(status and status.estop_pressed),
            round_trip_ms=link.clock.round_trip_us / 1e3,
            clock_error_ms=link.clock.error_us(microseconds(time.monotonic_ns())) / 1e3,
            odom_latency_ms=self._latency_s * 1e3,
            connections=self._driver.tries,
            sessions=link.sessions,
            commands_sent=link.commands_sent,
            frames_unsent=self._driver.frames_dropped,
            gyro_bias_radps=self._odometry.bias_radps,
        )
        if hello is not None:
            made.values += value_pairs(
                firmware=f"{hello.version_major}.{hello.version_minor}.{hello.version_patch}",
                git=hello.git.hex() + ("-dirty" if hello.dirty else ""),
                build=hello.build_id.hex(),
                boots=hello.boots,
                crash=self._crash or "none",
            )
        if status is not None:
            made.values += value_pairs(
                battery_v=status.battery_mv / 1e3,
                params_crc=f"{status.params_crc:#010x}",
                missed_ticks=status.missed_ticks,
                loop_us_max=status.loop_us_max,
            )
        made.values += value_pairs(**{f"received_{name}": value for name, value in vars(link.counters).items()})
        made.values += value_pairs(**{f"not_sent_{name}": value for name, value in link.commands_dropped.items()})
        made.values += value_pairs(**{f"refused_{name}": value for name, value in link.nacks.items()})
        if theirs is not None:
            counts = {f"base_{name}": value for name, value in vars(theirs).items() if name != "t_us"}
            made.values += value_pairs(**counts)
        return made


def main() -> int:
    """The base's node as a process; returns its exit status."""
    return spin(BaseNode)


if __name__ == "__main__":
    sys.exit(main())
