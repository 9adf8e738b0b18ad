"""A small world on real topics, in one process with the nodes under test, stepped by the test's own /clock."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from dsac_robot.bundle.card import Card, Recorded
from dsac_robot.bundle.keys import generate_key, public_of
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.ood import MonitorSpec, ScoreSpec
from dsac_robot.core.reasons import OodLevel
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, Odom, Scan, ns
from dsac_robot.nodes import topics
from dsac_robot.nodes.compose import Composition, Factory, compose
from dsac_robot.nodes.converters import (
    ConversionError,
    command_to_message,
    odom_to_message,
    scan_to_message,
    stamp_to_message,
)
from dsac_robot.nodes.run import init
from dsac_robot.nodes.states import SafetyState, decision_from_message, verdict_from_message, verdict_to_message
from tests.bundle.conftest import monitor_bytes, policy_bytes
from tests.bundle.follower import write_follower

STEP_NS = ns(0.02)
SPINS_MAX = 500  # of 20 ms: a node that has not answered by then never will
ROBOT = load_robot("jackal")


class World(Node):
    """A robot that follows cmd_vel at once, in the middle of a round room of radius 8 m that moves with it."""

    def __init__(self, context: Context, cmd_vel: topics.Topic = topics.CMD_VEL) -> None:
        super().__init__("world", context=context)
        made = {t.name: self.create_publisher(t.type, t.name, t.qos) for t in topics.TOPICS if t != topics.CMD_VEL}
        self.publishers_by_topic = made
        self.now_ns = ns(100.0)
        self.pose = (0.0, 0.0, 0.0)
        self.twist = (0.0, 0.0)
        self.rng = np.random.default_rng(0)
        self.safety: list[SafetyState] = []
        self.sent: list = []
        self.commands: list = []
        self.verdicts: list[Verdict] = []
        self.diagnostics: list = []
        for topic, take in (
            (topics.SAFETY_STATE, lambda m: self.safety.append(decision_from_message(m))),
            (cmd_vel, self._on_cmd_vel),
            (topics.POLICY_CMD_VEL, self.commands.append),
            (topics.OOD_STATE, self._on_verdict),
            (topics.DIAGNOSTICS, self.diagnostics.append),
        ):
            self.create_subscription(topic.type, topic.name, take, topic.qos)

    def _on_cmd_vel(self, message) -> None:
        self.sent.append(message)
        twist = message.twist if hasattr(message, "twist") else message
        self.twist = (twist.linear.x, twist.angular.z)

    def _on_verdict(self, message) -> None:
        with contextlib.suppress(ConversionError):  # what a test spoils, the node under test is to notice
            self.verdicts.append(verdict_from_message(message))

    def publish(self, topic: topics.Topic, message) -> None:
        self.publishers_by_topic[topic.name].publish(message)

    def publish_clock(self) -> None:
        self.publish(topics.CLOCK, Clock(clock=stamp_to_message(self.now_ns)))

    def odom(self) -> Odom:
        return Odom.from_yaw(self.now_ns, *self.pose, *self.twist)

    def scan(self) -> Scan:
        lidar = ROBOT.lidar
        ranges = (8.0 + 0.01 * self.rng.standard_normal(lidar.beams)).astype(np.float32)
        return Scan(self.now_ns, ranges, lidar.angle_min_rad, lidar.angle_increment_rad, lidar.frame_id)

    def advance(self) -> None:
        """The next 20 ms."""
        self.now_ns += STEP_NS
        x, y, yaw = self.pose
        speed, turn = self.twist
        yaw += turn * STEP_NS / NS
        self.pose = (x + speed * math.cos(yaw) * STEP_NS / NS, y + speed * math.sin(yaw) * STEP_NS / NS, yaw)


class Rig:
    """The world, the nodes under test and the executor that both run on."""

    def __init__(self, context: Context, composition: Composition, cmd_vel: topics.Topic) -> None:
        self.context, self.composition = context, composition
        self.world = World(context, cmd_vel)
        composition.executor.add_node(self.world)

    def node(self, name: str):
        return self.composition.nodes[name]

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Spin until ``done()``; fails naming ``what`` where it never is."""
        for _ in range(SPINS_MAX):
            if done():
                return
            self.composition.executor.spin_once(timeout_sec=0.02)
        raise AssertionError(f"never: {what}")

    def quiet(self) -> None:
        """Spin until nothing is left to do: some spins in a row that waited for work in vain."""
        idle = 0
        while idle < 3:
            began = time.monotonic()
            self.composition.executor.spin_once(timeout_sec=0.002)
            idle = idle + 1 if time.monotonic() - began >= 0.002 else 0

    def bring_up(self, clocked: bool = True) -> None:
        """Activate all nodes and let discovery finish."""
        self.composition.bring_up(needs_sensors=())
        world = self.world
        topics_of_nodes = [topics.SCAN, topics.ODOM]
        self.until(
            lambda: all(world.count_subscribers(t.name) >= len(self.composition.nodes) for t in topics_of_nodes),
            "all nodes hear the world",
        )
        if clocked:
            node = next(iter(self.composition.nodes.values()))

            def heard() -> bool:
                world.publish_clock()
                return node.now_ns() == world.now_ns

            self.until(heard, "the nodes hear /clock")

    def step(
        self,
        command: tuple[float, float] | None = (2.0, 0.0),
        clock: bool = True,
        scan: bool = True,
        odom: bool = True,
        verdict: bool = True,
    ) -> None:
        """20 ms of the world, with the guard's answer to it. The policy and the monitor are played by the test."""
        world = self.world
        world.advance()
        if clock:
            world.publish_clock()
        if odom:
            world.publish(topics.ODOM, odom_to_message(world.odom()))
        if scan:
            world.publish(topics.SCAN, scan_to_message(world.scan(), ROBOT.lidar))
        if command is not None:
            world.publish(topics.POLICY_CMD_VEL, command_to_message(Command(world.now_ns, *command)))
            if verdict:
                judged = Verdict(world.now_ns, world.now_ns, OodLevel.OK, score=0.1)
                world.publish(topics.OOD_STATE, verdict_to_message(judged))
        before = len(world.sent), len(world.safety)
        if clock:
            self.until(lambda: world.safety[-1:] != [] and world.safety[-1].stamp_ns >= world.now_ns, "the guard acts")
        else:
            self.until(lambda: len(world.sent) > before[0] and len(world.safety) > before[1], "the guard acts")

    def drive(self, seconds: float = 1.0, **step) -> None:
        """Steps for so much simulated time."""
        for _ in range(round(seconds * NS / STEP_NS)):
            self.step(**step)

    @property
    def state(self) -> SafetyState:
        return self.world.safety[-1]

    def close(self) -> None:
        self.composition.executor.remove_node(self.world)
        self.world.destroy_node()
        self.composition.close()


