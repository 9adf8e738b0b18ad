"""The access policy for DDS-Security: only the guard may move the robot, and every topic in it is one of the stack."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from rclpy.lifecycle import TransitionCallbackReturn

from dsac_robot.core.files import share_path
from dsac_robot.nodes import interfaces
from dsac_robot.nodes.base import BaseNode
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from dsac_robot.nodes.recorder import Recorder
from dsac_robot.nodes.safety_guard import GuardNode
from dsac_robot.nodes.topics import CMD_VEL, POLICY_CMD_VEL, SAFETY_STATE, TOPICS

POLICY = share_path("config", "security", "policy.xml")
COMMON = {"/rosout", "/parameter_events", "/diagnostics", "/clock"}  # what common.xml gives every node


def allowed(direction: str) -> dict[str, set[str]]:
    """Nodes by topic that may publish, or subscribe to, it."""
    found: dict[str, set[str]] = {}
    for profile in ElementTree.parse(Path(POLICY)).iter("profile"):
        for group in profile.iter("topics"):
            if group.get(direction) == "ALLOW":
                for topic in group.iter("topic"):
                    found.setdefault(str(topic.text), set()).add(str(profile.get("node")))
    return found


SERVICES = {name for name, _, _ in interfaces.SERVICES if "<" not in name}


@pytest.mark.parametrize("name", ["safety_guard", "ood_monitor", "policy", "base", "recorder"])
def test_each_node_may_say_and_hear_all_that_it_does_say_and_hear(make_rig, bundle_params, name: str) -> None:
    made = {"safety_guard": GuardNode, "ood_monitor": MonitorNode, "policy": PolicyNode, "base": BaseNode}
    given = {name: bundle_params} if name in ("policy", "ood_monitor") else {}
    rig = make_rig({**made, "recorder": Recorder}[name], **given)
    node = rig.node(name)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.refusal
    for direction, ends in (("publish", node.publishers), ("subscribe", node.subscriptions)):
        may = {topic if topic[0] in "/~" else f"/{topic}" for topic, who in allowed(direction).items() if name in who}
        does = {end.topic_name for end in ends}
        own = {topic for topic in does if topic.startswith(f"/{name}/")}
        assert does - own - COMMON <= may, direction


def test_an_operator_may_call_every_service_that_is_for_operators() -> None:
    profile = next(p for p in ElementTree.parse(Path(POLICY)).iter("profile") if p.get("node") == "operator")
    called = {str(s.text) for group in profile.iter("services") for s in group.iter("service")}
    assert called == SERVICES


def test_only_the_guard_may_publish_cmd_vel_and_only_the_policy_its_own() -> None:
    publishers = allowed("publish")
    assert publishers[CMD_VEL.name] == {"safety_guard"}
    assert publishers[POLICY_CMD_VEL.name] == {"policy"}
    assert publishers[SAFETY_STATE.name] == {"safety_guard"}
    assert not any("*" in topic for topic in publishers)


def test_every_topic_of_the_policy_is_one_of_the_stack_and_has_one_publisher() -> None:
    known = {topic.name for topic in TOPICS} | {"/tf", "/tf_static"}
    own = {f"{node}/transition_event" for node in ("safety_guard", "ood_monitor", "policy", "base")}  # as ~/*
    publishers, subscribers = allowed("publish"), allowed("subscribe")
    assert set(publishers) | set(subscribers) <= known | own
    assert set(subscribers) - COMMON - own - {"/tf_static"} <= set(publishers)
    assert all(len(nodes) == 1 for nodes in publishers.values())


def test_the_guard_may_hear_all_that_it_decides_by() -> None:
    subscribers = allowed("subscribe")
    for topic in ("scan", "odom", "contact", "policy/cmd_vel", "teleop/cmd_vel", "ood/state", "base/state"):
        assert "safety_guard" in subscribers[topic]


def test_the_file_that_all_profiles_include_is_there_and_lets_nothing_move_the_robot() -> None:
    root = ElementTree.parse(Path(POLICY)).getroot()
    include = "{http://www.w3.org/2001/XInclude}include"
    included = {str(element.get("href")) for element in root.iter(include)}
    assert included == {"common.xml"}
    assert len(list(root.iter(include))) == len(list(root.iter("profile")))
    common = ElementTree.parse(Path(POLICY).with_name("common.xml")).getroot()
    topics = {str(topic.text) for topic in common.iter("topic")}
    assert topics == {"/rosout", "/parameter_events", "/diagnostics", "~/*", "/clock"}
