"""What ``bench chain`` puts around a chain: the sensors at its beginning, and the ear at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dsac_robot.core.guard_geometry import pose_at, to_frame
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Goal, Odom, Scan
from dsac_robot.nodes import topics
from dsac_robot.nodes.converters import Frames, goal_to_message, odom_to_message, scan_to_message, stamp_from_message
from dsac_robot.nodes.run import make_executor
from dsac_robot.nodes.states import decision_from_message
from sim.lidar import cast, measure
from sim.worlds import generate_clutter

SCAN_S, ODOM_S = 0.05, 0.02
ANSWERS_MIN = 5
FRAMES = Frames("odom", "base_link")


class Feed:
    """Publishes what a robot in clutter senses that moves just as it is told, and times what comes back.

    ``bare``: the chain is that of the relays, whose verdicts bear the scan's stamp in their header. Needs rclpy
    initialised.
    """

    def __init__(self, namespace: str, robot: str, bare: bool) -> None:
        import rclpy

        self.namespace, self._bare = namespace, bare
        self._lidar, self._world = load_robot(robot).lidar, generate_clutter(1_000_000)
        self._node = rclpy.create_node("bench_feed", namespace=namespace)
        self._executor = make_executor()
        self._executor.add_node(self._node)
        self._rng = np.random.default_rng(0)
        self._twist = 0.0, 0.0
        self._published: dict[int, int] = {}  # stamp of a scan -> steady time
        self._heard: dict[int, int] = {}  # stamp of a guarded command -> steady time
        self.clear()
        self._scans, self._odoms, self._goals = (
            self._node.create_publisher(t.type, t.name, t.qos) for t in (topics.SCAN, topics.ODOM, topics.GOAL_POSE)
        )
        self._goals.publish(goal_to_message(Goal(0, 10.0, 0.0), FRAMES))
        for topic, take in (
            (topics.CMD_VEL, self._on_command),
            (topics.SAFETY_STATE, self._on_state),
            (topics.OOD_STATE, self._on_verdict),
        ):
            self._node.create_subscription(topic.type, topic.name, take, topic.qos)

    def clear(self) -> None:
        """Forget all times."""
        self.to_command: list[float] = []  # seconds from a scan to the guarded command
        self.to_verdict: list[float] = []
        self._answered: set[int] = set()

    def is_answered(self) -> bool:
        """True once the whole chain runs."""
        return min(len(self.to_command), len(self.to_verdict)) >= ANSWERS_MIN

    def run(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        """Feed for a while, or until ``done()``. What an earlier turn left unanswered stays so."""
        self._published.clear()
        self._twist, odom = (0.0, 0.0), Odom.from_yaw(self._now_ns(), *(5 * [0.0]))
        begun = odom_due = scan_due = time.monotonic()
        while time.monotonic() - begun < seconds and not done():
            now_s = time.monotonic()
            if now_s >= odom_due:
                odom_due += ODOM_S * self._rng.uniform(0.7, 1.3)  # or all waits for the guard's timer would be alike
                stamp_ns = self._now_ns()
                odom = Odom.from_yaw(stamp_ns, *pose_at((odom,), stamp_ns), *self._twist)
                self._odoms.publish(odom_to_message(odom, FRAMES))
                if now_s >= scan_due:
                    scan_due += SCAN_S
                    self._publish_scan(odom)
            self._executor.spin_once(timeout_sec=max(0.0, min(odom_due - time.monotonic(), 0.02)))

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _publish_scan(self, odom: Odom) -> None:
        lidar, world = self._lidar, self._world
        x, y = to_frame(np.array([[odom.x_m, odom.y_m]]), world.start)[0]
        there = float(x), float(y), odom.yaw_rad + world.start[2]
        ranges = measure(lidar, cast(lidar, there, world.cylinders_m, world.walls_m), self._rng, True)
        scan = Scan(odom.stamp_ns, ranges, lidar.angle_min_rad, lidar.angle_increment_rad, lidar.frame_id)
        message = scan_to_message(scan, lidar)
        self._published[odom.stamp_ns] = time.monotonic_ns()
        self._scans.publish(message)

    def _on_command(self, message: Any) -> None:
        self._heard[stamp_from_message(message.header.stamp)] = time.monotonic_ns()

    def _on_state(self, message: Any) -> None:
        state = decision_from_message(message)
        self._twist = state.decision.speed_mps, state.decision.yaw_rate_radps
        began, heard = self._published.get(state.judged_stamp_ns), self._heard.pop(state.stamp_ns, None)
        if began is not None and heard is not None and state.judged_stamp_ns not in self._answered:
            self._answered.add(state.judged_stamp_ns)
            self.to_command.append((heard - began) / 1e9)

    def _on_verdict(self, message: Any) -> None:
        if self._bare:
            stamp_ns = stamp_from_message(message.header.stamp)
        else:
            stamp_ns = int(next(v.value for v in message.status[0].values if v.key == "judged_stamp_ns"))
        began = self._published.get(stamp_ns)
        if began is not None:
            self.to_verdict.append((time.monotonic_ns() - began) / 1e9)
