"""The C end of the wire: the shared vectors, damage, and a saved corpus of the parser."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dsac_robot.core.protocol import FrameDecoder, LinkCounters, encode_frame
from dsac_robot.core.protocol_enums import Direction
from dsac_robot.core.protocol_messages import CmdWheels, LinkStats, Nack, TimeSync, TimeSyncRsp
from tests.firmware.rig import HostBase, Motors

VECTORS = json.loads((Path(__file__).parents[2] / "firmware" / "protocol" / "vectors.json").read_text())
TO_BASE = [row for row in VECTORS["frames"] if row["to"] == "base"]
DAMAGED = [row for row in VECTORS["damaged"] if row["to"] == "base"]
STREAMS = [row for row in VECTORS["streams"] if row["to"] == "base"]
CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def counters(base: HostBase) -> LinkCounters:
    """The base's own counters."""
    counts = base.lib.host_counters()
    return LinkCounters(**{name: getattr(counts, name) for name in vars(LinkCounters())})


def test_checksums_are_those_of_the_vectors(core: Any) -> None:
    _, lib = core
    for row in VECTORS["crc16"]:
        assert lib.wire_crc16(bytes.fromhex(row["data"]), len(row["data"]) // 2) == row["crc"]
    assert lib.wire_crc32(0, b"123456789", 9) == 0xCBF43926


def test_frames_are_encoded_as_in_the_vectors(core: Any) -> None:
    ffi, lib = core
    out = ffi.new("uint8_t[70]")
    for row in VECTORS["frames"]:
        payload = bytes.fromhex(row["payload"])
        length = lib.wire_encode(out, row["type"], row["seq"], payload, len(payload))
        assert bytes(ffi.buffer(out, length)).hex() == row["frame"], row["name"]


@pytest.mark.parametrize("row", TO_BASE, ids=lambda row: row["name"])
def test_a_valid_frame_is_accepted(core: Any, row: dict[str, Any]) -> None:
    base = HostBase(core)
    base.send(bytes.fromhex(row["frame"]))
    assert counters(base) == LinkCounters(ok=1)


@pytest.mark.parametrize("row", DAMAGED, ids=lambda row: row["name"])
def test_a_damaged_frame_is_dropped_for_its_reason(core: Any, row: dict[str, Any]) -> None:
    base = HostBase(core)
    base.send(bytes.fromhex(row["frame"]))
    assert counters(base) == LinkCounters(**{row["reject"].lower(): 1})


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row["name"])
def test_a_stream_is_counted_as_in_the_vectors(core: Any, row: dict[str, Any]) -> None:
    base = HostBase(core)
    for byte in bytes.fromhex(row["stream"]):
        base.send(bytes((byte,)))
    assert vars(counters(base)) == row["counters"]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_corpus_is_counted_alike_by_both_ends(core: Any, path: Path) -> None:
    data, base, python = path.read_bytes(), HostBase(core), FrameDecoder(Direction.TO_BASE)
    python.feed(data)
    base.send(data)
    assert counters(base) == python.counters


def test_what_the_fuzzer_found_is_counted_alike_by_both_ends(core: Any) -> None:
    inputs = [bytes.fromhex(line) for line in (Path(__file__).parent / "corpus.txt").read_text().split()]
    assert len(inputs) > 100
    for data in inputs:
        base, python = HostBase(core), FrameDecoder(Direction.TO_BASE)
        python.feed(data)
        base.send(data)
        assert counters(base) == python.counters, data.hex()


def test_no_corrupted_frame_is_accepted_and_all_damage_is_counted(core: Any) -> None:
    # One to three flipped bits off the COBS codes are always found; here any bits flip, at a rate of 3e-3
    rng, base, python = random.Random(1), HostBase(core), FrameDecoder(Direction.TO_BASE)
    stamps, answered = set(), 0
    for number in range(3000):
        frame = bytearray(encode_frame(TimeSync(t0_us=number * 1_000_003), number))
        stamps.add(number * 1_000_003)
        for bit in range(8 * len(frame)):
            if rng.random() < 3e-3:
                frame[bit // 8] ^= 1 << bit % 8
        python.feed(bytes(frame))
        for message in base.send(bytes(frame)):
            if isinstance(message, TimeSyncRsp):
                answered += 1
                assert message.t0_us in stamps
    assert counters(base) == python.counters
    assert python.counters.ok == answered < 2400


def test_refusals_are_answered_at_most_fifty_times_a_second(core: Any) -> None:
    base, motors = HostBase(core), Motors()
    for _ in range(200):
        base.send(base.frame(CmdWheels(0, 0, 9, 0)))
        base.step(motors.move(base.step(motors.inputs)))
    assert 45 <= len(base.of(Nack)) <= 50
    assert base.of(LinkStats)[-1].ok == 200
