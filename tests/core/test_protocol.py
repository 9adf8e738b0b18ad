"""Frames and their decoder: round trips, damage, garbage, and the vectors that the firmware shares."""

import json
import math
import random
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core import protocol_messages
from dsac_robot.core.protocol import (
    FRAME_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    FrameDecoder,
    LinkCounters,
    check_hello,
    cobs_decode,
    cobs_encode,
    crc16,
    encode_frame,
    encode_raw,
    params_crc,
)
from dsac_robot.core.protocol_enums import (
    MAGIC_ARM,
    PARAM_RANGES,
    PROTOCOL_VERSION,
    Direction,
    Fault,
    Param,
    Reject,
    State,
    StateRequest,
)
from dsac_robot.core.protocol_fields import FieldSpec, Message, ProtocolError, layout, wire
from dsac_robot.core.protocol_messages import MESSAGES, CmdWheels, Event, Hello, HelloReq, Nack, ParamSet, StateReq

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "firmware" / "protocol" / "vectors.json").read_text(encoding="utf-8")
)
COMMAND = CmdWheels(left_mradps=1500, right_mradps=-1500, session=7, stamp_us=1_000_000)
HELLO = Hello(
    proto=PROTOCOL_VERSION,
    nonce=5,
    session=1,
    board=2,
    reset_cause=1,
    version_major=0,
    version_minor=1,
    version_patch=0,
    dirty=0,
    git=b"\x12\x34\x56\x78",
    build_id=bytes(8),
    limits_crc=1,
    params_crc=2,
    boots=3,
)


def field_values(spec: FieldSpec) -> st.SearchStrategy[Any]:
    if spec.wire.kind.startswith("bytes"):
        length = int(spec.wire.kind[5:])
        return st.binary(min_size=length, max_size=length)
    if spec.wire.kind == "f32":
        return st.floats(width=32, allow_nan=False, allow_infinity=False)
    if spec.python_type is Fault:
        return st.integers(0, sum(int(fault) for fault in Fault)).map(Fault)
    if spec.python_type is not int:
        return st.sampled_from(list(spec.python_type))  # type: ignore[call-overload]  # the class is an Enum
    return st.integers(int(spec.wire.low), int(spec.wire.high))