@pytest.fixture
def context() -> Iterator[Context]:
    made = Context()
    init([], made)
    yield made
    made.try_shutdown()


@pytest.fixture
def make_rig(context: Context) -> Iterator[Callable[..., Rig]]:
    """Makes one rig: ``make_rig(GuardNode, safety_guard={"margin_m": 0.1})``."""
    made: list[Rig] = []

    def make(*factories: Factory, cmd_vel: topics.Topic = topics.CMD_VEL, **parameters) -> Rig:
        given = {"**": {"use_sim_time": True}, **parameters}
        made.append(Rig(context, compose(factories, parameters=given, context=context), cmd_vel))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small signed bundle; the key is trusted in the folder ``keys`` beside it."""
    folder = tmp_path_factory.mktemp("bundle")
    layout, key = ObservationLayout(), generate_key()
    terms = ObservationBuilder(ROBOT, layout).specs
    spec = MonitorSpec(
        (ScoreSpec("distance", 50.0, 100.0), ScoreSpec("spread", 1e3, 2e3)), raise_after=2, clear_after=3
    )
    card = Card.of("test", "navigate", ROBOT, layout, spec, Recorded())
    write_bundle(folder / "bundle", card, policy_bytes(terms), monitor_bytes(terms), key)
    write_bundle(folder / "unsigned", card, policy_bytes(terms), monitor_bytes(terms), None)
    (folder / "keys").mkdir()
    (folder / "keys" / "test.pub").write_text(public_of(key, "test").to_line())
    return folder / "bundle"


@pytest.fixture
def bundle_params(bundle: Path) -> dict[str, object]:
    return {"bundle": str(bundle), "trusted_keys": str(bundle.parent / "keys"), "observation_wait_s": 0.2}


@pytest.fixture(scope="session")
def follower_params(bundle: Path) -> dict[str, object]:
    """Parameters that name a bundle that follows plans."""
    follower = write_follower(bundle.parent / "follower", ROBOT, None)
    return {"bundle": str(follower), "allow_unsigned": True, "observation_wait_s": 0.2, "plan_speed_mps": 0.4}
