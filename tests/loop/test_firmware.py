"""The whole robot, software in the loop: MuJoCo, the ARM firmware in QEMU, the base's node, guard and policy on ROS 2.

Simulated time, ROS time and the firmware's time are one, in lockstep on the plant port; what is asserted about time is
what the firmware's own stamps say.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from std_srvs.srv import SetBool, Trigger

from dsac_robot.apps.firmware_qemu import FirmwareInQemu, firmware_image
from dsac_robot.core.files import share_path
from dsac_robot.core.firmware_params import firmware_params
from dsac_robot.core.protocol_enums import COMMAND_TIMEOUT_S, EventCode, Param, State, StateRequest
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command
from dsac_robot.nodes import topics
from dsac_robot.nodes.converters import command_to_message
from tests.loop.graph import Graph, Listener
from tests.loop.link_tap import LinkTap

SPEED_MPS = 1.0
FACTOR = 0.4  # of real time at most, for a machine under load
TICK_S = 0.01  # two of the plant's steps
MODULES = {
    "base": "dsac_robot.nodes.base",
    "sim_bridge": "sim.ros_bridge",
    "safety_guard": "dsac_robot.nodes.safety_guard",
}


class Rig:
    """The firmware, the nodes that the robot's base needs, and an operator with a joystick."""

    def __init__(self, context: Context, robot: str = "jackal", world: str = "empty") -> None:
        self.firmware = FirmwareInQemu(firmware_image("jackal"))
        self.tap = LinkTap(self.firmware.link_port)
        self.graph = Graph(context)
        self.listener: Listener = self.graph.listen()
        self.parameters: dict[str, Mapping[str, object]] = {
            "sim_bridge": {"firmware_plant": self.firmware.plant_address, "world": world, "real_time_factor": FACTOR},
            "base": {"port": self.tap.url, "connect_timeout_s": 60.0},
        }
        self.robot = robot
        self.teleop = self.listener.node.create_publisher(
            topics.TELEOP_CMD_VEL.type, "teleop/cmd_vel", topics.TELEOP_CMD_VEL.qos
        )

    def start(self, name: str, module: str, **parameters: object) -> None:
        given = {"autostart": "true", "robot": self.robot, **self.parameters.get(name, {}), **parameters}
        if name != "sim_bridge":
            given["use_sim_time"] = "true"
        arguments = [part for key, value in given.items() for part in ("-p", f"{key}:={value}")]
        if name == "safety_guard":
            arguments += ["--params-file", str(share_path("config", "safety_guard_static.yaml"))]
        self.graph.start(name, ["-m", module, "--ros-args", *arguments])

    def start_base(self) -> None:
        for name, module in MODULES.items():
            self.start(name, module)

    def joystick(self, speed_mps: float) -> None:
        if self.listener.truth:
            command = Command(self.listener.truth[-1].stamp_ns, speed_mps, 0.0)
            self.teleop.publish(command_to_message(command))

    def until(self, done: Callable[[], bool], what: str, speed_mps: float | None = None) -> None:
        def step() -> bool:
            if speed_mps is not None:
                self.joystick(speed_mps)
            return done()

        self.graph.until(step, what)

    def call(self, name: str, enable: bool | None = None) -> Trigger.Response | SetBool.Response:
        client = self.listener.node.create_client(Trigger if enable is None else SetBool, name)
        self.until(client.service_is_ready, name)
        future = client.call_async(Trigger.Request() if enable is None else SetBool.Request(data=enable))
        self.until(future.done, f"{name} answers")
        return future.result()

    def armed(self) -> None:
        """As an operator does it. (While processes start on a busy machine the guard may be late for a base that armed
        when it was activated, and the base stops.)"""
        if self.tap.state != State.ACTIVE:
            self.until(lambda: self.tap.state in (State.IDLE, State.ACTIVE), "a base")
            if self.tap.state == State.IDLE:
                self.until(lambda: self.call("base/arm").success, "armed")
        self.until(lambda: self.tap.state == State.ACTIVE, "an active base")

    def to_speed(self) -> None:
        """Armed, and driving at SPEED_MPS."""
        fast = 0.9 * SPEED_MPS
        for _ in range(5):
            self.armed()
            self.until(
                lambda: self.listener.speed_mps > fast or self.tap.state != State.ACTIVE,
                "at speed, or stopped",
                SPEED_MPS,
            )
            if self.tap.state == State.ACTIVE:
                return
        raise AssertionError(f"never at speed: {self.tap.events(EventCode.COMMAND_TIMEOUT)}")

    def close(self) -> None:
        self.graph.close()
        self.tap.close()
        self.firmware.end()


