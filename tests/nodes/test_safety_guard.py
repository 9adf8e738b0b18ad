"""The guard's node on real topics: it stops for the right reason, in time by simulated stamps, and is never silent."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from std_srvs.srv import SetBool, Trigger

from dsac_robot.core.blackbox import replay
from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.values import NS, Command, Contact
from dsac_robot.nodes import topics
from dsac_robot.nodes.converters import (
    command_to_message,
    contact_to_message,
    odom_to_message,
    scan_to_message,
    stamp_from_message,
)
from dsac_robot.nodes.safety_guard import GuardNode
from dsac_robot.nodes.states import BaseState, base_to_message, verdict_to_message
from tests.nodes.conftest import ROBOT, Rig

STATIC = {"obstacle_speed_mps_max": 0.0}


@pytest.fixture
def rig(make_rig) -> Rig:
    made = make_rig(GuardNode, safety_guard=STATIC)
    made.bring_up()
    return made


def call(rig: Rig, service_type, name: str, request):
    client = rig.world.create_client(service_type, name)
    rig.until(client.service_is_ready, f"{name} is there")
    future = client.call_async(request)
    rig.until(future.done, f"{name} answers")
    return future.result()


def test_a_judged_command_is_sent_on_and_stamped_with_ros_time(rig: Rig) -> None:
    rig.drive(1.0, command=(1.0, 0.0))
    assert rig.state.decision.level == Level.DRIVE
    assert rig.state.decision.reason == Reason.NONE
    sent = rig.world.sent[-1]
    assert (sent.twist.linear.x, sent.twist.angular.z) == pytest.approx((1.0, 0.0))
    assert sent.header.frame_id == "base_link"
    assert 0 <= stamp_from_message(sent.header.stamp) - rig.world.now_ns < 20_000_000


def test_stamps_of_what_is_sent_increase_and_are_those_of_the_states(rig: Rig) -> None:
    rig.drive(0.5)
    stamps = [stamp_from_message(m.header.stamp) for m in rig.world.sent]
    assert all(a < b for a, b in itertools.pairwise(stamps))
    assert {s.stamp_ns for s in rig.world.safety} <= set(stamps)


SILENCES = [
    ({"command": None}, {Reason.COMMAND_STALE}),
    ({"verdict": False}, {Reason.VERDICT_MISSING}),
    ({"scan": False}, {Reason.SCAN_STALE}),
    ({"odom": False}, {Reason.ODOM_STALE}),
    ({"clock": False}, {Reason.CLOCK_LOST}),
]


@pytest.mark.parametrize(("silence", "reasons"), SILENCES, ids=["policy", "monitor", "lidar", "odometry", "clock"])
def test_silence_at_full_speed_ends_at_rest_in_time_with_its_own_reason(rig: Rig, silence, reasons) -> None:
    rig.drive(1.8)
    assert rig.world.twist[0] == pytest.approx(2.0)
    began_ns, start = rig.world.now_ns, rig.world.pose
    steps = 0
    while rig.world.twist != (0.0, 0.0) or rig.state.decision.reason not in reasons:
        rig.step(**silence)
        steps += 1
        assert steps <= 60, f"not at rest: {rig.state}"
    assert (rig.world.now_ns - began_ns) / NS <= 1.0
    assert math.dist(start[:2], rig.world.pose[:2]) <= 1.2
    assert rig.state.decision.level == Level.STOP


def test_it_goes_on_publishing_zeros_while_simulated_time_stands_still(rig: Rig) -> None:
    rig.drive(0.3)
    for _ in range(40):
        rig.step(clock=False, scan=False, odom=False, command=None)
    count = len(rig.world.sent)
    rig.until(lambda: len(rig.world.sent) >= count + 10, "ten more commands without a clock")
    assert rig.world.twist == (0.0, 0.0)
    assert rig.state.decision.reason == Reason.CLOCK_LOST


def settle(rig: Rig, publish, reason: Reason) -> None:
    """Step, with ``publish`` called each time, until the guard stops for ``reason``."""
    for _ in range(40):
        publish()
        rig.step(odom=reason != Reason.ODOM_WRONG_FRAME, scan=reason != Reason.SCAN_WRONG_FRAME)
        if rig.state.decision.reason == reason:
            return
    raise AssertionError(f"never {reason.name}: {rig.state}")


def test_odometry_in_a_wrong_frame_is_a_stop_by_that_name(rig: Rig) -> None:
    rig.drive(0.3)

    def publish() -> None:
        message = odom_to_message(rig.world.odom())
        message.header.frame_id = "map"
        rig.world.publish(topics.ODOM, message)

    settle(rig, publish, Reason.ODOM_WRONG_FRAME)


def test_a_scan_in_a_wrong_frame_is_a_stop_by_that_name(rig: Rig) -> None:
    rig.drive(0.3)

    def publish() -> None:
        scan = replace(rig.world.scan(), frame_id="camera")
        rig.world.publish(topics.SCAN, scan_to_message(scan, ROBOT.lidar))

    settle(rig, publish, Reason.SCAN_WRONG_FRAME)


def test_a_second_publisher_of_commands_is_a_stop_until_it_is_gone(rig: Rig) -> None:
    rig.drive(0.3)
    second = rig.world.create_publisher(topics.POLICY_CMD_VEL.type, "policy/cmd_vel", topics.POLICY_CMD_VEL.qos)
    settle(rig, lambda: None, Reason.COMMAND_SECOND_PUBLISHER)
    rig.world.destroy_publisher(second)
    for _ in range(100):
        rig.step()
        if rig.state.decision.level < Level.STOP:
            return
    raise AssertionError(f"never left: {rig.state}")


def test_an_alarm_stops_and_a_caution_limits_the_speed(rig: Rig) -> None:
    rig.drive(0.8)
    for level, reason in ((OodLevel.CAUTION, Reason.OOD_CAUTION), (OodLevel.ALARM, Reason.OOD_ALARM)):
        for _ in range(35):
            rig.step(verdict=False)
            now_ns = rig.world.now_ns
            rig.world.publish(topics.OOD_STATE, verdict_to_message(Verdict(now_ns, now_ns, level, reason, 2.0)))
        assert rig.state.decision.reason == reason
        assert rig.world.twist[0] <= 0.5
    assert rig.world.twist == (0.0, 0.0)


def test_a_verdict_without_a_number_for_its_score_is_no_verdict_and_the_robot_stops(rig: Rig) -> None:
    rig.drive(0.8)
    assert rig.state.decision.level == Level.DRIVE
    for _ in range(35):
        rig.step(verdict=False)
        now_ns = rig.world.now_ns
        rig.world.publish(topics.OOD_STATE, verdict_to_message(Verdict(now_ns, now_ns, OodLevel.OK, score=math.nan)))
    assert (rig.state.decision.level, rig.state.decision.reason) == (Level.STOP, Reason.VERDICT_MISSING)
    assert rig.world.twist == (0.0, 0.0)


def test_a_contact_latches_until_a_reset_and_a_reset_works_only_when_it_is_over(rig: Rig) -> None:
    rig.drive(0.5)
    rig.world.publish(topics.CONTACT, contact_to_message(Contact(rig.world.now_ns, True)))
    rig.drive(0.1)
    assert (rig.state.decision.level, rig.state.decision.reason) == (Level.EMERGENCY, Reason.CONTACT)
    assert rig.world.twist == (0.0, 0.0)
    assert not call(rig, Trigger, "safety_guard/reset", Trigger.Request()).success
    rig.world.publish(topics.CONTACT, contact_to_message(Contact(rig.world.now_ns, False)))
    rig.drive(0.1)
    assert rig.state.decision.level == Level.EMERGENCY
    assert call(rig, Trigger, "safety_guard/reset", Trigger.Request()).success


def test_a_latched_stop_writes_the_black_box_and_its_replay_gives_the_decisions_that_were_published(
    make_rig, tmp_path: Path
) -> None:
    rig = make_rig(GuardNode, safety_guard={**STATIC, "blackbox_dir": str(tmp_path / "boxes"), "blackbox_s": 1.0})
    rig.bring_up()
    rig.drive(1.5, command=(1.0, 0.2))
    call(rig, Trigger, "safety_guard/stop", Trigger.Request())
    rig.until(lambda: not rig.node("safety_guard")._dump.is_alive(), "the dump")
    (path,) = (tmp_path / "boxes").iterdir()
    assert "OPERATOR_STOP" in path.name
    steps = list(replay(path))
    assert len(steps) == 50
    assert all(one.same for one in steps)
    assert steps[-1].decided.reason == Reason.OPERATOR_STOP
    published = [state.decision for state in rig.world.safety]
    assert [one.decided.speed_mps for one in steps[10:-1]] == [
        d.speed_mps for d in published if d.reason != Reason.OPERATOR_STOP
    ][-39:]


def test_the_operators_stop_latches_until_reset(rig: Rig) -> None:
    rig.drive(0.4)
    answer = call(rig, Trigger, "safety_guard/stop", Trigger.Request())
    assert (answer.success, answer.message) == (True, "EMERGENCY OPERATOR_STOP")
    rig.drive(0.8)
    assert rig.world.twist == (0.0, 0.0)
    assert call(rig, Trigger, "safety_guard/reset", Trigger.Request()).success
    rig.drive(0.8)
    assert rig.world.twist[0] > 0.5


def test_docking_is_asked_for_by_a_service_slows_the_robot_and_is_not_prolonged(rig: Rig) -> None:
    rig.drive(0.6)
    assert call(rig, SetBool, "safety_guard/dock", SetBool.Request(data=True)).success
    again = call(rig, SetBool, "safety_guard/dock", SetBool.Request(data=True))
    assert not again.success and "under way" in again.message
    rig.drive(0.8)
    assert 0.0 < rig.world.twist[0] < 0.12
    assert call(rig, SetBool, "safety_guard/dock", SetBool.Request(data=False)).success
    rig.drive(0.8)
    assert rig.world.twist[0] > 0.5
    call(rig, Trigger, "safety_guard/stop", Trigger.Request())
    refused = call(rig, SetBool, "safety_guard/dock", SetBool.Request(data=True))
    assert (refused.success, refused.message) == (False, "EMERGENCY OPERATOR_STOP")


def test_disabled_it_stops_and_enabled_it_drives_again(rig: Rig) -> None:
    rig.drive(0.3)
    assert call(rig, SetBool, "safety_guard/enable", SetBool.Request(data=False)).message == "STOP NOT_ENABLED"
    rig.drive(0.6)
    assert rig.world.twist == (0.0, 0.0)
    assert call(rig, SetBool, "safety_guard/enable", SetBool.Request(data=True)).success
    rig.drive(0.8)
    assert rig.world.twist[0] > 0.5


def test_teleop_drives_through_the_same_checks_without_policy_and_monitor(rig: Rig) -> None:
    for _ in range(40):
        rig.world.publish(topics.TELEOP_CMD_VEL, command_to_message(Command(rig.world.now_ns, 0.4, 0.0)))
        rig.step(command=None)
    assert rig.state.decision.reason == Reason.TELEOP
    assert rig.world.twist[0] == pytest.approx(0.4)
    rig.drive(1.5)
    assert (rig.state.decision.reason, rig.world.twist) == (Reason.TELEOP_STALE, (0.0, 0.0))
    assert call(rig, Trigger, "safety_guard/reset", Trigger.Request()).success
    rig.drive(0.8)
    assert rig.state.decision.level < Level.STOP


def test_inactive_it_publishes_a_stop_and_nothing_else(rig: Rig) -> None:
    rig.drive(0.5)
    rig.node("safety_guard").trigger_deactivate()
    rig.drive(0.6)
    assert rig.world.twist == (0.0, 0.0)
    assert (rig.state.decision.level, rig.state.decision.reason) == (Level.STOP, Reason.NOT_ENABLED)


def test_cleaned_up_it_says_zero_last(rig: Rig) -> None:
    rig.drive(0.5)
    assert rig.world.twist[0] > 0.5
    guard = rig.node("safety_guard")
    guard.trigger_deactivate()
    guard.trigger_cleanup()
    rig.until(lambda: rig.world.twist == (0.0, 0.0), "a last zero")


def test_an_unstamped_twist_is_published_where_the_base_wants_one(make_rig) -> None:
    guard = {"cmd_vel_type": "Twist", **STATIC}
    rig = make_rig(GuardNode, cmd_vel=topics.CMD_VEL_UNSTAMPED, safety_guard=guard)
    rig.bring_up()
    rig.drive(0.4, command=(1.0, 0.0))
    assert isinstance(rig.world.sent[-1], topics.CMD_VEL_UNSTAMPED.type)
    assert rig.world.twist[0] == pytest.approx(1.0)


def test_diagnostics_name_the_profile_and_the_guards_own_period(rig: Rig) -> None:
    rig.until(lambda: bool(rig.world.diagnostics), "diagnostics")
    status = rig.world.diagnostics[-1].status[0]
    values = {v.key: v.value for v in status.values}
    assert status.name == "/safety_guard: safety_guard"
    assert values["profile"] == "static"
    assert float(values["period_p50_s"]) > 0.0


def test_what_is_done_now_and_then_is_done_after_the_command_of_its_period_has_left(rig: Rig) -> None:
    done: list[str] = []
    rig.world.create_subscription(topics.CMD_VEL.type, "cmd_vel", lambda m: done.append("command"), topics.CMD_VEL.qos)
    rig.world.create_subscription(
        topics.DIAGNOSTICS.type, "/diagnostics", lambda m: done.append("diagnostics"), topics.DIAGNOSTICS.qos
    )
    rig.until(lambda: "diagnostics" in done, "diagnostics")
    assert done.count("command") >= 1
    assert done[-2] == "command"


def test_a_base_that_does_not_follow_or_falls_silent_is_a_stop_and_one_that_never_spoke_is_none(rig: Rig) -> None:
    rig.drive(0.3)
    assert rig.state.decision.level < Level.STOP

    def tell(reason: Reason) -> None:
        rig.world.publish(topics.BASE_STATE, base_to_message(BaseState(rig.world.now_ns, reason)))

    settle(rig, lambda: tell(Reason.BASE_ESTOP), Reason.BASE_ESTOP)
    for _ in range(100):
        tell(Reason.NONE)
        rig.step()
        if rig.state.decision.level < Level.STOP:
            break
    assert rig.state.decision.level < Level.STOP
    for _ in range(200):
        rig.step()
        if rig.state.decision.reason == Reason.BASE_SILENT:
            return
    raise AssertionError(f"never silent: {rig.state}")
