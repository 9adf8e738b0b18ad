"""The policy's and the monitor's nodes on real topics: ticks, stamps, goals, and one observation for both."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path

from dsac_robot.core.history import History
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, layout_for
from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.core.values import Command, Goal, Odom, Plan, ns
from dsac_robot.nodes import topics
from dsac_robot.nodes.converters import (
    command_from_message,
    command_to_message,
    goal_to_message,
    odom_to_message,
    plan_to_message,
    scan_to_message,
    stamp_from_message,
    stamp_to_message,
)
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from tests.nodes.conftest import ROBOT, Rig

PERIOD_NS = ns(ObservationLayout().control_period_s)


@pytest.fixture
def rig(make_rig, bundle_params) -> Rig:
    """Policy and monitor, with the world in the guard's place."""
    made = make_rig(PolicyNode, MonitorNode, policy=bundle_params, ood_monitor=bundle_params)
    made.bring_up()
    made.samples = History()
    return made


def feed(rig: Rig, late_odom: bool = False) -> None:
    """20 ms of the world: clock, scan, odometry and the command that a guard would have sent."""
    world = rig.world
    world.advance()
    world.publish_clock()
    scan, odom = world.scan(), Odom.from_yaw(world.now_ns, *world.pose, 0.3 + 1e-3 * world.rng.random(), 0.1)
    sent = Command(world.now_ns - ns(0.001), 0.3 + 1e-3 * world.rng.random(), 0.1)
    for sample in (scan, odom, sent):
        rig.samples.add(sample)
    world.publish(topics.SCAN, scan_to_message(scan, ROBOT.lidar))
    rig.cmd_vel.publish(command_to_message(sent))
    if late_odom:
        rig.quiet()
    world.publish(topics.ODOM, odom_to_message(odom))
    rig.quiet()


def set_goal(rig: Rig, x_m: float, y_m: float) -> None:
    goal = Goal(rig.world.now_ns, x_m, y_m)
    rig.samples.add(goal)
    rig.world.publish(topics.GOAL_POSE, goal_to_message(goal))
    rig.quiet()


def half_a_second(rig: Rig) -> Rig:
    """The rig with half a second of samples."""
    rig.cmd_vel = rig.world.create_publisher(topics.CMD_VEL.type, topics.CMD_VEL.name, topics.CMD_VEL.qos)
    rig.until(lambda: rig.cmd_vel.get_subscription_count() >= 3, "all hear cmd_vel")
    for _ in range(25):
        feed(rig)
    return rig


@pytest.fixture
def ready(rig: Rig) -> Rig:
    """With half a second of samples."""
    return half_a_second(rig)


def until_judged(rig: Rig, count: int, **how) -> None:
    for _ in range(200):
        if len(rig.world.verdicts) >= count:
            return
        feed(rig, **how)
    raise AssertionError(f"only {len(rig.world.verdicts)} verdicts; {len(rig.world.commands)} commands")


@pytest.mark.parametrize("late_odom", [False, True], ids=["in order", "odometry after the scan"])
def test_policy_and_monitor_see_the_observation_of_the_samples_bit_for_bit(ready: Rig, late_odom: bool) -> None:
    set_goal(ready, 5.0, 1.0)
    builder = ObservationBuilder(ROBOT, ObservationLayout())
    for count in range(1, 6):
        until_judged(ready, count, late_odom=late_odom)
        verdict, command = ready.world.verdicts[-1], ready.world.commands[-1]
        stamp_ns = stamp_from_message(command.header.stamp)
        expected = builder.build(ready.samples, stamp_ns)
        assert verdict.judged_stamp_ns == stamp_ns
        for name, term in expected.items():
            for node in ("policy", "ood_monitor"):
                seen = ready.node(node).observation[name]
                assert seen.dtype == term.dtype
                assert np.array_equal(seen, term), (node, name)


def test_commands_carry_the_stamps_of_scans_a_control_period_apart_in_the_base_frame(ready: Rig) -> None:
    set_goal(ready, 5.0, 1.0)
    until_judged(ready, 4)
    stamps = [stamp_from_message(m.header.stamp) for m in ready.world.commands]
    assert all(s % ns(0.02) == 0 for s in stamps)  # the world's scans
    assert np.all(np.diff(stamps) == PERIOD_NS)
    assert {m.header.frame_id for m in ready.world.commands} == {"base_link"}


def test_without_a_goal_the_policy_is_silent(ready: Rig) -> None:
    for _ in range(10):
        feed(ready)
    assert ready.world.commands == []