def messages_of(cls: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(cls, **{spec.name: field_values(spec) for spec in layout(cls).fields})


any_message = st.sampled_from(MESSAGES).flatmap(messages_of)
to_host = st.sampled_from([cls for cls in MESSAGES if cls.TO is Direction.TO_HOST]).flatmap(messages_of)


def build(cls: Any, **values: Any) -> Any:
    """Build a message from values that its types would not allow."""
    return cls(**values)


def decode(data: bytes, reads: Direction = Direction.TO_BASE) -> tuple[list[tuple[int, Message]], LinkCounters]:
    decoder = FrameDecoder(reads)
    return decoder.feed(data), decoder.counters


def test_crc_and_cobs_give_the_published_examples() -> None:
    assert crc16(b"123456789") == 0x29B1
    examples = {
        "": "01",
        "00": "0101",
        "0000": "010101",
        "001100": "01021101",
        "11220033": "0311220233",
        "11223344": "0511223344",
        "11000000": "0211010101",
    }
    long = bytes(range(1, 256))
    assert {data: cobs_encode(bytes.fromhex(data)).hex() for data in examples} == examples
    assert cobs_encode(long[:254]) == b"\xff" + long[:254]
    assert cobs_encode(b"\0" + long[:254]) == b"\x01\xff" + long[:254]
    assert cobs_encode(long) == b"\xff" + long[:254] + b"\x02\xff"
    assert cobs_encode(long[1:] + b"\0") == b"\xff" + long[1:] + b"\x01\x01"


@given(st.binary(max_size=1200) | st.integers(0, 1100).map(lambda n: b"\x07" * n))
def test_cobs_of_any_bytes_has_no_zero_and_comes_back(data: bytes) -> None:
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert cobs_decode(encoded) == data
    assert len(encoded) <= len(data) + len(data) // 254 + 1


@pytest.mark.parametrize("length", [252, 253, 254, 255, 507, 508, 509])
def test_cobs_of_runs_about_a_group_long_has_a_code_for_each_group_and_no_more(length: int) -> None:
    run = b"\x07" * length
    for data, more in ((run, (length - 1) // 254), (b"\0" + run, (length - 1) // 254), (run + b"\0", length // 254)):
        encoded = cobs_encode(data)
        assert cobs_decode(encoded) == data
        assert len(encoded) == len(data) + 1 + more


@given(any_message, st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_message_comes_back_as_it_was_sent(message: Message, seq: int) -> None:
    frame = encode_frame(message, seq)
    assert len(frame) <= FRAME_BYTES_MAX + 1 and frame.index(0) == len(frame) - 1
    assert decode(frame, message.TO) == ([(seq, message)], LinkCounters(ok=1))


@given(st.lists(to_host, max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_stream_reads_the_same_however_it_is_cut(sent: list[Message], cuts: list[int], seq: int) -> None:
    stream = b"\0" + b"".join(encode_frame(message, seq + n) for n, message in enumerate(sent))
    decoder, got, at = FrameDecoder(Direction.TO_HOST), [], 0
    for cut in cuts:
        got += decoder.feed(stream[at : at + cut])
        at += cut
    got += decoder.feed(stream[at:])
    assert [message for _, message in got] == sent
    assert decoder.counters == LinkCounters(ok=len(sent))


def test_a_frame_may_be_split_at_every_byte() -> None:
    frame = encode_frame(COMMAND, 4)
    for at in range(len(frame) + 1):
        decoder = FrameDecoder(Direction.TO_BASE)
        assert decoder.feed(frame[:at]) + decoder.feed(frame[at:]) == [(4, COMMAND)]


@given(st.lists(st.binary(max_size=200), max_size=20), st.sampled_from(Direction))
@settings(max_examples=200, deadline=None)
def test_garbage_is_counted_and_the_next_frame_is_read(chunks: list[bytes], reads: Direction) -> None:
    decoder = FrameDecoder(reads)
    for chunk in chunks:
        decoder.feed(chunk)
        assert len(decoder._buffer) <= FRAME_BYTES_MAX
    hello = HELLO if reads is Direction.TO_HOST else HelloReq(proto=1, nonce=2)
    assert decoder.feed(b"\0" + encode_frame(hello, 3)) == [(3, hello)]


@given(st.integers(0, 255), st.binary(max_size=PAYLOAD_BYTES_MAX), st.sampled_from(Direction))
@settings(max_examples=300, deadline=None)
def test_a_well_framed_stranger_is_read_whole_or_dropped_whole(type_id: int, payload: bytes, reads: Direction) -> None:
    got, counters = decode(encode_raw(type_id, 0, payload), reads)
    assert counters.ok == len(got) and counters.ok + counters.dropped == 1
    for _, message in got:
        assert payload.startswith(message.pack()) and (message.EXTENSIBLE or payload == message.pack())


@pytest.mark.parametrize("row", VECTORS["frames"], ids=lambda row: row["name"])
def test_no_single_flipped_bit_is_accepted(row: dict[str, Any]) -> None:
    frame, reads = bytes.fromhex(row["frame"]), Direction(row["to"])
    follower = encode_frame(HELLO if reads is Direction.TO_HOST else HelloReq(proto=1, nonce=2), 0)
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        got, counters = decode(bytes(damaged) + follower, reads)
        # a hit delimiter glues the follower to the frame: then both are lost
        assert len(got) == (0 if bit // 8 == len(frame) - 1 else 1), bit
        assert counters.dropped >= 1, bit


def test_bursts_and_scattered_errors_are_not_accepted() -> None:
    # Seeded: a CRC of 16 bits lets one in 65,536 such frames through, and this sample holds none.
    rng = random.Random(1)
    rows = [(bytes.fromhex(row["frame"]), Direction(row["to"])) for row in VECTORS["frames"]]
    for _ in range(5000):
        frame, reads = rng.choice(rows)
        damaged = bytearray(frame)
        for _ in range(rng.randint(1, 12)):
            damaged[rng.randrange(len(frame))] ^= rng.randint(1, 255)
        got, _ = decode(bytes(damaged) + b"\0", reads)
        assert damaged == frame or got == []


@pytest.mark.parametrize("row", VECTORS["frames"], ids=lambda row: row["name"])
def test_the_vector_reads_and_writes(row: dict[str, Any]) -> None:
    cls: type[Message] = getattr(protocol_messages, row["message"])
    kinds = {spec.name: spec.python_type for spec in layout(cls).fields}
    message = cls(**{k: bytes.fromhex(v) if kinds[k] is bytes else v for k, v in row["fields"].items()})
    assert message.pack().hex() == row["payload"]
    assert encode_frame(message, row["seq"]).hex() == row["frame"]
    got = decode(bytes.fromhex(row["frame"]), Direction(row["to"]))
    assert got == ([(row["seq"], message)], LinkCounters(ok=1))


@pytest.mark.parametrize("row", VECTORS["damaged"], ids=lambda row: row["name"])
def test_the_damaged_vector_is_dropped_for_its_reason(row: dict[str, Any]) -> None:
    got, counters = decode(bytes.fromhex(row["frame"]), Direction(row["to"]))
    assert got == []
    assert counters == LinkCounters(**{row["reject"].lower(): 1})


def test_every_reason_of_rejection_has_a_vector() -> None:
    by_frame = {row["reject"] for row in VECTORS["damaged"]}
    by_stream = {name.upper() for row in VECTORS["streams"] for name, count in row["counters"].items() if count}
    assert {reason.name for reason in Reject} <= by_frame | by_stream


@pytest.mark.parametrize("row", VECTORS["streams"], ids=lambda row: row["name"])
def test_the_stream_vector_is_counted_as_written(row: dict[str, Any]) -> None:
    got, counters = decode(bytes.fromhex(row["stream"]), Direction(row["to"]))
    assert [[message.TYPE, seq] for seq, message in got] == row["accepted"]
    assert asdict(counters) == row["counters"]


def test_the_checksum_vectors_hold() -> None:
    for row in VECTORS["crc16"]:
        assert crc16(bytes.fromhex(row["data"])) == row["crc"]
    for row in VECTORS["cobs"]:
        assert cobs_encode(bytes.fromhex(row["data"])).hex() == row["encoded"]
    for row in VECTORS["params_crc"]:
        assert params_crc({Param(int(param)): value for param, value in row["values"].items()}) == row["crc"]


def test_sequence_gaps_are_counted_as_lost_frames() -> None:
    stream = b"".join(encode_frame(COMMAND, seq) for seq in (250, 251, 255, 0, 10))
    assert decode(stream)[1] == LinkCounters(ok=5, lost=3 + 9)


def test_a_repeated_frame_moves_nothing_and_a_restarted_peer_loses_nothing() -> None:
    stream = encode_frame(COMMAND, 9) * 2 + encode_frame(HelloReq(proto=1, nonce=1), 0) + encode_frame(COMMAND, 1)
    got, counters = decode(stream)
    assert [seq for seq, _ in got] == [9, 0, 1]
    assert counters == LinkCounters(ok=3, repeated=1)


def test_a_frame_of_the_greatest_length_is_held_and_one_byte_more_is_an_overflow() -> None:
    longest, decoder = bytes([1] * FRAME_BYTES_MAX), FrameDecoder(Direction.TO_BASE)
    assert decoder.feed(longest) == []
    assert decoder.counters == LinkCounters()
    decoder.feed(b"\x01")
    assert decoder.counters == LinkCounters(overflow=1)
    assert decoder.feed(b"\0" + encode_frame(COMMAND, 1)) == [(1, COMMAND)]


def test_after_a_restart_the_half_frame_and_the_gap_are_forgotten_and_the_counters_go_on() -> None:
    decoder = FrameDecoder(Direction.TO_BASE)
    assert decoder.feed(encode_frame(COMMAND, 1) + encode_frame(COMMAND, 2)[:5]) == [(1, COMMAND)]
    decoder.restart()
    assert decoder.feed(encode_frame(COMMAND, 9)) == [(9, COMMAND)]
    decoder.feed(bytes([1] * (FRAME_BYTES_MAX + 1)))
    decoder.restart()
    assert decoder.feed(encode_frame(COMMAND, 9)) == [(9, COMMAND)]
    assert decoder.counters == LinkCounters(ok=3, overflow=1)


def test_whatever_was_dropped_counts_as_dropped_once() -> None:
    every = LinkCounters(1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
    assert every.dropped == 11_111_110  # neither the accepted nor the lost


@pytest.mark.parametrize("param", list(PARAM_RANGES))
def test_a_parameter_may_be_at_its_bounds_and_not_beyond(param: Param) -> None:
    for bound, out in zip(PARAM_RANGES[param], (-math.inf, math.inf), strict=True):
        assert params_crc({param: bound}) >= 0
        with pytest.raises(ProtocolError, match=param.name):
            params_crc({param: math.nextafter(bound, out)})


def test_a_payload_of_the_greatest_length_has_a_frame_and_one_byte_more_has_none() -> None:
    assert len(encode_raw(1, 0, bytes(PAYLOAD_BYTES_MAX))) <= FRAME_BYTES_MAX + 1
    with pytest.raises(ProtocolError, match=f"at most {PAYLOAD_BYTES_MAX}"):
        encode_raw(1, 0, bytes(PAYLOAD_BYTES_MAX + 1))


def test_a_field_of_bytes_holds_bytes() -> None:
    assert (wire("bytes8").low, wire("bytes8").high) == (0, 255)


def test_a_newer_hello_is_read_and_the_versions_are_named() -> None:
    newer = encode_raw(Hello.TYPE, 0, replace(HELLO, proto=2, board=200).pack() + b"what comes later")
    [(_, hello)], counters = decode(newer, Direction.TO_HOST)
    assert isinstance(hello, Hello) and counters.ok == 1
    with pytest.raises(ProtocolError, match=r"git 12345678.*version 2, this host 1: flash the firmware"):
        check_hello(hello, nonce=5)


def test_hello_must_answer_the_nonce_that_was_sent_and_open_a_session() -> None:
    check_hello(HELLO, nonce=5)
    with pytest.raises(ProtocolError, match=r"nonce 0x00000005, expected 0x00000006"):
        check_hello(HELLO, nonce=6)
    with pytest.raises(ProtocolError, match=r"HELLO.session is 0"):
        check_hello(replace(HELLO, session=0), nonce=5)


def test_a_nack_with_a_reason_of_a_newer_version_is_read() -> None:
    nack = Nack(rejected_type=2, rejected_seq=9, reason=250)
    assert decode(encode_frame(nack, 0), Direction.TO_HOST)[0] == [(0, nack)]


def test_enum_fields_arrive_as_members() -> None:
    [(_, event)], _ = decode(encode_raw(Event.TYPE, 0, struct.pack("<QBBI", 1, 2, 5, 3)), Direction.TO_HOST)
    assert isinstance(event, Event) and event.state is State.ESTOP
    request = StateReq(request=StateRequest.ARM, magic=MAGIC_ARM, session=1)
    assert request.request is StateRequest.ARM


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: replace(COMMAND, left_mradps=200_001), r"CmdWheels.left_mradps .* from -200000 to 200000, got 200001"),
        (lambda: replace(COMMAND, session=0), r"CmdWheels.session .* from 1 to 65535, got 0"),
        (
            lambda: build(CmdWheels, left_mradps=0, right_mradps=0, session=1, stamp_us=1.5),
            r"CmdWheels.stamp_us must be an integer .* got 1.5",
        ),
        (lambda: ParamSet(param=16, value=float("nan"), session=1), r"ParamSet.value must be a finite number .* nan"),
        (lambda: ParamSet(param=16, value=1e39, session=1), r"ParamSet.value must be a finite number .* 1e\+39"),
        (lambda: replace(HELLO, git=b"123"), r"Hello.git must be 4 bytes"),
        (lambda: build(StateReq, request=9, magic=0, session=0), r"StateReq.request must be one of DISARM=1, .* got 9"),
        (lambda: build(Event, t_us=0, code=1, state=99, value=0), r"Event.state must be one of INIT=0, .* got 99"),
        (lambda: CmdWheels.unpack(b"\0"), r"CmdWheels has 18 payload bytes, got 1"),
        (lambda: encode_raw(2, 0, bytes(65)), r"payload has 65 bytes, at most 64 fit"),
        (lambda: params_crc({Param.DUTY_MAX: 2.0}), r"parameter DUTY_MAX must be from 0.05 to 1, got 2.0"),
    ],
)
def test_a_bad_value_is_refused_by_name_value_and_range(make: Any, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        make()


def test_unknown_fault_bits_are_refused() -> None:
    odom = protocol_messages.Odom
    payload = bytearray(layout(odom).packer.size)
    assert odom.unpack(bytes(payload)).faults == Fault(0)
    payload[36:38] = b"\x00\x80"
    with pytest.raises(ProtocolError, match=r"Odom.faults must be flags within 0x0fff of Fault, got 0x8000"):
        odom.unpack(bytes(payload))


def test_a_float_is_held_in_the_precision_of_the_wire() -> None:
    message = ParamSet(param=16, value=0.1, session=1)
    assert message.value == struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert decode(encode_frame(message, 0))[0] == [(0, message)]
