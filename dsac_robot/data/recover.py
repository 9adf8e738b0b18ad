"""Gives a bag that was never closed (a crash, kill -9, a full disk) its index and metadata.yaml back.

Reads each MCAP file record by record up to the damage and writes what is whole to a new bag. A chunk whose CRC is wrong
is left out and counted; what follows it is still read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.metadata import dump_qos_v9, parse_qos

from dsac_robot.data.mcap_writer import (
    FILL_BYTES_MAX,
    BagWriteError,
    FileSpan,
    TopicRow,
    bag_information,
    start_writer,
    write_metadata,
)

# What damaged bytes make the mcap library raise.
DAMAGE = (
    McapError,
    CRCValidationError,
    struct.error,
    UnicodeDecodeError,
    EOFError,
    IndexError,
    KeyError,
    ValueError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class Recovery:
    """What ``recover`` found."""

    out: Path
    files: int
    messages: int
    bytes_read: int
    bytes_lost: int
    messages_without_channel: int
    damage: tuple[str, ...]  # one sentence per damaged place

    def __str__(self) -> str:
        lines = [f"{self.out}: {self.messages} messages in {self.files} file(s), {self.bytes_lost} bytes lost"]
        if self.messages_without_channel:
            lines.append(f"{self.messages_without_channel} messages left out: their channel's record is lost")
        return "\n".join([*lines, *self.damage])


def mcap_files(path: Path) -> list[Path]:
    """The MCAP files of a bag folder in the order they were written, or the one file ``path`` itself.

    Raises BagWriteError where there is none.
    """
    if path.is_file():
        return [path]

    def order(file: Path) -> tuple[int, str]:
        number = file.stem.rsplit("_", 1)[-1]
        return (int(number) if number.isdigit() else 0, file.name)

    found = sorted(path.glob("*.mcap"), key=order) if path.is_dir() else []
    if not found:
        raise BagWriteError(f"{path} holds no .mcap file: give a bag folder or an MCAP file (sqlite3 recovers itself)")
    return found


class _Scan:
    """Reads the whole records of a damaged file; afterwards knows what was lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.lost = 0
        self.damage: list[str] = []

    def records(self) -> Iterator[McapRecord]:
        """Every whole record, those in chunks too. Stops at the first place that cannot be stepped over."""
        with open(self.path, "rb") as stream:
            reader = StreamReader(stream, emit_chunks=True, record_size_limit=self.size)
            records = iter(reader.records)
            start = 0
            while True:
                try:
                    record = next(records, None)
                except DAMAGE as error:
                    if start < self.size:
                        self._note(start, self.size - start, error)
                    else:
                        self.damage.append(f"{self.path.name}: never closed, every record is whole")
                    return
                if record is None:
                    return
                end = stream.tell()
                yield from self._opened(record, start, end)
                start = end

    def _opened(self, record: McapRecord, start: int, end: int) -> list[McapRecord]:
        if not isinstance(record, Chunk):
            return [record]
        try:
            inside: list[McapRecord] = breakup_chunk(record, validate_crc=True)
            return inside
        except DAMAGE as error:
            self._note(start, end - start, error)
            return []

    def _note(self, start: int, length: int, error: BaseException) -> None:
        self.lost += length
        what = str(error) or type(error).__name__
        self.damage.append(f"{self.path.name}: {length} bytes at offset {start} are damaged ({what})")


class _Channels:
    """The schemas and channels of one file, registered anew in the writer."""

    def __init__(self) -> None:
        self._schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}

    def collect(self, record: McapRecord) -> None:
        if isinstance(record, Schema):
            self._schemas.setdefault(record.id, record)
        elif isinstance(record, Channel):
            self.channels.setdefault(record.id, record)

    def type_of(self, channel: Channel) -> str:
        return str(self._schemas[channel.schema_id].name)

    def register(self, writer: Any) -> dict[int, int]:
        """New channel ids by old ones. A channel whose schema is lost is left out."""
        self.channels = {key: c for key, c in self.channels.items() if c.schema_id in self._schemas}
        schemas = {
            key: writer.register_schema(schema.name, schema.encoding, schema.data)
            for key, schema in self._schemas.items()
        }
        return {
            key: writer.register_channel(c.topic, c.message_encoding, schemas[c.schema_id], c.metadata)
            for key, c in self.channels.items()
        }

    def rows(self) -> list[TopicRow]:
        found = []
        for channel in self.channels.values():
            try:
                qos: list[Any] = list(dump_qos_v9(parse_qos(channel.metadata.get("offered_qos_profiles", ""))))
            except (ReaderError, KeyError, TypeError):
                qos = []
            hashed = channel.metadata.get("topic_type_hash", "")
            found.append(TopicRow(channel.topic, self.type_of(channel), qos, hashed))
        return found


def recover(source: Path, out: Path, progress: Callable[[str], None] | None = None) -> Recovery:
    """Write what is whole in ``source`` (a bag folder or one MCAP file) to the new bag folder ``out``.

    Raises BagWriteError where ``source`` holds no MCAP file, where ``out`` exists.
    """
    sources = mcap_files(source)
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise BagWriteError(f"{out} exists already: give another name") from error
    spans: list[FileSpan] = []
    rows: dict[str, TopicRow] = {}
    orphans, lost, read = 0, 0, 0
    damage: list[str] = []
    for index, path in enumerate(sources):
        if progress is not None:
            progress(f"{path.name} ({path.stat().st_size} bytes)")
        span = FileSpan(f"{out.name}_{index}.mcap")
        scan = _Scan(path)
        with open(out / span.name, "xb") as stream:
            topics, without = _copy(scan, stream, span)
        spans.append(span)
        rows.update({row.name: row for row in topics if row.name not in rows})
        orphans, lost, read = orphans + without, lost + scan.lost, read + scan.size
        damage += scan.damage
    write_metadata(out, bag_information(spans, list(rows.values()), {"recovered": "true"}, "unknown"))
    return Recovery(out, len(spans), sum(s.messages for s in spans), read, lost, orphans, tuple(damage))


def _copy(scan: _Scan, stream: IO[bytes], span: FileSpan) -> tuple[list[TopicRow], int]:
    """Copy one file; returns its topics and the number of messages whose channel is lost."""
    channels = _Channels()
    for record in scan.records():  # first, as a lost chunk's channels may be repeated at the end
        channels.collect(record)
    scan.lost, scan.damage = 0, []
    writer = start_writer(stream)
    ids = channels.register(writer)
    orphans, pending = 0, 0
    for record in scan.records():
        if isinstance(record, Metadata) and record.name != "rosbag2":
            writer.add_metadata(record.name, record.metadata)
        if not isinstance(record, Message):
            continue
        if record.channel_id not in ids:
            orphans += 1
            continue
        data = record.data
        new_id = ids[record.channel_id]
        writer.add_message(new_id, record.log_time, data, record.publish_time, record.sequence)
        span.count(channels.channels[record.channel_id].topic, record.log_time)
        pending += len(data)
        if pending > FILL_BYTES_MAX:
            writer.flush()
            pending = 0
    writer.finish()
    return channels.rows(), orphans
