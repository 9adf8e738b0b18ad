"""The access policy for DDS-Security: only the guard may move the robot, and every topic in it is one of the stack."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from dsac_robot.core.files import share_path
from dsac_robot.nodes.topics import CMD_VEL, POLICY_CMD_VEL, SAFETY_STATE, TOPICS

POLICY = share_path("config", "security", "policy.xml")


def allowed(direction: str) -> dict[str, set[str]]:
    """Nodes by topic that may publish, or subscribe to, it."""
    found: dict[str, set[str]] = {}
    for profile in ElementTree.parse(Path(POLICY)).iter("profile"):
        for group in profile.iter("topics"):
            if group.get(direction) == "ALLOW":
                for topic in group.iter("topic"):
                    found.setdefault(str(topic.text), set()).add(str(profile.get("node")))
    return found


def test_only_the_guard_may_publish_cmd_vel_and_only_the_policy_its_own() -> None:
    publishers = allowed("publish")
    assert publishers[CMD_VEL.name] == {"safety_guard"}
    assert publishers[POLICY_CMD_VEL.name] == {"policy"}
    assert publishers[SAFETY_STATE.name] == {"safety_guard"}
    assert not any("*" in topic for topic in publishers)


def test_every_topic_of_the_policy_is_one_of_the_stack_and_has_one_publisher() -> None:
    known = {topic.name for topic in TOPICS}
    publishers, subscribers = allowed("publish"), allowed("subscribe")
    assert set(publishers) | set(subscribers) <= known
    assert set(subscribers) <= set(publishers)
    assert all(len(nodes) == 1 for nodes in publishers.values())


def test_the_guard_may_hear_all_that_it_decides_by() -> None:
    subscribers = allowed("subscribe")
    for topic in ("scan", "odom", "contact", "policy/cmd_vel", "teleop/cmd_vel", "ood/state"):
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