def test_at_the_goal_it_commands_zero_and_is_silent_once_the_robot_stands(ready: Rig) -> None:
    set_goal(ready, 0.1, 0.0)
    until_judged(ready, 2)
    assert {(c.speed_mps, c.yaw_rate_radps) for c in map(command_from_message, ready.world.commands)} == {(0.0, 0.0)}
    ready.world.advance()
    standing = Odom.from_yaw(ready.world.now_ns, 0.0, 0.0, 0.0, 0.0, 0.0)
    for _ in range(12):  # at rest
        ready.world.publish_clock()
        ready.world.publish(topics.SCAN, scan_to_message(ready.world.scan(), ROBOT.lidar))
        ready.world.publish(topics.ODOM, odom_to_message(standing))
        ready.quiet()
        ready.world.advance()
        standing = Odom.from_yaw(ready.world.now_ns, 0.0, 0.0, 0.0, 0.0, 0.0)
    count = len(ready.world.commands)
    for _ in range(12):
        feed(ready)
    assert len(ready.world.commands) == count


def test_a_goal_in_the_base_frame_drives_and_one_in_the_map_frame_does_not(ready: Rig) -> None:
    message = PoseStamped()
    message.header.frame_id = "map"
    message.pose.position.x = 4.0
    ready.world.publish(topics.GOAL_POSE, message)
    for _ in range(10):
        feed(ready)
    assert ready.world.commands == []
    message.header.frame_id = "base_link"
    ready.world.publish(topics.GOAL_POSE, message)
    until_judged(ready, 1)


def test_a_command_on_a_scan_that_the_monitor_never_saw_is_a_monitor_fault(ready: Rig) -> None:
    set_goal(ready, 5.0, 1.0)
    stamp_ns = ready.world.now_ns - ns(0.003)  # between two scans
    ready.world.publish(topics.POLICY_CMD_VEL, command_to_message(Command(stamp_ns, 0.1, 0.0)))
    ready.until(lambda: any(v.judged_stamp_ns == stamp_ns for v in ready.world.verdicts), "a verdict")
    verdict = next(v for v in ready.world.verdicts if v.judged_stamp_ns == stamp_ns)
    assert (verdict.level, verdict.reason) == (OodLevel.ALARM, Reason.MONITOR_FAULT)


def test_a_clock_that_jumps_back_forgets_all_samples_and_a_new_run_drives_again(ready: Rig) -> None:
    set_goal(ready, 5.0, 1.0)
    until_judged(ready, 1)
    ready.world.now_ns = ns(10.0)
    ready.samples = History()
    policy = ready.node("policy")

    def heard() -> bool:
        ready.world.publish_clock()
        return policy.now_ns() == ready.world.now_ns

    ready.until(heard, "the clock jumps")
    count = len(ready.world.commands)
    for _ in range(12):
        feed(ready)
    assert len(ready.world.commands) == count  # the goal is forgotten, too
    set_goal(ready, 5.0, 1.0)
    until_judged(ready, len(ready.world.verdicts) + 1)
    assert stamp_from_message(ready.world.commands[-1].header.stamp) < ns(20.0)


def test_diagnostics_name_the_bundle_and_who_signed_it(ready: Rig) -> None:
    def status(name: str):
        found = [m.status[0] for m in ready.world.diagnostics if m.status[0].name.startswith(f"/{name}")]
        return found[-1] if found else None

    for name in ("policy", "ood_monitor"):
        ready.until(lambda name=name: status(name) is not None, f"diagnostics of {name}")
        values = {v.key: v.value for v in status(name).values}
        assert len(values["bundle_digest"]) == 64
        assert values["signed_by"].endswith("test")
        assert "UNSIGNED" not in status(name).message


def test_an_unsigned_bundle_is_refused_and_where_allowed_every_diagnostic_says_so(make_rig, bundle) -> None:
    unsigned = {"bundle": str(bundle.parent / "unsigned"), "trusted_keys": str(bundle.parent / "keys")}
    rig = make_rig(PolicyNode, MonitorNode, policy={**unsigned, "allow_unsigned": True}, ood_monitor=unsigned)
    monitor = rig.node("ood_monitor")
    monitor.trigger_configure()
    assert "sig" in monitor.refusal.lower()
    rig.node("policy").trigger_configure()

    def messages(name: str) -> list[str]:
        statuses = [message.status[0] for message in rig.world.diagnostics]
        return [status.message for status in statuses if status.name.startswith(f"/{name}")]

    rig.until(lambda: bool(messages("policy") and messages("ood_monitor")), "diagnostics")
    assert all(message.startswith("UNSIGNED") for message in messages("policy"))
    assert all(message.startswith("refused to configure: ") for message in messages("ood_monitor"))


