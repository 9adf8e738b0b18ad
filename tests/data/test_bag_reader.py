"""Bags read back as core values."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.values import NS, Command, Contact, Goal, Imu, Odom, Scan
from dsac_robot.data.bag_reader import BagError, BagReader, SeveralRobotsError
from dsac_robot.data.decode import GuardState
from dsac_robot.data.mcap_writer import BagTopic, BagWriter

Written = Callable[..., Path]
Serialize = Callable[..., tuple[str, bytes]]
RANGES = np.array([1.5, math.inf, -math.inf, math.nan, 0.0, 0.1], np.float32)
ROWS = [
    ("goal_pose", Goal(1, 5.0, -2.0), 3),
    ("scan", Scan(10, RANGES, -1.5, 0.25, "laser"), 12),
    ("odom", Odom.from_yaw(11, 1.0 / 3.0, -2.0, 0.7, 0.1, -0.2), 13),
    ("imu", Imu(12, 0.1, 9.0, -0.3), 14),
    ("contact", Contact(13, True), 15),
    ("contact", Contact(14, False), 16),
    ("policy/cmd_vel", Command(10, 0.3, -0.1), 17),
    ("cmd_vel", Command(16, 0.2, -0.1), 18),
    ("safety/state", GuardState(17, 10, Level.LIMITED, Reason.CLEARANCE, 0.2, -0.1), 19),
    ("ood/state", Verdict(18, 10, OodLevel.CAUTION, Reason.OOD_CAUTION, 0.1, 0.2, 0.3), 20),
]


def values_of(path: Path, namespace: str | None = None) -> list[tuple[str, object, int]]:
    with BagReader(path, namespace) as reader:
        return [(logged.topic, logged.value, logged.log_time_ns) for logged in reader.values()]


def same(read: list[tuple[str, object, int]], written: list[tuple[str, object, int]]) -> bool:
    def plain(value: object) -> tuple[object, ...]:
        content = {key: item for key, item in vars(value).items() if key != "ranges_m"}
        bits = value.ranges_m.tobytes() if isinstance(value, Scan) else b""
        return type(value), tuple(content.values()), bits

    return [(t, plain(v), n) for t, v, n in read] == [(t, plain(v), n) for t, v, n in written]


def test_every_kind_of_value_comes_back_bit_for_bit(bag_of: Written) -> None:
    assert same(values_of(bag_of(ROWS)), ROWS)


def test_a_namespaced_robot_is_found_and_two_must_be_named(bag_of: Written, tmp_path: Path) -> None:
    assert same(values_of(bag_of(ROWS, "one", namespace="/r1")), ROWS)
    with BagWriter(tmp_path / "two") as writer:
        for name in ("/r1/scan", "/r2/scan"):
            writer.add_topic(BagTopic(name, "sensor_msgs/msg/LaserScan"))
    with pytest.raises(SeveralRobotsError, match="r1, r2"):
        BagReader(tmp_path / "two")
    with BagReader(tmp_path / "two", "r2") as reader:
        assert {topic.name: topic.readable for topic in reader.info.topics} == {"/r1/scan": False, "/r2/scan": True}


def test_a_goal_in_the_base_frame_is_placed_by_the_odometry_at_its_stamp(bag_of: Written) -> None:
    rows = [
        ("odom", Odom.from_yaw(10, 1.0, 1.0, math.pi / 2, 0.0, 0.0), 10),
        ("goal_pose", Goal(12, 2.0, 0.0), 12),
        ("odom", Odom.from_yaw(20, 5.0, 5.0, 0.0, 0.0, 0.0), 20),
    ]
    (_, goal, _) = next(row for row in values_of(bag_of(rows, goal_frame="base_link")) if row[0] == "goal_pose")
    assert isinstance(goal, Goal)
    assert (goal.stamp_ns, goal.x_m, goal.y_m) == (12, pytest.approx(1.0), pytest.approx(3.0))


def test_a_goal_without_a_stamp_counts_from_when_it_was_received(bag_of: Written) -> None:
    (_, goal, _) = values_of(bag_of([("goal_pose", Goal(0, 2.0, 0.0), 77)]))[0]
    assert goal == Goal(77, 2.0, 0.0)


def test_a_goal_in_another_frame_is_refused_and_reported(bag_of: Written) -> None:
    rows = [ROWS[2], ("goal_pose", Goal(12, 2.0, 0.0), 14)]
    with BagReader(bag_of(rows, goal_frame="map")) as reader:
        assert [logged.topic for logged in reader.values()] == ["odom"]
        assert list(reader.report.refused) == ["goal in frame 'map'; odometry is in 'odom' and 'base_link'"]


def test_topics_of_unknown_types_are_skipped_and_reported(tmp_path: Path) -> None:
    store = get_typestore(Stores.LATEST)
    path = tmp_path / "old"
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        twist = writer.add_connection("/cmd_vel", "geometry_msgs/msg/Twist", typestore=store)
        bool_ = writer.add_connection("/contact", "std_msgs/msg/Bool", typestore=store)
        scan = writer.add_connection("/scan", "acme_msgs/msg/Scan", msgdef="float32[] ranges", rihs01="RIHS01_0")
        types = store.types
        vector = types["geometry_msgs/msg/Vector3"]
        message = types["geometry_msgs/msg/Twist"](linear=vector(x=0.5, y=0, z=0), angular=vector(x=0, y=0, z=0.1))
        writer.write(twist, 42, store.serialize_cdr(message, "geometry_msgs/msg/Twist"))
        writer.write(bool_, 43, store.serialize_cdr(types["std_msgs/msg/Bool"](data=True), "std_msgs/msg/Bool"))
        writer.write(scan, 44, b"\0\1\0\0")
    with BagReader(path) as reader:
        assert [logged.value for logged in reader.values()] == [Command(42, 0.5, 0.1), Contact(43, True)]
        assert reader.report.skipped_topics["/scan"].startswith(
            "acme_msgs/msg/Scan: expected sensor_msgs/msg/LaserScan"
        )


def test_the_nodes_converters_and_the_reader_agree_on_the_same_bytes(serialize: Serialize, bag_of: Written) -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message

    from dsac_robot.core.history import History
    from dsac_robot.nodes import converters as c
    from dsac_robot.nodes.topics import TOPICS

    table = {topic.name: topic for topic in TOPICS}
    convert = {
        "scan": c.scan_from_message,
        "odom": c.odom_from_message,
        "imu": c.imu_from_message,
        "contact": c.contact_from_message,
        "cmd_vel": c.command_from_message,
        "policy/cmd_vel": c.command_from_message,
        "goal_pose": lambda message: c.goal_from_message(message, History(), 3),
    }
    rows = [row for row in ROWS if row[0] in convert]
    by_nodes = [
        (name, convert[name](deserialize_message(serialize(value)[1], table[name].type)), log_time)
        for name, value, log_time in rows
    ]
    assert same(by_nodes, values_of(bag_of(rows)))


def test_states_written_by_the_nodes_are_read(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    from dsac_robot.core.guard_types import Decision
    from dsac_robot.nodes.states import SafetyState, decision_to_message, verdict_to_message

    verdict = Verdict(18, 10, OodLevel.ALARM, Reason.OOD_ALARM, 0.1, 0.2, 0.3)
    decision = Decision(0.25, -0.5, Level.EMERGENCY, Reason.OPERATOR_STOP)
    with BagWriter(tmp_path / "bag") as writer:
        for name in ("/ood/state", "/safety/state"):
            writer.add_topic(BagTopic(name, "diagnostic_msgs/msg/DiagnosticArray"))
        writer.write("/ood/state", serialize_message(verdict_to_message(verdict)), 20)
        writer.write("/safety/state", serialize_message(decision_to_message(SafetyState(19, 10, decision))), 21)
    assert [value for _, value, _ in values_of(tmp_path / "bag")] == [
        verdict,
        GuardState(19, 10, Level.EMERGENCY, Reason.OPERATOR_STOP, 0.25, -0.5),
    ]


def test_a_message_that_breaks_its_promise_is_refused_and_counted(bag_of: Written, tmp_path: Path) -> None:
    rows = [*ROWS[:3], ("goal_pose", Goal(12, math.nan, 0.0), 30)]
    with BagReader(bag_of(rows)) as reader:
        assert len(list(reader.values())) == 3
        assert list(reader.report.refused) == ["/goal_pose: goal position (nan, 0.0) must be finite"]


@pytest.mark.parametrize("level", list(OodLevel))
def test_a_verdict_without_a_finite_score_is_refused_unless_it_is_an_alarm(level: OodLevel, tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    from dsac_robot.nodes.states import verdict_to_message

    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(BagTopic("/ood/state", "diagnostic_msgs/msg/DiagnosticArray"))
        verdict = Verdict(18, 10, level, Reason.MONITOR_FAULT, math.nan, 0.2, 0.3)
        writer.write("/ood/state", serialize_message(verdict_to_message(verdict)), 20)
    with BagReader(tmp_path / "bag") as reader:
        read = [logged.value for logged in reader.values()]
        refused = list(reader.report.refused)
    if level is OodLevel.ALARM:
        assert len(read) == 1 and not refused
    else:
        assert not read and "must be finite" in refused[0]


def test_a_bag_that_is_not_there_or_was_never_closed_says_what_to_do(bag_of: Written, tmp_path: Path) -> None:
    with pytest.raises(BagError, match="does not exist"):
        BagReader(tmp_path / "nothing")
    path = bag_of(ROWS)
    (path / "metadata.yaml").unlink()
    with pytest.raises(BagError, match="dsac-robot bag recover"):
        BagReader(path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    kept=st.floats(0.5, 1.0),
)
def test_changed_bytes_give_values_or_a_bag_error_never_anything_else(
    bag_of: Written, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]], kept: float
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    pristine = folder.parent / "pristine.mcap"
    if not pristine.exists():
        pristine.write_bytes((bag_of(ROWS * 20, f"b{folder.name}") / f"b{folder.name}_0.mcap").read_bytes())
    content = bytearray(pristine.read_bytes())
    for where, byte in changes:
        content[int(where * len(content))] = byte
    path = folder / "x.mcap"
    path.write_bytes(content[: int(len(content) * kept)] if kept < 0.9 else content)
    try:
        values = values_of(path)
    except BagError:
        return
    assert len(values) <= len(ROWS) * 20


def test_stamps_are_whole_nanoseconds(bag_of: Written) -> None:
    stamp = 1_790_000_000 * NS + 123_456_789
    (row,) = values_of(bag_of([("cmd_vel", Command(stamp, 0.0, 0.0), stamp)]))
    assert row[1] == Command(stamp, 0.0, 0.0)
