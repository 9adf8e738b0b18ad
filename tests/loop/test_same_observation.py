"""The same observation, bit for bit, in the environment, in the policy's node and in the monitor's node.

The environment's own samples go through real messages to real nodes, and each node's observation is compared with what
the environment gave to its learner at that tick.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from dsac_robot.core.observation import flatten
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Contact, Goal, Odom, Sample, Scan, ns
from dsac_robot.nodes import topics
from dsac_robot.nodes.compose import Composition, compose
from dsac_robot.nodes.converters import (
    command_to_message,
    goal_to_message,
    odom_to_message,
    scan_to_message,
    stamp_from_message,
    stamp_to_message,
)
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from dsac_robot.nodes.states import verdict_from_message
from sim.navigate import NavigateEnv
from tests.loop.conftest import Signer
from tests.loop.drives import drive_env

BEGIN_NS = ns(50.0)  # ROS time of the environment's time 0
SPINS_MAX = 2000  # of 20 ms: what has not come by then never will


class Player:
    """Plays samples to the nodes and hears what they say. It takes the guard's place as publisher of ``cmd_vel``."""

    def __init__(self, context: Context, composition: Composition, robot: Robot) -> None:
        self.node, self._spin, self._robot = Node("player", context=context), composition.executor, robot
        self._nodes = list(composition.nodes.values())
        names = (topics.SCAN, topics.ODOM, topics.GOAL_POSE, topics.CMD_VEL, topics.CLOCK)
        self._publishers = {t.name: self.node.create_publisher(t.type, t.name, t.qos) for t in names}
        self.asked_ns: list[int] = []
        self.judged_ns: list[int] = []
        for topic, take in (
            (topics.POLICY_CMD_VEL, lambda m: self.asked_ns.append(stamp_from_message(m.header.stamp))),
            (topics.OOD_STATE, lambda m: self.judged_ns.append(verdict_from_message(m).judged_stamp_ns)),
        ):
            self.node.create_subscription(topic.type, topic.name, take, topic.qos)
        self._spin.add_node(self.node)
        self._until(lambda: all(p.get_subscription_count() >= 2 for p in self._publishers.values()), "all listen")

    def _until(self, done, what: str) -> None:
        for _ in range(SPINS_MAX):
            if done():
                return
            self._spin.spin_once(timeout_sec=0.02)
        raise AssertionError(f"never: {what}")

    def play(self, sample: Sample) -> None:
        """Publish the time and one sample, again and again until both nodes have it: sensor data is best effort."""
        clock = Clock(clock=stamp_to_message(sample.stamp_ns))

        def taken() -> bool:
            deployed = (self._nodes[0]._policy, self._nodes[1]._monitor)
            newest = [each._history.last(type(sample)) for each in deployed]
            return all(n is not None and n.stamp_ns >= sample.stamp_ns for n in newest)

        for tries in range(SPINS_MAX):
            if tries % 50 == 0:
                self._publishers[topics.CLOCK.name].publish(clock)
                self._until(lambda: all(n.now_ns() >= sample.stamp_ns for n in self._nodes), "the nodes hear the time")
                self._publish(sample)
            if taken():
                return
            self._spin.spin_once(timeout_sec=0.02)
        raise AssertionError(f"never taken: {sample}")

    def _publish(self, sample: Sample) -> None:
        if isinstance(sample, Scan):
            self._publishers[topics.SCAN.name].publish(scan_to_message(sample, self._robot.lidar))
        elif isinstance(sample, Odom):
            self._publishers[topics.ODOM.name].publish(odom_to_message(sample))
        elif isinstance(sample, Command):
            self._publishers[topics.CMD_VEL.name].publish(command_to_message(sample))
        elif isinstance(sample, Goal):
            self._publishers[topics.GOAL_POSE.name].publish(goal_to_message(sample))

    def until_judged(self, stamp_ns: int) -> None:
        """Wait for the policy's command and the monitor's verdict of that stamp."""
        self._until(lambda: stamp_ns in self.judged_ns, f"a verdict on {stamp_ns}")


@pytest.fixture
def nodes(context: Context, straight_on: Path, signer: Signer) -> Iterator[Composition]:
    learned = {**signer.parameters(straight_on), "observation_wait_s": 0.2}
    given = {"**": {"use_sim_time": True}, "policy": learned, "ood_monitor": learned}
    made = compose([PolicyNode, MonitorNode], parameters=given, context=context)
    made.bring_up(needs_sensors=())
    yield made
    made.close()


def test_environment_policy_and_monitor_build_the_same_observation_bit_for_bit(
    nodes: Composition, context: Context, robot: Robot
) -> None:
    drive = drive_env(NavigateEnv(robot), seed=3, steps_max=25)
    assert len(drive.ticks_ns) > 15
    expected = {BEGIN_NS + tick: seen for tick, seen in zip(drive.ticks_ns, drive.observations, strict=True)}
    player = Player(context, nodes, robot)
    policy, monitor = nodes.nodes["policy"], nodes.nodes["ood_monitor"]
    compared = 0
    for sample in drive.later(BEGIN_NS):
        if isinstance(sample, Contact):  # no part of an observation
            continue
        player.play(sample)
        if isinstance(sample, Scan) and sample.stamp_ns in expected:
            player.until_judged(sample.stamp_ns)
            seen = expected[sample.stamp_ns]
            for node in (policy, monitor):
                built = flatten(node.observation)
                assert built.dtype == seen.dtype
                assert built.tobytes() == seen.tobytes(), (node.get_name(), np.flatnonzero(built != seen))
            compared += 1
    assert compared == len(drive.ticks_ns)
    assert player.asked_ns == player.judged_ns == sorted(expected)
    player.node.destroy_node()
