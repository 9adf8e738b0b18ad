"""Messages and core values convert into each other without loss."""

import math
from dataclasses import replace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Path
from rclpy.serialization import deserialize_message, serialize_message

from dsac_robot.core.guard_types import Decision, Verdict
from dsac_robot.core.history import History, MissingSampleError
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Contact, Goal, Imu, Odom, Plan, Scan
from dsac_robot.nodes import converters as c
from dsac_robot.nodes.states import (
    SafetyState,
    decision_from_message,
    decision_to_message,
    verdict_from_message,
    verdict_to_message,
)

STAMPS = st.integers(0, 2**31 * 10**9 - 1)
DOUBLES = st.floats(allow_nan=False)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
NUMBERS = st.lists(st.tuples(NAMES, DOUBLES), max_size=8).map(tuple)
LIDAR = load_robot("jackal").lidar


def wired(message):
    """The message as it comes out at the other end of a wire."""
    return deserialize_message(serialize_message(message), type(message))


@given(STAMPS, st.lists(st.integers(0, 2**32 - 1), max_size=50), st.floats(width=32, allow_nan=False))
def test_a_scan_keeps_every_bit_of_its_ranges(stamp_ns: int, bits: list[int], angle_rad: float) -> None:
    ranges = np.array(bits, np.uint32).view(np.float32)
    scan = Scan(stamp_ns, ranges, angle_rad if math.isfinite(angle_rad) else 0.0, 0.25, "laser")
    back = c.scan_from_message(wired(c.scan_to_message(scan, LIDAR)))
    same = back.ranges_m.view(np.uint32) == ranges.view(np.uint32)
    # A signalling NaN may become quiet on its way through a C float; it stays NaN.
    assert np.all(same | (np.isnan(ranges) & np.isnan(back.ranges_m)))
    assert (back.stamp_ns, back.angle_min_rad, back.angle_increment_rad, back.frame_id) == (
        stamp_ns,
        scan.angle_min_rad,
        0.25,
        "laser",
    )


def test_the_ranges_of_a_converted_scan_cannot_be_written() -> None:
    scan = c.scan_from_message(c.scan_to_message(Scan(0, np.ones(3, np.float32)), LIDAR))
    with pytest.raises(ValueError, match="read-only"):
        scan.ranges_m[0] = 2.0


@given(st.builds(Odom, STAMPS, DOUBLES, DOUBLES, DOUBLES, DOUBLES, DOUBLES, DOUBLES))
def test_odometry_comes_back_equal(odom: Odom) -> None:
    assert c.odom_from_message(wired(c.odom_to_message(odom))) == odom


@given(st.builds(Imu, STAMPS, DOUBLES, DOUBLES, DOUBLES))
def test_imu_comes_back_equal(imu: Imu) -> None:
    assert c.imu_from_message(wired(c.imu_to_message(imu))) == imu


@given(st.builds(Command, STAMPS, DOUBLES, DOUBLES))
def test_a_command_comes_back_equal_stamped_or_not(command: Command) -> None:
    assert c.command_from_message(wired(c.command_to_message(command))) == command
    assert c.twist_from_message(wired(c.twist_to_message(command)), command.stamp_ns) == command


@given(st.builds(Contact, STAMPS, st.booleans()))
def test_a_contact_comes_back_equal(contact: Contact) -> None:
    assert c.contact_from_message(wired(c.contact_to_message(contact))) == contact


@pytest.mark.parametrize("value", [math.nan, 0.0, 1.0])
def test_a_contact_that_is_neither_yes_nor_no_is_refused(value: float) -> None:
    message = c.contact_to_message(Contact(0, True))
    message.range = value
    with pytest.raises(c.ConversionError, match="contact range"):
        c.contact_from_message(message)


@given(st.builds(Goal, st.integers(1, 2**31 * 10**9 - 1), *[st.floats(allow_nan=False, allow_infinity=False)] * 2))
def test_a_goal_in_the_odom_frame_comes_back_equal(goal: Goal) -> None:
    assert c.goal_from_message(wired(c.goal_to_message(goal)), History(), 0) == goal


@pytest.mark.parametrize("stamp_ns", [-1, 2**31 * 10**9])
def test_a_stamp_that_a_message_cannot_hold_is_refused(stamp_ns: int) -> None:
    with pytest.raises(c.ConversionError, match=str(stamp_ns)):
        c.stamp_to_message(stamp_ns)


def pose(frame: str, x_m: float, y_m: float, stamp_ns: int = 0) -> PoseStamped:
    message = PoseStamped()
    message.header.frame_id, message.header.stamp = frame, c.stamp_to_message(stamp_ns)
    message.pose.position.x, message.pose.position.y = x_m, y_m
    return message