@pytest.mark.parametrize("node_class", [PolicyNode, MonitorNode])
def test_diagnostics_name_each_field_that_does_not_fit_the_bundles_value_and_the_robots(
    make_rig, bundle_params, tmp_path, node_class
) -> None:
    from dsac_robot.core.files import share_path

    text = share_path("config", "robots", "jackal.yaml").read_text(encoding="utf-8")
    other = text.replace("beams: 720", "beams: 700").replace("wheel_radius_m: 0.098", "wheel_radius_m: 0.1")
    (tmp_path / "other.yaml").write_text(other)
    name = "policy" if node_class is PolicyNode else "ood_monitor"
    rig = make_rig(node_class, **{name: {**bundle_params, "robot": str(tmp_path / "other.yaml")}})
    node = rig.node(name)
    node.trigger_configure()
    rig.until(lambda: bool(rig.world.diagnostics), "diagnostics")
    status = rig.world.diagnostics[-1].status[0]
    assert status.level == DiagnosticStatus.ERROR and status.name.startswith(f"/{name}")
    assert status.message == f"refused to configure: {node.refusal}"
    for sentence in (
        "lidar.beams: the bundle has 720, the robot has 700",
        "geometry.wheel_radius_m: the bundle has 0.098, the robot has 0.1",
    ):
        assert sentence in status.message


def test_a_provider_that_is_named_and_not_there_is_refused_and_the_cpu_can_be_named(make_rig, bundle_params) -> None:
    rig = make_rig(
        PolicyNode,
        MonitorNode,
        policy={**bundle_params, "provider": "tensorrt"},
        ood_monitor={**bundle_params, "provider": "cpu"},
    )
    policy = rig.node("policy")
    policy.trigger_configure()
    assert "TensorrtExecutionProvider" in policy.refusal
    monitor = rig.node("ood_monitor")
    monitor.trigger_configure()
    assert monitor.refusal is None


@pytest.fixture
def following(make_rig, follower_params) -> Rig:
    """Policy and monitor of a bundle that follows plans, with half a second of samples."""
    made = make_rig(PolicyNode, MonitorNode, policy=follower_params, ood_monitor=follower_params)
    made.bring_up()
    made.samples = History()
    return half_a_second(made)


def send_plan(rig: Rig, points_m: list[tuple[float, float]], frame: str = "odom") -> None:
    """A plan as any planner sends it: its poses are no schedule."""
    message = Path()
    message.header.frame_id, message.header.stamp = frame, stamp_to_message(rig.world.now_ns)
    for x, y in points_m:
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.position.y = x, y
        message.poses.append(pose)
    rig.world.publish(topics.PLAN, message)
    rig.quiet()


WAY = [(-1.0, 0.2), (3.0, 0.2), (3.0, 5.0)]


def test_policy_and_monitor_see_a_plan_in_the_observation_of_the_samples_bit_for_bit(following: Rig) -> None:
    following.samples.add(Plan(following.world.now_ns, np.array(WAY), 0.4))
    send_plan(following, WAY)
    builder = ObservationBuilder(ROBOT, layout_for("track", ROBOT))
    for count in range(1, 4):
        until_judged(following, count)
        stamp_ns = following.world.verdicts[-1].judged_stamp_ns
        expected = builder.build(following.samples, stamp_ns)
        assert set(expected) >= {"path_errors", "path_ahead"}
        for name, term in expected.items():
            for node in ("policy", "ood_monitor"):
                assert np.array_equal(following.node(node).observation[name], term), (node, name)
    command = command_from_message(following.world.commands[-1])
    assert 0.2 < command.speed_mps < 0.6 and command.yaw_rate_radps > 0.0  # the plan is to the left


def test_a_goal_alone_or_a_plan_that_cannot_be_followed_moves_no_follower_of_plans(following: Rig) -> None:
    set_goal(following, 5.0, 1.0)
    send_plan(following, [(5.0, 1.0)])
    send_plan(following, WAY, frame="map")
    message = plan_to_message(Plan(following.world.now_ns, np.array(WAY), 2.5))  # faster than the robot can
    following.world.publish(topics.PLAN, message)
    for _ in range(10):
        feed(following)
    assert following.world.commands == []
    send_plan(following, WAY, frame="base_link")
    until_judged(following, 1)


def test_at_the_end_of_its_way_a_follower_commands_zero_though_the_end_is_not_where_the_robot_is(
    following: Rig,
) -> None:
    send_plan(following, [(-3.0, 0.7), (0.2, 0.7)])  # beside the robot, which stands at the origin
    until_judged(following, 2)
    ends = {(c.speed_mps, c.yaw_rate_radps) for c in map(command_from_message, following.world.commands)}
    assert ends == {(0.0, 0.0)}


def test_a_lap_that_ends_where_it_begins_is_driven(following: Rig) -> None:
    send_plan(following, [(0.0, 0.0), (4.0, 0.0), (4.0, 3.0), (0.0, 3.0), (0.0, 0.0)])
    until_judged(following, 2)
    assert command_from_message(following.world.commands[-1]).speed_mps > 0.2


def test_a_policy_that_drives_to_goals_takes_the_end_of_a_plan(ready: Rig) -> None:
    send_plan(ready, WAY)
    until_judged(ready, 1)
    np.testing.assert_allclose(ready.node("policy").observation["goal_in_base"], [3.0, 5.0], atol=0.2)
