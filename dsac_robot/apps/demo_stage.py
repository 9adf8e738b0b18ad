"""Where the demo plays: the simulated robot and the nodes as processes, and a node that watches and pulls the strings.

Everything waits in simulated time; only to be told that nothing happens at all is a matter of the wall clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PointStamped, PoseStamped
from std_srvs.srv import SetBool, Trigger

from dsac_robot.apps.report_notes import EVENT, TOPIC, Note
from dsac_robot.apps.ros_call import call, set_texts
from dsac_robot.apps.up_processes import Processes
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Odom, ns
from dsac_robot.nodes.converters import command_to_message, odom_from_message, stamp_to_message
from dsac_robot.nodes.run import make_executor
from dsac_robot.nodes.states import SafetyState, decision_from_message
from dsac_robot.nodes.topics import GOAL_POSE, LATCHED, POLICY_CMD_VEL, SAFETY_STATE, TELEOP_CMD_VEL, Topic
from sim.robot_model import SPARE_RADIUS_M
from sim.ros_truth import OBSTACLES, PLACE_OBSTACLE, TRUTH

NOTES = Topic(TOPIC, DiagnosticArray, LATCHED, "demo", "what is done to the robot, and when")
NOTES_KEPT = 100
SILENCE_S = 30.0  # of the wall clock, without any simulated time passing
TELEOP_NS = ns(0.05)  # between two commands of the operator
SETTLE_S = 1.2  # of simulated time after a new start: older than any sample that an observation looks back to
GOAL_S = 0.2  # of simulated time, for a new goal to be heard
AT_REST_MPS = 0.02


class StageError(RuntimeError):
    """The demo cannot go on. The message says what it waited for."""


class Stage:
    """The demo's own node. Needs rclpy initialised; ``close`` at the end."""

    def __init__(self, processes: Processes, robot: Robot, going: Callable[[], bool]) -> None:
        import rclpy

        self.processes, self._robot, self._going = processes, robot, going
        self.node = rclpy.create_node("demo")
        self._executor = make_executor()
        self._executor.add_node(self.node)
        self.truth: Odom | None = None
        self.safety: SafetyState | None = None
        self.goal_m: tuple[float, float] | None = None
        self.commands = 0  # of the policy
        for topic, take in (
            (TRUTH, self._on_truth),
            (SAFETY_STATE, self._on_safety),
            (GOAL_POSE, self._on_goal),
            (POLICY_CMD_VEL, self._on_command),
        ):
            self.node.create_subscription(topic.type, topic.name, take, topic.qos)
        notes = NOTES.qos
        notes.depth = NOTES_KEPT
        self._notes = self.node.create_publisher(NOTES.type, NOTES.name, notes)
        self._teleop = self.node.create_publisher(TELEOP_CMD_VEL.type, TELEOP_CMD_VEL.name, TELEOP_CMD_VEL.qos)
        self.held_mps: float | None = None  # speed that the operator asks for, straight on; None: hands off
        self._held_ns = 0
        self._place = self.node.create_publisher(PLACE_OBSTACLE.type, PLACE_OBSTACLE.name, PLACE_OBSTACLE.qos)

    def close(self) -> None:
        """Destroy the node."""
        self._executor.remove_node(self.node)
        self.node.destroy_node()
        self._executor.shutdown()

    # What is seen.

    def _on_truth(self, message: Any) -> None:
        self.truth = odom_from_message(message)

    def _on_safety(self, message: Any) -> None:
        self.safety = decision_from_message(message)

    def _on_goal(self, message: PoseStamped) -> None:
        self.goal_m = (message.pose.position.x, message.pose.position.y)

    def _on_command(self, message: Any) -> None:
        self.commands += 1

    @property
    def now_ns(self) -> int:
        """Simulated time."""
        return self.truth.stamp_ns if self.truth else 0

    @property
    def speed_mps(self) -> float:
        """True speed."""
        return abs(self.truth.speed_mps) if self.truth else 0.0

    @property
    def to_goal_m(self) -> float:
        """True distance to the goal."""
        if self.truth is None or self.goal_m is None:
            return math.inf
        return math.dist((self.truth.x_m, self.truth.y_m), self.goal_m)

    @property
    def touched(self) -> bool:
        """Whether the guard has latched because of a contact."""
        return self.safety is not None and self.safety.decision.reason.name == "CONTACT"

    def policy_is_gone(self) -> bool:
        """Whether no node offers commands: a killed process is missed only when its lease with DDS ends (20 s)."""
        return self.node.count_publishers(POLICY_CMD_VEL.name) == 0

    # Waiting.

    def until(
        self,
        done: Callable[[], bool],
        what: str,
        sim_s: float = math.inf,
        tell: Callable[[], None] = lambda: None,
    ) -> bool:
        """Spin until ``done()``, or until ``sim_s`` of simulated time have passed: then False.

        Raises StageError naming ``what`` where simulated time stands still, ProcessError where a node has died,
        KeyboardInterrupt when asked to stop.
        """
        begun_ns, heard_ns, heard_s = self.now_ns, self.now_ns, time.monotonic()
        while not done():
            if not self._going():
                raise KeyboardInterrupt
            self._executor.spin_once(timeout_sec=0.1)
            if self.now_ns != heard_ns:
                heard_ns, heard_s = self.now_ns, time.monotonic()
                begun_ns = min(begun_ns or heard_ns, heard_ns)
            elif time.monotonic() - heard_s > SILENCE_S:
                raise StageError(f"waited {SILENCE_S:.0f} s in vain: {what}")
            self.processes.check()
            self._hold()
            tell()
            if (self.now_ns - begun_ns) / NS > sim_s:
                return done()
        return True

    def wait(self, sim_s: float) -> None:
        """Let simulated time pass."""
        end_ns = self.now_ns + ns(sim_s)
        self.until(lambda: self.now_ns >= end_ns, "simulated time")

    def wait_for_all(self, monitored: bool) -> None:
        """Until simulator, guard, policy and recorder are there, and hear each other."""
        node = self.node
        self.until(lambda: self.truth is not None, "the simulated robot")
        self.until(lambda: self.safety is not None, "the guard")
        readers = 2 if monitored else 1  # of policy/cmd_vel, beside us and the recorder
        self.until(lambda: node.count_subscribers(POLICY_CMD_VEL.name) >= 1 + readers, "the monitor and the guard")
        self.until(lambda: node.count_publishers(POLICY_CMD_VEL.name) >= 1, "the policy")
        for topic in (OBSTACLES, NOTES):
            self.until(partial(self._is_read, topic), "the recorder")

    def _is_read(self, topic: Topic) -> bool:
        return self.node.count_subscribers(topic.name) >= 1

    # Pulling strings.

    def _hold(self) -> None:
        """The operator's hand on the stick."""
        if self.held_mps is not None and self.now_ns >= self._held_ns + TELEOP_NS:
            self._held_ns = self.now_ns
            self._teleop.publish(command_to_message(Command(self.now_ns, self.held_mps, 0.0), "base_link"))

    def note(self, note: Note) -> None:
        """Write a note into the bag."""
        self._notes.publish(note_to_message(note))

    def event(self, text: str) -> None:
        """Note that something is done to the robot now."""
        self.note(Note(self.now_ns, EVENT, text))

    def begin(self, world: str) -> None:
        """A new start in a world, at rest, with nothing remembered of the one before."""
        self.until(lambda: self.node.count_publishers(POLICY_CMD_VEL.name) == 1, "the policy")
        self._enable(False)
        self.until(lambda: self.speed_mps < AT_REST_MPS, "the robot at rest")
        # By way of another world: the policy takes the very same goal for one that it has reached already.
        for name in ("clutter:0" if world == "empty" else "empty", world):
            self.set_parameters(world=name, lidar_fault="none")
            answer = self.call(Trigger, "sim_bridge/restart")
            if not answer.success:
                raise StageError(f"no new start in {name}: {answer.message}")
            self.wait(GOAL_S)
        self.wait(SETTLE_S)

    def go(self) -> None:
        """Let the guard pass commands. As operator we vouch for the floor around the robot by enabling it there."""
        self.call(Trigger, "safety_guard/reset")
        self._enable(True)

    def _enable(self, enable: bool) -> None:
        self.call(SetBool, "safety_guard/enable", SetBool.Request(data=enable))

    @property
    def stop_distance_m(self) -> float:
        """How far the robot goes on if it is to stop now, as the guard reckons; roughly where the guard is silent."""
        numbers = dict(self.safety.decision.numbers) if self.safety else {}
        return numbers.get("stop_distance_m", 0.3 * self.speed_mps + self.speed_mps**2 / 8.0)

    def place_ahead(self, gap_m: float, lefts_m: tuple[float, ...]) -> None:
        """Put cylinders side by side in front of the robot, ``gap_m`` from its bumper."""
        ahead_m = float(self._robot.footprint[:, 0].max()) + SPARE_RADIUS_M + gap_m
        for left_m in lefts_m:
            message = PointStamped()
            message.header.frame_id = "base_link"
            message.point.x, message.point.y = ahead_m, left_m
            self._place.publish(message)

    def set_parameters(self, **wanted: str) -> None:
        """Set text parameters of the simulator."""
        refused = set_texts(self.node, self.until, "sim_bridge", wanted)
        if refused:
            raise StageError(f"the simulator refuses {'; '.join(refused)}")

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        """Call a service and wait for its answer."""
        return call(self.node, self.until, kind, name, request)


def note_to_message(note: Note) -> DiagnosticArray:
    """The message of a note, as report_data reads it."""
    status = DiagnosticStatus(name=note.kind, message=note.text)
    status.values = [KeyValue(key="expect", value=note.expect.value)]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp_to_message(note.stamp_ns)
    return message