def test_a_goal_in_the_base_frame_is_moved_with_the_odometry_of_its_own_stamp() -> None:
    history = History()
    history.add(Odom.from_yaw(100, 1.0, 2.0, math.pi / 2, 0.0, 0.0))
    history.add(Odom.from_yaw(200, 9.0, 9.0, 0.0, 0.0, 0.0))
    goal = c.goal_from_message(pose("base_link", 3.0, 0.0, 150), history, 999)
    assert goal.stamp_ns == 150
    assert (goal.x_m, goal.y_m) == pytest.approx((1.0, 5.0))


def test_a_goal_in_the_base_frame_waits_for_odometry() -> None:
    with pytest.raises(MissingSampleError):
        c.goal_from_message(pose("base_link", 3.0, 0.0, 150), History(), 999)


def test_a_goal_without_a_stamp_has_the_time_it_came() -> None:
    assert c.goal_from_message(pose("odom", 1.0, 2.0), History(), 77) == Goal(77, 1.0, 2.0)


@pytest.mark.parametrize("frame", ["map", ""])
def test_a_goal_in_another_frame_is_refused_by_its_name(frame: str) -> None:
    with pytest.raises(c.ConversionError, match=f"'{frame}'.*'odom' or 'base_link'"):
        c.goal_from_message(pose(frame, 1.0, 2.0), History(), 77)


def test_a_goal_in_another_frame_is_moved_where_there_are_transforms() -> None:
    def lookup(target: str, source: str, x_m: float, y_m: float) -> tuple[float, float]:
        assert (target, source) == ("odom", "map")
        return x_m + 10.0, y_m

    assert c.goal_from_message(pose("map", 1.0, 2.0), History(), 77, lookup=lookup) == Goal(77, 11.0, 2.0)


def test_the_goal_of_a_plan_is_its_last_pose_and_an_empty_plan_is_refused() -> None:
    plan = Path(poses=[pose("odom", 1.0, 2.0), pose("odom", 3.0, 4.0)])
    plan.header.frame_id = "odom"
    assert c.goal_from_message(plan, History(), 5) == Goal(5, 3.0, 4.0)
    plan.poses = []
    with pytest.raises(c.ConversionError, match="no poses"):
        c.goal_from_message(plan, History(), 5)


WAY_M = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [4.0, 2.0]])


def path(points_m: np.ndarray, frame: str = "odom", stamp_ns: int = 0) -> Path:
    message = Path(poses=[pose("", float(x), float(y)) for x, y in points_m])
    message.header.frame_id, message.header.stamp = frame, c.stamp_to_message(stamp_ns)
    return message


def test_a_plan_comes_back_with_the_same_points_and_a_speed_within_the_stamps_nanoseconds() -> None:
    plan = Plan(7_000_000_123, WAY_M, 0.37)
    message = wired(c.plan_to_message(plan))
    back = c.plan_from_message(message, 0.2, History(), 0)
    assert back.stamp_ns == plan.stamp_ns
    assert back.points_m.tobytes() == plan.points_m.tobytes()
    assert back.speed_mps == pytest.approx(0.37, rel=1e-8)
    ends = [c.stamp_from_message(message.poses[i].header.stamp) for i in (0, -1)]
    assert ends[0] == plan.stamp_ns and ends[1] - ends[0] == round(6.0 / 0.37 * 1e9)


@pytest.mark.parametrize("stamps_ns", [(0, 0, 0, 0), (5, 5, 5, 5), (1, 2, 2, 3), (4, 3, 2, 1)])
def test_a_path_whose_poses_are_no_schedule_is_followed_at_the_speed_of_the_parameter(stamps_ns: tuple) -> None:
    message = path(WAY_M)
    for each, stamp_ns in zip(message.poses, stamps_ns, strict=True):
        each.header.stamp = c.stamp_to_message(stamp_ns)
    assert c.plan_from_message(message, 0.2, History(), 9).speed_mps == 0.2


def test_a_plan_in_the_base_frame_is_moved_with_the_odometry_of_its_own_stamp_and_waits_for_it() -> None:
    with pytest.raises(MissingSampleError):
        c.plan_from_message(path(WAY_M, "base_link", 150), 0.2, History(), 999)
    history = History()
    history.add(Odom.from_yaw(100, 1.0, 2.0, math.pi / 2, 0.0, 0.0))
    history.add(Odom.from_yaw(200, 9.0, 9.0, 0.0, 0.0, 0.0))
    plan = c.plan_from_message(path(WAY_M, "base_link", 150), 0.2, history, 999)
    np.testing.assert_allclose(plan.points_m, [[1.0, 2.0], [1.0, 3.0], [-1.0, 3.0], [-1.0, 6.0]], atol=1e-12)


