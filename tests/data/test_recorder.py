"""The recorder and the replayer as real processes on a real ROS graph."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from mcap.records import Metadata
from mcap.stream_reader import StreamReader
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability

from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, Goal, Odom, Scan
from dsac_robot.data.bag_reader import BagReader
from dsac_robot.data.recover import mcap_files, recover
from dsac_robot.nodes.base import BaseNode
from dsac_robot.nodes.converters import command_to_message, goal_to_message
from dsac_robot.nodes.topics import CLOCK, CMD_VEL, GOAL_POSE, ODOM, SCAN
from tests.nodes.base_server import BaseServer

PATIENCE_S = 30.0
RECORDER = "import sys; from dsac_robot.nodes.recorder import main; sys.exit(main())"
COMMAND = """
import argparse, sys
from dsac_robot.apps import bag_cmd
parser = argparse.ArgumentParser()
bag_cmd.register(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.run(args))
"""
Written = Callable[..., Path]
Children = list["subprocess.Popen[str]"]


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context)
    made = rclpy.create_node("policy", context=context, namespace="/r1")
    yield made
    made.destroy_node()
    context.try_shutdown()


@pytest.fixture
def server() -> Iterator[BaseServer]:
    made = BaseServer(load_robot("jackal"))
    yield made
    made.close()


@pytest.fixture
def children() -> Iterator[Children]:
    started: Children = []
    yield started
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def start_recorder(children: Children, out: Path, **parameters: str) -> "subprocess.Popen[str]":
    given = {"out": str(out), "bag": "bag", "autostart": "true", **parameters}
    options = [part for key, value in given.items() for part in ("-p", f"{key}:={value}")]
    command = [sys.executable, "-c", RECORDER, "--ros-args", "-r", "__ns:=/r1", *options]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    children.append(child)
    return child


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def publish_all(node: Node, count: int) -> list[bytes]:
    """A goal, then ``count`` commands, each acknowledged; returns the commands' bytes."""
    goals = node.create_publisher(GOAL_POSE.type, GOAL_POSE.name, GOAL_POSE.qos)
    goals.publish(goal_to_message(Goal(5 * NS, 1.0, 2.0)))
    commands = node.create_publisher(CMD_VEL.type, CMD_VEL.name, CMD_VEL.qos)
    wait_for(lambda: commands.get_subscription_count() and goals.get_subscription_count(), "the recorder")
    sent = []
    for i in range(count):
        # the bytes themselves: two serializations differ in what they leave in the padding
        sent.append(serialize_message(command_to_message(Command((10 + i) * NS, 0.1 * i, -1.0))))
        commands.publish(sent[-1])
        assert commands.wait_for_all_acked(Duration(seconds=PATIENCE_S))
    assert goals.wait_for_all_acked(Duration(seconds=PATIENCE_S))
    return sent


def messages(bag: Path, topic: str) -> list[bytes]:
    with AnyReader([bag]) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [bytes(data) for _, _, data in reader.messages(connections)] if connections else []


def metadata(file: Path) -> dict[str, dict[str, str]]:
    with open(file, "rb") as stream:
        return {r.name: r.metadata for r in StreamReader(stream).records if isinstance(r, Metadata)}


def on_disk(bag: Path, data: bytes) -> bool:
    return bag.is_dir() and any(data in path.read_bytes() for path in bag.glob("*.mcap"))


def test_a_recording_ends_cleanly_on_sigint_and_holds_bytes_context_and_parameters(
    node: Node, children: Children, tmp_path: Path
) -> None:
    bundle = tmp_path / "my_bundle"
    bundle.mkdir()
    (bundle / "MANIFEST").write_bytes(b"")
    child = start_recorder(children, tmp_path, bundle=str(bundle))
    sent = publish_all(node, 20)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)  # answers the recorder's question for parameters
    bag = tmp_path / "bag"

    def asked() -> bool:
        executor.spin_once(timeout_sec=0.05)
        return on_disk(bag, sent[-1]) and on_disk(bag, b"parameters:/r1/policy")

    wait_for(asked, "messages and parameters in the bag")
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 0
    assert messages(bag, "/r1/cmd_vel") == sent
    with BagReader(bag) as reader:
        assert [v.value for v in reader.values() if v.topic == "goal_pose"] == [Goal(5 * NS, 1.0, 2.0)]
    assert len(messages(bag, "/r1/recorder/context")) >= 2
    found = metadata(mcap_files(bag)[0])
    assert found["recorder/bundle"]["digest"].startswith("e3b0c44298fc1c14")  # SHA-256 of no bytes
    assert found["recorder/parameters:/r1/recorder"]["bag"] == "'bag'"
    with AnyReader([bag]) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles[0].durability for c in reader.connections}
    assert offered["/r1/goal_pose"] == QosDurability.TRANSIENT_LOCAL
    assert offered["/r1/cmd_vel"] == QosDurability.VOLATILE


