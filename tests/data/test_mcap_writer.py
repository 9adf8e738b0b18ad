"""Bags that rosbags opens, in chunks that a crash cannot hurt much."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from mcap.records import Chunk, Metadata
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dsac_robot.core.values import Command, Goal
from dsac_robot.data.mcap_writer import CHUNK_BYTES_MAX, BagTopic, BagWriteError, BagWriter, OfferedQos
from dsac_robot.data.msgdefs import UnknownTypeError, definition, header_stamp_ns, type_hash

Serialize = Callable[..., tuple[str, bytes]]
TWIST = "geometry_msgs/msg/TwistStamped"
RECORDED = [
    "diagnostic_msgs/msg/DiagnosticArray",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/Twist",
    TWIST,
    "nav_msgs/msg/Odometry",
    "nav_msgs/msg/Path",
    "rosgraph_msgs/msg/Clock",
    "sensor_msgs/msg/Imu",
    "sensor_msgs/msg/LaserScan",
    "sensor_msgs/msg/Range",
]


def records(path: Path, **options: bool) -> list[object]:
    with open(path, "rb") as stream:
        return list(StreamReader(stream, **options).records)


def test_rosbags_reads_back_the_very_bytes_and_times(tmp_path: Path, serialize: Serialize) -> None:
    qos = OfferedQos(reliability="best_effort", durability="transient_local", depth=3)
    written = []
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(BagTopic("/cmd_vel", TWIST, (qos,)))
        for i in range(100):
            _, data = serialize(Command(1000 + i, 0.1 * i, -0.2 * i))
            writer.write("/cmd_vel", data, 2000 + i)
            written.append((2000 + i, data))
    with AnyReader([tmp_path / "bag"]) as reader:
        assert [(time, bytes(data)) for _, time, data in reader.messages()] == written
        (offered,) = reader.connections[0].ext.offered_qos_profiles
        assert (offered.reliability, offered.durability, offered.depth) == (
            QosReliability.BEST_EFFORT,
            QosDurability.TRANSIENT_LOCAL,
            3,
        )
        assert reader.duration == 100 and reader.start_time == 2000


def test_the_publish_time_is_the_header_stamp(tmp_path: Path, serialize: Serialize) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(BagTopic("/cmd_vel", TWIST))
        writer.write("/cmd_vel", serialize(Command(1234, 0.0, 0.0))[1], 5000)
        writer.write("/cmd_vel", serialize(Command(0, 0.0, 0.0))[1], 6000)
    found = [r for r in records(tmp_path / "bag" / "bag_0.mcap") if type(r).__name__ == "Message"]
    assert [(m.log_time, m.publish_time) for m in found] == [(5000, 1234), (6000, 6000)]


def test_a_stamp_is_found_only_where_the_message_begins_with_one(serialize: Serialize) -> None:
    kind, data = serialize(Command(7_000_000_009, 0.0, 0.0))
    assert header_stamp_ns(kind, data) == 7_000_000_009
    assert header_stamp_ns("geometry_msgs/msg/Twist", data) is None
    assert header_stamp_ns(kind, data[:8]) is None


@pytest.mark.parametrize("kind", RECORDED)
def test_definitions_are_complete_and_mean_what_rosbags_knows(kind: str) -> None:
    store = get_typestore(Stores.LATEST)
    parsed = get_types_from_msg(definition(kind), kind)
    assert {name: store.fielddefs[name] for name in parsed} == parsed
    assert type_hash(kind) in ("", store.hash_rihs01(kind))


def test_chunks_stay_small_and_carry_their_crc(tmp_path: Path, serialize: Serialize) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(3000):
            name = f"/cmd_{i % 7}"
            writer.add_topic(BagTopic(name, TWIST))
            writer.write(name, serialize(Command(i, 0.0, 0.0))[1], i)
    path = tmp_path / "bag" / "bag_0.mcap"
    chunks = [r for r in records(path, emit_chunks=True) if isinstance(r, Chunk)]
    assert len(chunks) > 3
    assert all(0 < len(chunk.data) <= CHUNK_BYTES_MAX and chunk.uncompressed_crc for chunk in chunks)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="crc"):
        records(path, validate_crcs=True)


def test_what_was_flushed_is_in_the_file_before_close(tmp_path: Path, serialize: Serialize) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.add_topic(BagTopic("/cmd_vel", TWIST))
    data = serialize(Command(1, 0.25, 0.0))[1]
    writer.write("/cmd_vel", data, 1)
    assert data not in writer.files[0].read_bytes()
    writer.flush()
    assert data in writer.files[0].read_bytes()
    writer.close()


def test_each_split_begins_with_the_latched_messages_and_the_context(tmp_path: Path, serialize: Serialize) -> None:
    goal = serialize(Goal(5, 1.0, 2.0))[1]
    with BagWriter(tmp_path / "bag", split_bytes=50_000, context={"bundle": {"digest": "abc"}}) as writer:
        writer.add_topic(BagTopic("/goal_pose", "geometry_msgs/msg/PoseStamped", latched=1))
        writer.add_topic(BagTopic("/cmd_vel", TWIST))
        writer.write("/goal_pose", serialize(Goal(4, 9.0, 9.0))[1], 9)
        writer.write("/goal_pose", goal, 10)
        for i in range(1500):
            writer.write("/cmd_vel", serialize(Command(i, 0.0, 0.0))[1], 11 + i)
        files = writer.files
    assert len(files) >= 3
    for path in files[1:]:
        with AnyReader([path]) as reader:
            first = next(iter(reader.messages()))
            assert first[0].topic == "/goal_pose" and bytes(first[2]) == goal
    for path in files:
        meta = {r.name: r.metadata for r in records(path) if isinstance(r, Metadata)}
        assert meta["bundle"] == {"digest": "abc"} and "serialized_metadata" in meta["rosbag2"]
    with AnyReader([tmp_path / "bag"]) as reader:
        times = [time for _, time, _ in reader.messages()]
        assert len(times) == 1502 + len(files) - 1
        assert all(a <= b for a, b in pairwise(times))


def test_a_split_comes_after_the_time_asked_for(tmp_path: Path, serialize: Serialize) -> None:
    with BagWriter(tmp_path / "bag", split_s=1.0) as writer:
        writer.add_topic(BagTopic("/cmd_vel", TWIST))
        for i in range(25):
            writer.write("/cmd_vel", serialize(Command(i, 0.0, 0.0))[1], i * 100_000_000)
        assert [path.name for path in writer.files] == ["bag_0.mcap", "bag_1.mcap", "bag_2.mcap"]


def test_a_message_larger_than_a_chunk_is_kept(tmp_path: Path) -> None:
    data = b"\0\1\0\0" + (200_000).to_bytes(4, "little") + b"x" * 199_999 + b"\0"
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(BagTopic("/text", "std_msgs/msg/String"))
        writer.write("/text", data, 1)
    with AnyReader([tmp_path / "bag"]) as reader:
        assert [bytes(raw) for _, _, raw in reader.messages()] == [data]


def test_an_empty_bag_can_be_read(tmp_path: Path) -> None:
    BagWriter(tmp_path / "bag").close()
    with AnyReader([tmp_path / "bag"]) as reader:
        assert reader.message_count == 0


def test_what_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        with pytest.raises(BagWriteError, match="exists already"):
            BagWriter(tmp_path / "bag")
        with pytest.raises(BagWriteError, match="/scan was not added"):
            writer.write("/scan", b"", 0)
        with pytest.raises(UnknownTypeError, match="nobody_msgs/msg/Nothing"):
            writer.add_topic(BagTopic("/x", "nobody_msgs/msg/Nothing"))
        writer.add_topic(BagTopic("/cmd_vel", TWIST))
        with pytest.raises(BagWriteError, match="cannot change"):
            writer.add_topic(BagTopic("/cmd_vel", "geometry_msgs/msg/Twist"))
    with pytest.raises(BagWriteError, match="closed"):
        writer.write("/cmd_vel", b"", 0)
