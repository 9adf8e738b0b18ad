"""A simulated robot on real topics with a listener beside it, stepped by the test."""

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PointStamped
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from dsac_robot.core.values import Command, ns
from dsac_robot.nodes.converters import (
    command_to_message,
    stamp_from_message,
    twist_to_message,
)
from dsac_robot.nodes.run import start
from dsac_robot.nodes.topics import CLOCK, CONTACT, GOAL_POSE, IMU, ODOM, PLAN, SCAN, cmd_vel_topic
from sim.ros_bridge import SimBridge
from sim.ros_truth import MOVERS, OBSTACLES, PLACE_OBSTACLE, TRUTH, WALLS

WALL_S = 60.0  # a test that waits longer is broken
TOPICS = (CLOCK, SCAN, ODOM, IMU, CONTACT, GOAL_POSE, PLAN, TRUTH, OBSTACLES, WALLS, MOVERS)


class Bench:
    """A bridge and a listener with an executor of their own, and all that the listener heard, in order."""

    def __init__(self, context: Context, **parameters: object) -> None:
        arguments = ["--ros-args"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        self.node = Node("listener", context=context)
        self.heard: list[tuple[str, Any]] = []
        self.published: list[tuple[int, str, int]] = []  # when the bridge published it, topic, stamp
        for topic in TOPICS:
            self._listen(topic)
        self.cmd_vel = cmd_vel_topic(str(parameters.get("cmd_vel_type", "TwistStamped")))
        self._commands = self.node.create_publisher(self.cmd_vel.type, self.cmd_vel.name, self.cmd_vel.qos)
        self._place = self.node.create_publisher(PointStamped, PLACE_OBSTACLE.name, PLACE_OBSTACLE.qos)
        self.bridge = SimBridge(arguments, context)
        self._executor = SingleThreadedExecutor(context=context)
        for node in (self.node, self.bridge):
            self._executor.add_node(node)
        assert start(self.bridge) is None
        self.command: Command | None = None  # sent at every step while it is set
        task = PLAN if str(parameters.get("world", "")).startswith("track") else GOAL_POSE
        first = {topic.name for topic in (SCAN, ODOM, IMU, task, TRUTH, OBSTACLES, WALLS, MOVERS)}
        self.wait(lambda: first <= {name for name, _ in self.heard})

    def close(self) -> None:
        self.bridge.close()
        self.node.destroy_node()
        self._executor.shutdown()

    def _listen(self, topic: Any) -> None:
        self.node.create_subscription(topic.type, topic.name, self._callback(topic), topic.qos)

    def _callback(self, topic: Any) -> Callable[[Any, Any], None]:
        return lambda message, info: self._on_message(topic, message, info)

    def _on_message(self, topic: Any, message: Any, info: Any) -> None:
        self.published.append((info["source_timestamp"], topic.name, stamp_of(message)))
        self.heard.append((topic.name, message))
        if topic is TRUTH and self.command is not None:
            stamped = self.cmd_vel.name == "cmd_vel" and hasattr(self.cmd_vel.type(), "header")
            self._commands.publish(command_to_message(self.command) if stamped else twist_to_message(self.command))

    def of(self, topic: Any) -> list[Any]:
        """What was heard on a topic."""
        return [message for name, message in self.heard if name == topic.name]

    def wait(self, until: Callable[[], bool]) -> None:
        """Spin until the condition holds."""
        end = time.monotonic() + WALL_S
        while not until():
            self._executor.spin_once(timeout_sec=0.1)
            assert time.monotonic() < end, "waited in vain"

    def now_ns(self) -> int:
        """Stamp of the newest truth: it comes whatever fault is on."""
        return stamp_of(self.of(TRUTH)[-1])

    def run(self, seconds: float) -> None:
        """Spin for so much simulated time."""
        end_ns = self.now_ns() + ns(seconds)
        self.wait(lambda: self.now_ns() >= end_ns)

    def set(self, **parameters: object) -> list[str]:
        """Set parameters over the bridge's service; the reasons of those that were refused."""
        client = self.node.create_client(SetParameters, "sim_bridge/set_parameters")
        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        results = self._call(client, SetParameters.Request(parameters=wanted)).results
        return [result.reason for result in results if not result.successful]

    def trigger(self, name: str) -> Trigger.Response:
        return self._call(self.node.create_client(Trigger, f"sim_bridge/{name}"), Trigger.Request())

    def _call(self, client: Any, request: Any) -> Any:
        self.wait(client.service_is_ready)
        future = client.call_async(request)
        self.wait(future.done)
        self.node.destroy_client(client)
        return future.result()

    def place(self, frame: str, x: float, y: float) -> None:
        message = PointStamped()
        message.header.frame_id = frame
        message.point.x, message.point.y = x, y
        self._place.publish(message)

    def forget(self) -> int:
        """Forget what was heard but for the newest truth; its stamp."""
        self.heard = [(TRUTH.name, self.of(TRUTH)[-1])]
        return self.now_ns()


def stamp_of(message: Any) -> int:
    return stamp_from_message(message.clock if hasattr(message, "clock") else message.header.stamp)
