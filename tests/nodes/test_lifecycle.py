"""Managed nodes: what exists in which state, and how a process of one ends."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from dsac_robot.core.params import ParameterError
from dsac_robot.nodes import topics
from dsac_robot.nodes.base import BaseNode
from dsac_robot.nodes.compose import BringUpError, check_sections, compose, ros_arguments
from dsac_robot.nodes.lifecycle import StackNode
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from dsac_robot.nodes.run import make_executor, spin_while
from dsac_robot.nodes.safety_guard import GuardNode

ROOT = Path(__file__).resolve().parents[2]
OK = TransitionCallbackReturn.SUCCESS
NODES = (GuardNode, MonitorNode, PolicyNode)
PUBLISHES = {
    "safety_guard": {"/cmd_vel", "/safety/state", "/diagnostics"},
    "ood_monitor": {"/ood/state", "/diagnostics"},
    "policy": {"/policy/cmd_vel", "/diagnostics"},
}
SUBSCRIBES = {
    "safety_guard": {"/scan", "/odom", "/contact", "/policy/cmd_vel", "/teleop/cmd_vel", "/ood/state", "/base/state"}
    | {"/clock"},
    "ood_monitor": {"/scan", "/odom", "/imu", "/goal_pose", "/plan", "/cmd_vel", "/policy/cmd_vel", "/clock"},
    "policy": {"/scan", "/odom", "/imu", "/goal_pose", "/plan", "/cmd_vel", "/clock"},
}
OWN = {"/rosout", "/parameter_events"}


@pytest.fixture
def rig(make_rig, bundle_params):
    return make_rig(*NODES, policy=bundle_params, ood_monitor=bundle_params)


def topics_of(node: StackNode) -> tuple[set[str], set[str]]:
    """The names that the node itself publishes and subscribes to, but for its services and what each node has."""
    publishes = {publisher.topic_name for publisher in node.publishers} - OWN
    subscribes = {subscription.topic_name for subscription in node.subscriptions} - OWN
    return publishes, subscribes


@pytest.mark.parametrize("name", list(PUBLISHES))
def test_a_node_has_its_topics_from_configure_to_cleanup_and_can_do_it_twice(rig, name: str) -> None:
    node = rig.node(name)
    for _ in range(2):
        assert topics_of(node) == (set(), {"/clock"})
        for trigger in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate):
            assert trigger() == OK
            assert topics_of(node) == (PUBLISHES[name], SUBSCRIBES[name])
        assert node.trigger_cleanup() == OK
    assert node.trigger_configure() == OK
    assert node.trigger_activate() == OK
    assert node.active
    assert node.trigger_shutdown() == OK
    assert not node.active
    assert topics_of(node) == (set(), {"/clock"})


def test_an_invalid_transition_is_refused_and_changes_nothing(rig) -> None:
    node = rig.node("safety_guard")
    assert node.trigger_activate() != OK
    assert not node.active
    assert node.trigger_configure() == OK


def test_a_refused_configure_leaves_its_reason_in_diagnostics_alone_and_can_be_tried_again(rig, bundle) -> None:
    node = rig.node("policy")
    hidden = bundle.with_name("hidden")
    bundle.rename(hidden)
    try:
        assert node.trigger_configure() != OK
        assert str(bundle) in node.refusal
        assert topics_of(node) == ({"/diagnostics"}, {"/clock"})
    finally:
        hidden.rename(bundle)
    assert node.trigger_configure() == OK


@pytest.mark.parametrize("topic", [t for t in topics.TOPICS if t != topics.CLOCK], ids=lambda t: t.name)
def test_every_end_of_every_topic_has_the_qos_of_the_table(make_rig, bundle_params, topic: topics.Topic) -> None:
    rig = make_rig(*NODES, BaseNode, policy=bundle_params, ood_monitor=bundle_params)
    for node in rig.composition.nodes.values():
        node.trigger_configure()
    name = topic.name if topic.name.startswith("/") else f"/{topic.name}"
    world: Node = rig.world
    ends = [*world.get_publishers_info_by_topic(name), *world.get_subscriptions_info_by_topic(name)]
    ours = [end for end in ends if end.node_name in (*PUBLISHES, "base")]
    assert ours
    reliable, latched = topic.quality.reliable, topic.quality.transient_local
    for end in ours:
        assert end.topic_type == topic.type_name
        profile = end.qos_profile
        assert profile.reliability == (ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)
        assert profile.durability == (DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


def test_two_robots_in_two_namespaces_do_not_hear_each_other(context: Context) -> None:
    robots = [compose([GuardNode], namespace=name, context=context) for name in ("left", "right")]
    listener = Node("listener", context=context)
    executor = make_executor(context)
    executor.add_node(listener)
    heard: set[str] = set()
    for name in ("left", "right"):
        topic = topics.CMD_VEL
        listener.create_subscription(topic.type, f"/{name}/cmd_vel", lambda m, n=name: heard.add(n), topic.qos)
    try:
        for robot in robots:
            robot.bring_up(needs_sensors=())
            guard = robot.nodes["safety_guard"]
            namespace = guard.get_namespace()
            assert topics_of(guard)[0] == {f"{namespace}/cmd_vel", f"{namespace}/safety/state", "/diagnostics"}
        for _ in range(500):
            for each in (executor, *(robot.executor for robot in robots)):
                each.spin_once(timeout_sec=0.005)
            if heard == {"left", "right"}:
                break
        assert heard == {"left", "right"}
    finally:
        listener.destroy_node()
        for robot in robots:
            robot.close()


def test_bring_up_waits_for_the_sensors_and_then_takes_the_nodes_in_order(rig) -> None:
    order: list[str] = []
    for name, node in rig.composition.nodes.items():
        activate = node.activate
        node.activate = lambda name=name, activate=activate: (order.append(name), activate())
    rig.composition.bring_up()  # the world publishes scan and odom
    assert order == ["safety_guard", "ood_monitor", "policy"]


def test_bring_up_waits_while_there_is_no_lidar(context: Context) -> None:
    composition = compose([GuardNode], context=context)
    try:
        spins = iter(range(5))
        composition.bring_up(going=lambda: next(spins, None) is not None)
        assert not composition.nodes["safety_guard"].active
    finally:
        composition.close()


def test_bring_up_names_the_node_that_refuses(make_rig, bundle) -> None:
    rig = make_rig(MonitorNode, ood_monitor={"bundle": str(bundle)})  # its key is not trusted here
    with pytest.raises(BringUpError, match="/ood_monitor: "):
        rig.composition.bring_up(needs_sensors=())


def test_the_guard_refuses_a_reaction_time_that_is_less_than_its_robot_needs(make_rig) -> None:
    rig = make_rig(GuardNode, safety_guard={"reaction_s": 0.045})
    with pytest.raises(BringUpError, match=r"safety_guard.*reaction_s = 0.045 must be at least 0.05.*action_delay_s"):
        rig.composition.bring_up()


def test_a_section_for_a_node_that_is_not_there_is_refused(context: Context, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("/**/safty_guard:\n  ros__parameters:\n    margin_m: 0.1\n")
    with pytest.raises(ParameterError, match="section /\\*\\*/safty_guard is for no node here; known: safety_guard"):
        compose([GuardNode], [file], context=context)
    file.write_text("/**:\n  safety_guard:\n    ros__parameters:\n      margin_m: 0.1\n")
    check_sections(file, ["safety_guard"])


def test_a_remap_without_its_sign_is_refused() -> None:
    assert ros_arguments(["a.yaml"], "/r1/", ["scan:=front"]) == [
        *("--ros-args", "--params-file", "a.yaml", "-r", "__ns:=/r1", "-r", "scan:=front")
    ]
    with pytest.raises(ParameterError, match="from:=to"):
        ros_arguments(remaps=["scan=front"])


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "dsac_robot.nodes.safety_guard", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--ros-args", "-p", "margin:=0.1"), "unknown parameter margin; known: autostart"),
        (("--ros-args", "-p", "autostart:=true", "-p", "robot:=rover"), "unknown robot 'rover'; known: "),
        (("--verbose",), "unknown argument --verbose"),
        (("--ros-args", "--params-file", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_bad_input_ends_the_process_with_status_2_and_one_line(arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in result.stderr


@pytest.fixture
def until_spoken(context: Context) -> Iterator[Callable[[], None]]:
    """Spins until a guard in another process has published."""
    listener = Node("listener", context=context)
    executor = make_executor(context)
    executor.add_node(listener)
    heard: list = []
    listener.create_subscription(topics.SAFETY_STATE.type, "safety/state", heard.append, topics.SAFETY_STATE.qos)

    def spin() -> None:
        spins = iter(range(3000))
        spin_while(executor, lambda: not heard and next(spins, None) is not None, context)
        assert heard, "the guard never spoke"

    yield spin
    listener.destroy_node()


GUARD = [sys.executable, "-m", "dsac_robot.nodes.safety_guard", "--ros-args", "-p", "autostart:=true"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(until_spoken, number: signal.Signals) -> None:
    process = subprocess.Popen(GUARD, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until_spoken()
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert "Traceback" not in output
    finally:
        process.kill()
        process.wait()


def test_a_node_ends_with_the_process_that_started_it_where_it_is_told_to(until_spoken) -> None:
    command = shlex.join([*GUARD, "-p", "exit_with_parent:=true"])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    shell = subprocess.Popen(["sh", "-c", f"{command} & echo $!; read line"], cwd=ROOT, **pipes)
    child = int(shell.stdout.readline())
    try:
        until_spoken()
        output, _ = shell.communicate("end\n", timeout=30)  # returns when the node, too, has closed the pipe
        assert "Traceback" not in output
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise


def test_a_context_that_is_shut_down_from_outside_ends_the_process_cleanly() -> None:
    program = (
        "import sys, threading, time, rclpy\n"
        "from dsac_robot.nodes.safety_guard import GuardNode, main\n"
        "active, activate = threading.Event(), GuardNode.on_activate\n"
        "def on_activate(self, state):\n"
        "    done = activate(self, state)\n"
        "    active.set()\n"
        "    return done\n"
        "GuardNode.on_activate = on_activate\n"
        "def end():\n"
        "    active.wait()\n"
        "    time.sleep(0.5)\n"
        "    rclpy.shutdown()\n"
        "threading.Thread(target=end, daemon=True).start()\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "--ros-args", "-p", "autostart:=true"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
