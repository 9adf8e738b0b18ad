"""Write what follows from protocol.yaml: docs/protocol.md and the shared test vectors.

``python firmware/protocol/generate.py`` writes both; ``--check`` only compares, and exits with 1 where one is stale.
"""

import argparse
import json
import struct
import sys
from collections.abc import Iterable
from dataclasses import asdict
from enum import Enum, IntFlag
from pathlib import Path
from typing import Any

import yaml

from dsac_robot.core import protocol
from dsac_robot.core.protocol_enums import PARAM_RANGES, PROTOCOL_VERSION, Direction, Reject, StateRequest
from dsac_robot.core.protocol_fields import FieldSpec, Message, layout
from dsac_robot.core.protocol_messages import MESSAGES, CmdWheels, Hello, HelloReq, ParamSet, StateReq, TimeSync

HERE = Path(__file__).resolve().parent
SPEC = HERE / "protocol.yaml"
VECTORS = HERE / "vectors.json"
DOCS = HERE.parents[1] / "docs" / "protocol.md"


def load_spec() -> dict[str, Any]:
    """The specification as plain values."""
    return dict(yaml.safe_load(SPEC.read_text(encoding="utf-8")))


# Vectors ------------------------------------------------------------------------------------------------------------


def field_value(spec: FieldSpec, which: str) -> Any:
    """The ``least``, the ``most`` or ``some`` middle value that a field can carry."""
    if spec.wire.kind.startswith("bytes"):
        length = int(spec.wire.kind[5:])
        return {"least": bytes(length), "most": b"\xff" * length, "some": bytes(range(1, length + 1))}[which]
    if spec.wire.kind == "f32":
        return {"least": spec.wire.low, "most": spec.wire.high, "some": 0.25}[which]
    if issubclass(spec.python_type, Enum):
        numbers = [int(member.value) for member in spec.python_type]
        if issubclass(spec.python_type, IntFlag):
            return {"least": 0, "most": sum(numbers), "some": numbers[1]}[which]
        return {"least": min(numbers), "most": max(numbers), "some": numbers[1]}[which]
    low, high = int(spec.wire.low), int(spec.wire.high)
    return {"least": low, "most": high, "some": low + (high - low) * 4 // 7}[which]


def example(cls: type[Message], which: str) -> Message:
    """The message whose fields all have the ``least``, the ``most`` or ``some`` middle value."""
    return cls(**{spec.name: field_value(spec, which) for spec in layout(cls).fields})


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else float(value) if isinstance(value, float) else int(value)


def _frames() -> list[dict[str, Any]]:
    """One valid frame a message and kind of value."""
    rows = []
    for number, (cls, which) in enumerate((cls, which) for cls in MESSAGES for which in ("least", "some", "most")):
        message, seq = example(cls, which), number * 37 % 256
        rows.append(
            {
                "name": f"{cls.__name__} with {which} values",
                "message": cls.__name__,
                "to": cls.TO.value,
                "type": cls.TYPE,
                "seq": seq,
                "fields": {spec.name: _plain(getattr(message, spec.name)) for spec in layout(cls).fields},
                "payload": message.pack().hex(),
                "frame": protocol.encode_frame(message, seq).hex(),
            }
        )
    return rows


def _flip(frame: bytes, at: int, bit: int) -> bytes:
    return frame[:at] + bytes((frame[at] ^ 1 << bit,)) + frame[at + 1 :]


def _damaged() -> list[dict[str, Any]]:
    """Frames that a receiver must drop, each for one stated reason."""
    command = CmdWheels(left_mradps=1500, right_mradps=-1500, session=7, stamp_us=1_000_000)
    frame = protocol.encode_frame(command, 9)
    payload = command.pack()
    raw = protocol.encode_raw
    nan_set = ParamSet(param=16, value=0.0, session=7).pack()
    cases: list[tuple[str, Direction, bytes, Reject]] = [
        ("a flipped bit in the payload", Direction.TO_BASE, _flip(frame, 3, 0), Reject.BAD_CRC),
        ("a flipped bit in the type", Direction.TO_BASE, _flip(frame, 1, 2), Reject.BAD_CRC),
        ("a flipped bit in the CRC", Direction.TO_BASE, _flip(frame, len(frame) - 2, 7), Reject.BAD_CRC),
        ("the first code points past the end", Direction.TO_BASE, b"\xfe" + frame[1:], Reject.BAD_COBS),
        ("the last byte is missing", Direction.TO_BASE, frame[:-2] + b"\0", Reject.BAD_COBS),
        ("two bytes are swapped", Direction.TO_BASE, frame[:3] + frame[4:2:-1] + frame[5:], Reject.BAD_CRC),
        ("one byte", Direction.TO_BASE, b"\x01\0", Reject.BAD_LENGTH),
        ("three decoded bytes", Direction.TO_BASE, protocol.cobs_encode(b"\x02\x09\x01") + b"\0", Reject.BAD_LENGTH),
        ("payload a byte short", Direction.TO_BASE, raw(0x02, 9, payload[:-1]), Reject.BAD_LENGTH),
        ("payload a byte long", Direction.TO_BASE, raw(0x02, 9, payload + b"\x01"), Reject.BAD_LENGTH),
        ("no payload", Direction.TO_BASE, raw(0x02, 9, b""), Reject.BAD_LENGTH),
        ("extensible but too short", Direction.TO_BASE, raw(0x01, 9, b"\x01\x00"), Reject.BAD_LENGTH),
        ("an unknown type", Direction.TO_BASE, raw(0x6F, 9, payload), Reject.UNKNOWN_TYPE),
        ("a type of test builds", Direction.TO_BASE, raw(0x70, 9, b""), Reject.UNKNOWN_TYPE),
        ("a type that travels the other way", Direction.TO_BASE, raw(0x85, 9, bytes(24)), Reject.UNKNOWN_TYPE),
        ("a type that travels the other way", Direction.TO_HOST, frame, Reject.UNKNOWN_TYPE),
        ("speed above its range", Direction.TO_BASE, _with(payload, 0, "<i", 200_001), Reject.BAD_VALUE),
        ("speed below its range", Direction.TO_BASE, _with(payload, 4, "<i", -200_001), Reject.BAD_VALUE),
        ("session 0", Direction.TO_BASE, _with(payload, 8, "<H", 0), Reject.BAD_VALUE),
        ("an unknown request", Direction.TO_BASE, raw(0x03, 9, struct.pack("<BIH", 9, 0, 1)), Reject.BAD_VALUE),
        ("an unknown state", Direction.TO_HOST, raw(0x87, 9, struct.pack("<QBBI", 1, 1, 99, 0)), Reject.BAD_VALUE),
        ("longer than any frame", Direction.TO_BASE, b"\x01" * (protocol.FRAME_BYTES_MAX + 1) + b"\0", Reject.OVERFLOW),
    ]
    for name, word in (("NaN", 0x7FC00000), ("infinity", 0x7F800000), ("minus infinity", 0xFF800000)):
        bad = raw(0x05, 9, nan_set[:2] + word.to_bytes(4, "little") + nan_set[6:])
        cases.append((f"a float that is {name}", Direction.TO_BASE, bad, Reject.BAD_VALUE))
    return [{"name": n, "to": to.value, "frame": data.hex(), "reject": why.name} for n, to, data, why in cases]


def _with(payload: bytes, at: int, code: str, value: int) -> bytes:
    """A CMD_WHEELS frame with one value written over."""
    new = bytearray(payload)
    struct.pack_into(code, new, at, value)
    return protocol.encode_raw(0x02, 9, bytes(new))


def _streams() -> list[dict[str, Any]]:
    """Byte streams, and what a fresh receiver accepts from them and counts."""
    to = Direction.TO_BASE
    sync = [protocol.encode_frame(TimeSync(t0_us=1000 + n), n) for n in range(256)]
    hello = protocol.encode_frame(HelloReq(proto=PROTOCOL_VERSION, nonce=1), 200)
    newer = protocol.encode_raw(Hello.TYPE, 3, struct.pack("<H", 2) + example(Hello, "some").pack()[2:] + b"more")
    disarm = protocol.encode_frame(StateReq(request=StateRequest.DISARM, magic=0x5AFE0D15, session=0), 3)
    long = b"\x05" * (2 * protocol.FRAME_BYTES_MAX)
    cases = [
        ("three frames", to, b"\0" + sync[0] + sync[1] + sync[2]),
        ("delimiters between frames are ignored", to, b"\0\0\0" + sync[0] + b"\0\0" + sync[1]),
        ("a stream that starts inside a frame", to, sync[0][5:] + sync[1]),
        ("a gap of two", to, sync[0] + sync[3]),
        ("the sequence wraps without a gap", to, sync[254] + sync[255] + sync[0]),
        ("a gap across the wrap", to, sync[250] + sync[4]),
        ("a frame that comes twice", to, sync[0] + sync[1] + sync[1] + sync[2]),
        ("HELLO_REQ sets the sequence", to, sync[0] + hello + sync[201]),
        ("HELLO_REQ may repeat", to, hello + hello),
        ("a damaged frame is also lost", to, sync[0] + _flip(sync[1], 3, 1) + sync[2]),
        ("an unknown type keeps the sequence", to, sync[0] + protocol.encode_raw(0x6F, 1, b"") + sync[2]),
        ("an endless frame is one overflow", to, sync[0] + long + b"\0" + sync[1]),
        ("a lost delimiter costs both frames", to, sync[0] + sync[1][:-1] + sync[2] + sync[3]),
        ("an unfinished frame waits", to, sync[0] + disarm[:-1]),
        ("HELLO of a newer version is read", Direction.TO_HOST, newer),
    ]
    rows = []
    for name, reads, stream in cases:
        decoder = protocol.FrameDecoder(reads)
        accepted = [[message.TYPE, seq] for seq, message in decoder.feed(stream)]
        counters = asdict(decoder.counters)
        rows.append(
            {"name": name, "to": reads.value, "stream": stream.hex(), "accepted": accepted, "counters": counters}
        )
    return rows


def vectors_text() -> str:
    """vectors.json: valid frames, damaged frames, streams, and the checksums by themselves. All bytes are hex."""
    middle = {param: (low + high) / 2 for param, (low, high) in PARAM_RANGES.items()}
    crc_inputs = [b"", b"\0", b"123456789", bytes(range(68))]
    cobs_inputs = [b"", b"\0", b"\0\0", b"\x11\0", b"\x11\x22\0\x33", b"\x11\0\0\0", bytes(range(1, 69))]
    vectors: dict[str, list[Any]] = {
        "frames": _frames(),
        "damaged": _damaged(),
        "streams": _streams(),
        "crc16": [{"data": data.hex(), "crc": protocol.crc16(data)} for data in crc_inputs],
        "cobs": [{"data": data.hex(), "encoded": protocol.cobs_encode(data).hex()} for data in cobs_inputs],
        "params_crc": [
            {"values": {str(int(p)): v for p, v in middle.items()}, "crc": protocol.params_crc(middle)},
            {"values": {}, "crc": protocol.params_crc({})},
        ],
    }
    blocks = (
        f'"{name}": [\n' + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]" for name, rows in vectors.items()
    )
    head = f'"protocol_version": {PROTOCOL_VERSION}'
    return "{\n" + ",\n".join((head, *blocks)) + "\n}\n"