def test_positions_that_a_planner_repeats_are_left_out() -> None:
    plan = c.plan_from_message(path(np.repeat(WAY_M, 3, axis=0)), 0.2, History(), 0)
    np.testing.assert_array_equal(plan.points_m, WAY_M)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (path(np.zeros((0, 2))), "0 different positions"),
        (path(np.ones((5, 2))), "1 different positions: following needs at least 2"),
        (path(np.array([[0.0, 0.0], [math.nan, 1.0]])), "must be finite"),
        (path(WAY_M, "map"), "plan in frame 'map' refused"),
    ],
)
def test_a_path_that_cannot_be_followed_is_refused(message: Path, says: str) -> None:
    with pytest.raises(c.ConversionError, match=says):
        c.plan_from_message(message, 0.2, History(), 0)


def test_a_goal_that_is_not_finite_is_refused() -> None:
    with pytest.raises(c.ConversionError, match="nan"):
        c.goal_from_message(pose("odom", math.nan, 0.0), History(), 5)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
VERDICTS = st.one_of(
    st.builds(Verdict, STAMPS, STAMPS, st.sampled_from(OodLevel), st.sampled_from(Reason), FINITE, FINITE, FINITE),
    st.builds(Verdict, STAMPS, STAMPS, st.just(OodLevel.ALARM), st.sampled_from(Reason), DOUBLES, DOUBLES, DOUBLES),
)


@given(VERDICTS)
def test_a_verdict_comes_back_equal(verdict: Verdict) -> None:
    assert verdict_from_message(wired(verdict_to_message(verdict))) == verdict


@pytest.mark.parametrize("level", [OodLevel.OK, OodLevel.CAUTION])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["score", "caution_threshold", "alarm_threshold"])
def test_a_verdict_whose_numbers_are_not_finite_is_refused(level: OodLevel, value: float, field: str) -> None:
    verdict = replace(Verdict(7, 6, level, Reason.NONE, 0.1, 0.2, 0.3), **{field: value})
    with pytest.raises(c.ConversionError, match=f"ood_monitor: {level.name} with .* must be finite"):
        verdict_from_message(wired(verdict_to_message(verdict)))


def test_an_alarm_is_heard_whatever_its_score() -> None:
    verdict = Verdict(7, 6, OodLevel.ALARM, Reason.MONITOR_FAULT, math.nan, 0.2, 0.3)
    heard = verdict_from_message(wired(verdict_to_message(verdict)))
    assert heard.level is OodLevel.ALARM and heard.reason is Reason.MONITOR_FAULT and math.isnan(heard.score)


DECISIONS = st.builds(Decision, DOUBLES, DOUBLES, st.sampled_from(Level), st.sampled_from(Reason), NUMBERS)


@given(st.builds(SafetyState, STAMPS, STAMPS, DECISIONS))
def test_a_decision_comes_back_equal(state: SafetyState) -> None:
    assert decision_from_message(wired(decision_to_message(state))) == state


def state_message() -> DiagnosticArray:
    return decision_to_message(SafetyState(5, 6, Decision(0.0, 0.0, Level.STOP, Reason.SCAN_STALE, (("age_s", 1.0),))))


def test_a_state_names_its_reason_and_carries_the_stable_numbers() -> None:
    status = state_message().status[0]
    assert status.message == "SCAN_STALE"
    assert [(v.key, v.value) for v in status.values] == [
        ("level", "3"),
        ("reason", "31"),
        ("judged_stamp_ns", "6"),
        ("speed_mps", "0.0"),
        ("yaw_rate_radps", "0.0"),
        ("age_s", "1.0"),
    ]


def spoil_level(message: DiagnosticArray) -> None:
    message.status[0].values[0].value = "9"


def spoil_number(message: DiagnosticArray) -> None:
    message.status[0].values[5].value = "much"


def spoil_reason(message: DiagnosticArray) -> None:
    message.status[0].values[1].value = "30"


def spoil_order(message: DiagnosticArray) -> None:
    message.status[0].values.reverse()


def spoil_name(message: DiagnosticArray) -> None:
    message.status[0].name = "battery"


def spoil_count(message: DiagnosticArray) -> None:
    message.status = []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_level, "Level 9 is unknown; known: 0 DRIVE"),
        (spoil_number, "age_s = 'much'"),
        (spoil_reason, "'SCAN_STALE' is not the name of reason 30"),
        (spoil_order, "must start with level, reason, judged_stamp_ns"),
        (spoil_name, "battery"),
        (spoil_count, "expected one status"),
    ],
)
def test_a_state_that_is_not_as_we_write_it_is_refused(spoil, says: str) -> None:
    message = state_message()
    spoil(message)
    with pytest.raises(c.ConversionError, match=says):
        decision_from_message(message)
