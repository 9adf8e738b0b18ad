"""Writes rosbag2 bags (MCAP files and metadata.yaml, version 9) from serialized messages, so that a crash loses little.

Chunks are at most 64 KiB and carry their CRC. What was written before a ``flush`` is in the hands of the operating
system and outlives the process; ``data/recover.py`` restores the index of a bag that was never closed.
Layout: https://mcap.dev/spec and https://github.com/ros2/rosbag2 (rosbag2_storage_mcap, metadata version 9).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mcap.writer import CompressionType, Writer

from dsac_robot import __version__
from dsac_robot.core.files import dump_yaml
from dsac_robot.data.msgdefs import definition, header_stamp_ns, type_hash

CHUNK_BYTES_MAX = 64 * 1024
FILL_BYTES_MAX = 60 * 1024  # messages and definitions of one chunk: leaves room for its own header and channels
MESSAGE_OVERHEAD_BYTES = 31  # opcode, length, channel, sequence and two times of an MCAP message record
INFINITE = (9223372036, 854775807)  # what rmw calls an infinite duration: seconds, nanoseconds


class BagWriteError(RuntimeError):
    """The bag cannot be written as asked. The message names the path or topic and what to do."""


@dataclass(frozen=True)
class OfferedQos:
    """The quality of service that a publisher offers, in rosbag2's words."""

    history: str = "keep_last"
    depth: int = 10
    reliability: str = "reliable"
    durability: str = "volatile"
    liveliness: str = "automatic"
    deadline: tuple[int, int] = INFINITE  # seconds, nanoseconds
    lifespan: tuple[int, int] = INFINITE
    liveliness_lease: tuple[int, int] = INFINITE

    def as_plain(self) -> dict[str, Any]:
        """The entry of ``offered_qos_profiles`` in metadata version 9."""

        def duration(value: tuple[int, int]) -> dict[str, int]:
            return {"sec": value[0], "nsec": value[1]}

        return {
            "history": self.history,
            "depth": self.depth,
            "reliability": self.reliability,
            "durability": self.durability,
            "deadline": duration(self.deadline),
            "lifespan": duration(self.lifespan),
            "liveliness": self.liveliness,
            "liveliness_lease_duration": duration(self.liveliness_lease),
            "avoid_ros_namespace_conventions": False,
        }


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag. ``latched`` is how many of its last messages are written again in each new file."""

    name: str
    type: str  # package/msg/Type
    qos: tuple[OfferedQos, ...] = ()
    latched: int = 0


@dataclass(frozen=True)
class TopicRow:
    """One topic as metadata.yaml lists it."""

    name: str
    type: str
    qos: list[Any]  # offered_qos_profiles as plain mappings
    type_hash: str


@dataclass
class FileSpan:
    """Times and counts of one file of a bag."""

    name: str
    start_ns: int | None = None
    end_ns: int = 0
    messages: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, topic: str, log_time_ns: int) -> None:
        self.start_ns = log_time_ns if self.start_ns is None else min(self.start_ns, log_time_ns)
        self.end_ns = max(self.end_ns, log_time_ns)
        self.messages += 1
        self.counts[topic] = self.counts.get(topic, 0) + 1


NO_START_NS = 2**63 - 1  # what rosbag2 writes as the start of an empty bag


def channel_metadata(topic: BagTopic) -> dict[str, str]:
    """What rosbag2 keeps beside an MCAP channel."""
    qos = dump_yaml_list([profile.as_plain() for profile in topic.qos])
    return {"offered_qos_profiles": qos, "topic_type_hash": type_hash(topic.type)}


def dump_yaml_list(items: list[dict[str, Any]]) -> str:
    """A YAML list of mappings, "" for none."""
    if not items:
        return ""
    lines = dump_yaml({"items": items}).splitlines()[1:]
    return "\n".join(lines)


def bag_information(
    files: list[FileSpan], topics: list[TopicRow], custom: Mapping[str, str], distro: str
) -> dict[str, Any]:
    """The content of metadata.yaml below ``rosbag2_bagfile_information``."""

    def times(spans: list[FileSpan]) -> dict[str, Any]:
        starts = [file.start_ns for file in spans if file.start_ns is not None]
        start = min(starts, default=NO_START_NS)
        duration = max((file.end_ns for file in spans), default=0) - start if starts else 0
        return {"duration": {"nanoseconds": duration}, "starting_time": {"nanoseconds_since_epoch": start}}

    return {
        "version": 9,
        "storage_identifier": "mcap",
        **times(files),
        "message_count": sum(file.messages for file in files),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": topic.qos,
                    "type_description_hash": topic.type_hash,
                },
                "message_count": sum(file.counts.get(topic.name, 0) for file in files),
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.name for file in files],
        "files": [{"path": file.name, **times([file]), "message_count": file.messages} for file in files],
        "custom_data": dict(custom) or None,
        "ros_distro": distro,
    }


def write_metadata(folder: Path, information: Mapping[str, Any]) -> None:
    """metadata.yaml, put in place in one step so that no reader sees half of it."""
    path = folder / "metadata.yaml"
    temporary = path.with_suffix(".yaml.tmp")
    temporary.write_text(dump_yaml({"rosbag2_bagfile_information": dict(information)}), encoding="utf-8")
    temporary.replace(path)


class BagWriter:
    """A new bag in the folder ``path`` (which must not exist). Use as a context manager, or call ``close``.

    A new file is begun after ``split_bytes`` or ``split_s`` (0: never); the last messages of latched topics open it.
    ``context`` becomes one MCAP metadata record per entry in each file; ``custom`` goes to metadata.yaml.
    """

    def __init__(
        self,
        path: Path,
        *,
        split_bytes: int = 0,
        split_s: float = 0.0,
        context: Mapping[str, Mapping[str, str]] | None = None,
        custom: Mapping[str, str] | None = None,
        distro: str = "",
    ) -> None:
        try:
            path.mkdir(parents=True)
        except FileExistsError as error:
            raise BagWriteError(f"{path} exists already: a bag never overwrites one; give another name") from error
        except OSError as error:
            raise BagWriteError(f"{path} cannot be made: {error.strerror}; choose a folder that is writable") from error
        self.path = path
        self._split_bytes = split_bytes
        self._split_ns = round(split_s * 1e9)
        self._context = {name: dict(entries) for name, entries in (context or {}).items()}
        self._custom = dict(custom or {})
        self._distro = distro or os.environ.get("ROS_DISTRO", "unknown")
        self._topics: dict[str, BagTopic] = {}
        self._latched: dict[str, deque[tuple[bytes, int]]] = {}
        self._files: list[FileSpan] = []
        self._closed = False
        self._open_file()

    @property
    def message_count(self) -> int:
        """Messages written so far, in all files."""
        return sum(file.messages for file in self._files)

    @property
    def files(self) -> list[Path]:
        """The bag's files so far."""
        return [self.path / file.name for file in self._files]

    def add_topic(self, topic: BagTopic) -> None:
        """Make a topic known. Raises BagWriteError for a second, different one of the same name, UnknownTypeError
        for a type without a definition."""
        known = self._topics.get(topic.name)
        if known == topic:
            return
        if known is not None:
            raise BagWriteError(f"topic {topic.name} is in the bag as {known.type}: it cannot change to {topic.type}")
        definition(topic.type)
        self._topics[topic.name] = topic
        if topic.latched:
            self._latched[topic.name] = deque(maxlen=topic.latched)
        self._register(topic)

    def write(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int | None = None) -> None:
        """Store one serialized message as it is. ``log_time_ns``: when it was received, in ROS time.

        The publish time is the message's own header stamp where it begins with one, else the log time.
        Raises BagWriteError for a topic that was not added and after ``close``.
        """
        if self._closed:
            raise BagWriteError(f"{self.path} is closed")
        info = self._topics.get(topic)
        if info is None:
            raise BagWriteError(f"topic {topic} was not added to the bag: known are {', '.join(self._topics)}")
        if publish_time_ns is None:
            stamp = header_stamp_ns(info.type, data)
            publish_time_ns = stamp if stamp is not None and stamp > 0 else log_time_ns
        if self._is_full(log_time_ns):
            self._close_file()
            self._open_file()
            self._repeat_latched(log_time_ns)
        if topic in self._latched:
            self._latched[topic].append((data, publish_time_ns))
        self._append(topic, data, log_time_ns, publish_time_ns)

    def flush(self) -> None:
        """Hand everything written so far to the operating system. Call at least every 0.5 s."""
        if not self._closed:
            self._writer.flush()
            self._pending_bytes = 0

    def add_metadata(self, name: str, entries: Mapping[str, str]) -> None:
        """An MCAP metadata record, in this file and in each later one."""
        self._context[name] = dict(entries)
        self._writer.add_metadata(name, dict(entries))

    def close(self) -> None:
        """Write the index and metadata.yaml. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._close_file()
        write_metadata(self.path, self._information())

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _information(self) -> dict[str, Any]:
        rows = [
            TopicRow(topic.name, topic.type, [profile.as_plain() for profile in topic.qos], type_hash(topic.type))
            for topic in self._topics.values()
        ]
        return bag_information(self._files, rows, self._custom, self._distro)

    def _open_file(self) -> None:
        name = f"{self.path.name}_{len(self._files)}.mcap"
        self._stream: IO[bytes] = open(self.path / name, "xb")  # noqa: SIM115  # closed in _close_file
        self._writer = start_writer(self._stream)
        self._files.append(FileSpan(name))
        self._pending_bytes = 0
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        for topic in self._topics.values():
            self._register(topic)
        for entry, content in self._context.items():
            self._writer.add_metadata(entry, content)

    def _close_file(self) -> None:
        self._writer.flush()
        text = dump_yaml(self._information())
        self._writer.add_metadata("rosbag2", {"serialized_metadata": text})
        self._writer.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def _register(self, topic: BagTopic) -> None:
        if topic.type not in self._schemas:
            text = definition(topic.type)
            self._schemas[topic.type] = self._writer.register_schema(topic.type, "ros2msg", text.encode())
            self._pending_bytes += len(text)
        self._channels[topic.name] = self._writer.register_channel(
            topic.name, "cdr", self._schemas[topic.type], channel_metadata(topic)
        )

    def _is_full(self, log_time_ns: int) -> bool:
        file = self._files[-1]
        if file.start_ns is None:
            return False
        long = self._split_ns > 0 and log_time_ns - file.start_ns >= self._split_ns
        return long or (self._split_bytes > 0 and self._stream.tell() + self._pending_bytes >= self._split_bytes)

    def _repeat_latched(self, log_time_ns: int) -> None:
        for topic, messages in self._latched.items():
            for data, publish_time_ns in messages:
                self._append(topic, data, log_time_ns, publish_time_ns)

    def _append(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int) -> None:
        size = len(data) + MESSAGE_OVERHEAD_BYTES
        if self._pending_bytes and self._pending_bytes + size > FILL_BYTES_MAX:
            self.flush()
        self._writer.add_message(self._channels[topic], log_time_ns, data, publish_time_ns)
        self._pending_bytes += size
        if self._pending_bytes > FILL_BYTES_MAX:  # one message larger than a chunk may be
            self.flush()
        self._files[-1].count(topic, log_time_ns)


def start_writer(stream: IO[bytes]) -> Writer:
    """An MCAP writer for rosbag2 on ``stream``: uncompressed chunks with CRCs that are closed by ``flush``."""
    writer = Writer(stream, chunk_size=2**62, compression=CompressionType.NONE, enable_crcs=True)
    writer.start(profile="ros2", library=f"dsac_robot {__version__}")
    return writer