# Docs ---------------------------------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def _number(entry: dict[str, Any], key: str = "value", hexadecimal: bool = False) -> str:
    value = entry[key]
    return f"`{value:#06x}`" if hexadecimal else f"`{value:#010x}`" if entry["name"].startswith("magic") else f"{value}"


def _message_docs(message: dict[str, Any]) -> list[str]:
    size = sum(_size(f["type"]) for f in message["fields"])
    note = " Extensible." if message.get("extensible") else ""
    rows = []
    for field in message["fields"]:
        low_high = "{} to {}".format(*field["range"]) if "range" in field else ""
        allowed = f"[{field['enum']}](#{field['enum'].lower()})" if "enum" in field else low_high
        rows.append((f"`{field['name']}`", field["type"], field["unit"], allowed, field["help"]))
    title = f"### {message['name']} `{message['id']:#04x}`, to the {message['to']}"
    text = f"{message['help'][0].upper()}{message['help'][1:]}. {size} bytes of payload.{note}"
    return [title, "", text, "", *_table(("field", "type", "unit", "allowed", "meaning"), rows)]


def _size(kind: str) -> int:
    return int(kind[5:]) if kind.startswith("bytes") else int(kind[1:]) // 8


def docs_text() -> str:
    """docs/protocol.md, from the specification alone."""
    spec = load_spec()
    framing, crc = spec["framing"], spec["framing"]["crc16"]
    lines = [
        "# The wire protocol between host and base",
        "",
        "<!-- generated from firmware/protocol/protocol.yaml by firmware/protocol/generate.py; edit there -->",
        "",
        f"Version {spec['version']}. A frame is `{framing['summary']}`, little-endian throughout. The payload has at "
        f"most {framing['payload_bytes_max']} bytes, the encoded frame at most {framing['frame_bytes_max']} and the "
        f"delimiter. The CRC is {crc['name']} (polynomial `{crc['polynomial']:#06x}`, initial `{crc['initial']:#06x}`, "
        f"not reflected; of `123456789` it is `{crc['check']:#06x}`) over type, sequence and payload. "
        f"The line runs at {framing['baud']} baud, 8N1.",
        "",
        "What the CRC promises: every error of up to three bits that leaves the COBS codes alone is found. An error "
        "that hits a code, or makes one, moves bytes; such errors and longer ones pass the CRC once in about 65,536. "
        "Length, type, range, session and stamp then still stand between the frame and the wheels, and the base's own "
        "limits behind them.",
        "",
        "Both ends are tested against `firmware/protocol/vectors.json`; the host's is `dsac_robot/core/protocol.py`.",
        "",
        "## Rules",
        "",
        *(f"{number}. {rule}" for number, rule in enumerate(spec["rules"], 1)),
        "",
        "## Messages",
        "",
        *_table(
            ("id", "message", "to", "meaning"),
            [(f"`{m['id']:#04x}`", m["name"], m["to"], m["help"]) for m in spec["messages"]],
        ),
    ]
    for message in spec["messages"]:
        lines += _message_docs(message)
    lines += ["## Numbers", ""]
    constants = [(f"`{c['name']}`", _number(c), c["unit"], c["help"]) for c in spec["constants"]]
    lines += _table(("constant", "value", "unit", "meaning"), constants)
    for enum in spec["enums"]:
        flags = enum.get("kind") == "flags"
        title = f"{enum['help'][0].upper()}{enum['help'][1:]}" + (" (flags)." if flags else ".")
        values = [(f"`{v['name']}`", _number(v, hexadecimal=flags), v["help"]) for v in enum["values"]]
        lines += [f"### {enum['name']}", "", title, "", *_table(("name", "value", "meaning"), values)]
    lines += ["## Parameters", "", "Defaults come from the robot description.", ""]
    parameters = [
        (str(p["id"]), f"`{p['name']}`", p["unit"], "{} to {}".format(*p["range"]), p["help"])
        for p in spec["parameters"]
    ]
    lines += _table(("id", "parameter", "unit", "range", "meaning"), parameters)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` name those that are stale. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args(arguments).check
    status = 0
    for path, text in ((VECTORS, vectors_text()), (DOCS, docs_text())):
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            print(f"{path.name} is stale: run python firmware/protocol/generate.py", file=sys.stderr)
            status = 1
        elif not check:
            path.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