def test_after_kill_9_everything_flushed_is_recovered(node: Node, children: Children, tmp_path: Path) -> None:
    child = start_recorder(children, tmp_path)
    sent = publish_all(node, 10)
    wait_for(lambda: on_disk(tmp_path / "bag", sent[-1]), "the flush that the timer makes")
    child.kill()
    child.wait(PATIENCE_S)
    assert not (tmp_path / "bag" / "metadata.yaml").exists()
    report = recover(tmp_path / "bag", tmp_path / "whole")
    assert report.bytes_lost <= 64 * 1024
    assert messages(tmp_path / "whole", "/r1/cmd_vel") == sent


def test_the_transitions_of_the_base_are_in_the_bag(
    node: Node, children: Children, server: BaseServer, tmp_path: Path
) -> None:
    child, bag = start_recorder(children, tmp_path), tmp_path / "bag"
    options = ["-r", "__ns:=/r1", "-p", f"port:={server.url}", "-p", "connect_timeout_s:=20.0"]
    base = BaseNode(["--ros-args", *options], node.context)

    def written(state: bytes) -> int:
        return sum(path.read_bytes().count(state) for path in bag.glob("*.mcap"))

    def heard() -> bool:  # rclpy does not tell whether anybody listens to transitions: some, until one is in the bag
        assert base.trigger_configure() == base.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        return written(b"configuring") > 0

    try:
        wait_for(heard, "the first transition in the bag")
        before = written(b"deactivating")  # in the definition of the message
        assert base.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert base.trigger_activate() == TransitionCallbackReturn.SUCCESS, base.refusal
        assert base.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        wait_for(lambda: written(b"deactivating") == before + 2, "the way into it and out of it in the bag")
        assert base.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    finally:
        base.destroy_node()
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 0
    with AnyReader([bag]) as reader:
        kept = [c for c in reader.connections if c.topic == "/r1/base/transition_event"]
        events = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages(kept)]
    states = [event.goal_state.label for event in events]
    at = states.index("activating")
    assert states[at - 2 : at + 4] == ["configuring", "inactive", "activating", "active", "deactivating", "inactive"]


def test_extra_topics_are_recorded_by_the_type_that_the_graph_tells(
    node: Node, children: Children, tmp_path: Path
) -> None:
    from std_msgs.msg import String

    chatter = node.create_publisher(String, "chatter", 10)
    child = start_recorder(children, tmp_path, extra_topics="chatter")
    wait_for(chatter.get_subscription_count, "the recorder")
    chatter.publish(String(data="a distinct word"))
    wait_for(lambda: on_disk(tmp_path / "bag", b"a distinct word"), "the message in the bag")
    child.terminate()
    assert child.wait(PATIENCE_S) == 0
    assert len(messages(tmp_path / "bag", "/r1/chatter")) == 1


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"bundle": "no_such_bundle"}, "bundle = 'no_such_bundle'"),
        ({"split_mb": "-1.0"}, "split_mb = -1.0"),
        ({"folder": "x"}, "unknown parameter folder"),
    ],
)
def test_bad_parameters_end_the_recorder_with_status_2_and_the_reason(
    children: Children, tmp_path: Path, parameters: dict[str, str], told: str
) -> None:
    child = start_recorder(children, tmp_path, **parameters)
    _, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 2 and told in errors


def test_a_bag_that_exists_is_never_written_over(children: Children, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    child = start_recorder(children, tmp_path)
    _, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 2 and "exists already" in errors


def test_a_replay_gives_sensors_and_the_clock_but_no_commands(node: Node, children: Children, bag_of: Written) -> None:
    rows = [("goal_pose", Goal(1 * NS, 3.0, 4.0), 1 * NS)]
    for i in range(60):  # of the clock, which is best effort, the first may be lost
        stamp = NS + i * 25_000_000
        rows.append(("odom", Odom.from_yaw(stamp, 0.1 * i, 0.0, 0.0, 1.0, 0.0), stamp + 1))
        rows.append(("cmd_vel", Command(stamp, 1.0, 0.0), stamp + 2))
        rows.append(("scan", Scan(stamp, np.full(9, i, np.float32), -1.0, 0.25), stamp + 3))
    bag = bag_of(rows, namespace="/r1")
    got: dict[str, list[bytes]] = {name: [] for name in ("scan", "odom", "goal_pose", "cmd_vel")}
    for topic in (SCAN, ODOM, GOAL_POSE, CMD_VEL):
        node.create_subscription(topic.type, topic.name, got[topic.name].append, 100, raw=True)
    clock: list[int] = []
    node.create_subscription(
        CLOCK.type, CLOCK.name, lambda message: clock.append(message.clock.sec * NS + message.clock.nanosec), CLOCK.qos
    )
    command = [sys.executable, "-c", COMMAND, "bag", "replay", str(bag), "--wait", "20"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    children.append(child)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def over() -> object:
        executor.spin_once(timeout_sec=0.05)
        come = [len(got[name]) for name in ("scan", "odom", "goal_pose")]
        return child.poll() is not None and come == [60, 60, 1] and clock

    wait_for(over, "the replay")
    assert child.returncode == 0
    for name in ("scan", "odom", "goal_pose"):
        assert got[name] == messages(bag, f"/r1/{name}")
    assert got["cmd_vel"] == []
    assert clock == sorted(set(clock)) and clock[0] >= NS and clock[-1] <= rows[-1][2]