@pytest.fixture
def rig(context: Context) -> Iterator[Rig]:
    made = Rig(context)
    yield made
    made.close()


def kill_the_base(rig: Rig) -> None:
    rig.graph.kill("base")


def kill_the_guard(rig: Rig) -> None:
    rig.graph.kill("safety_guard")


def pull_the_link(rig: Rig) -> None:
    rig.tap.cut = True


def restore(rig: Rig, death: Callable[[Rig], None]) -> None:
    rig.tap.cut = False
    for name in set(MODULES) - set(rig.graph.processes):
        rig.start(name, MODULES[name])


def assert_ramp(rig: Rig, robot: Robot, events_before: int) -> None:
    """By the firmware's own stamps: the ramp began in time and ended at rest in time."""
    tap = rig.tap
    timeout = tap.events(EventCode.COMMAND_TIMEOUT)[events_before]
    assert timeout.value * 1e-6 <= COMMAND_TIMEOUT_S + TICK_S
    rest = next(event for event in tap.events(EventCode.AT_REST) if event.t_us >= timeout.t_us)
    before = [m for m in tap.to_host if hasattr(m, "left_ticks") and m.t_us <= timeout.t_us][-1]
    radius = robot.base.wheel_radius_m
    speed = radius * 1e-3 * max(abs(before.left_mradps), abs(before.right_mradps))
    assert speed > 0.5 * SPEED_MPS, "it was driving"
    brake = radius * firmware_params(robot)[Param.BRAKE_RADPS2]
    assert (rest.t_us - timeout.t_us) * 1e-6 <= speed / brake + 0.3
    assert rest.value <= rest.t_us - timeout.t_us + 1000


def test_whoever_dies_the_firmware_stops_by_itself_and_only_the_documented_sequence_arms_it(
    rig: Rig, robot: Robot
) -> None:
    rig.start_base()
    for death in (pull_the_link, kill_the_guard, kill_the_base):
        rig.to_speed()
        stops = len(rig.tap.events(EventCode.COMMAND_TIMEOUT))
        arms = sum(request.request == StateRequest.ARM for request in rig.tap.requests())
        death(rig)
        rig.until(lambda: rig.tap.state == State.IDLE, f"rest after {death.__name__}", SPEED_MPS)
        rig.until(lambda: abs(rig.listener.speed_mps) < 0.02, "true rest")
        assert_ramp(rig, robot, stops)
        if death is kill_the_base:
            break  # its restart activates, and that arms: the documented sequence
        restore(rig, death)
        later_ns = rig.listener.truth[-1].stamp_ns + 10**9
        rig.until(lambda at=later_ns: rig.listener.truth[-1].stamp_ns > at, "a second later", SPEED_MPS)
        assert rig.tap.state == State.IDLE
        assert abs(rig.listener.speed_mps) < 0.02
        assert sum(request.request == StateRequest.ARM for request in rig.tap.requests()) == arms


def test_the_policy_drives_a_cluttered_world_to_its_goal_through_guard_base_and_firmware(context: Context) -> None:
    rig = Rig(context, world="clutter:3")
    goals: list[PoseStamped] = []
    asked: list[object] = []
    for topic, take in ((topics.GOAL_POSE, goals.append), (topics.POLICY_CMD_VEL, asked.append)):
        rig.listener.node.create_subscription(topic.type, topic.name, take, topic.qos)
    try:
        rig.start_base()
        rig.start("ood_monitor", "dsac_robot.nodes.ood_monitor", bundle="navigate_jackal")
        rig.start("policy", "dsac_robot.nodes.policy", bundle="navigate_jackal")
        truth = rig.listener.truth
        rig.until(lambda: bool(truth and goals and asked), "a policy at work")
        # On a busy machine the start may have been a jump of the clock for the guard, which then has forgotten the free
        # space that it was activated in. An operator activates it when all is up.
        for enable in (False, True):
            rig.until(lambda to=enable: rig.call("safety_guard/enable", to).success, "the guard enabled")
        rig.armed()

        def at_goal() -> bool:
            assert rig.tap.state == State.ACTIVE, rig.tap.events(EventCode.COMMAND_TIMEOUT)
            goal = goals[-1].pose.position
            return math.hypot(truth[-1].x_m - goal.x, truth[-1].y_m - goal.y) < 1.0

        rig.until(at_goal, "at the goal")
        assert not any(contact.touching for contact in rig.listener.contacts)
    finally:
        rig.close()
