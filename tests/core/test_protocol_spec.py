"""Python's tables, the docs and the test vectors against firmware/protocol/protocol.yaml, field by field."""

import importlib.util
import struct
from enum import Enum, IntFlag
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dsac_robot.core import protocol, protocol_enums, protocol_messages
from dsac_robot.core.protocol_enums import PARAM_RANGES, PROTOCOL_VERSION, Param, Reject
from dsac_robot.core.protocol_fields import layout, wire
from dsac_robot.core.protocol_messages import MESSAGES

GENERATE = Path(__file__).parents[2] / "firmware" / "protocol" / "generate.py"


def load_generate() -> ModuleType:
    """The generator as a module; firmware/ is no Python package."""
    spec = importlib.util.spec_from_file_location("protocol_generate", GENERATE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generate()
SPEC: dict[str, Any] = generate.load_spec()
UNIT_SUFFIX = {
    "us": "_us",
    "ms": "_ms",
    "mrad/s": "_mradps",
    "urad/s": "_uradps",
    "um/s2": "_umps2",
    "ticks": "_ticks",
    "1e-4": "_e4",
    "mV": "_mv",
    "mA": "_ma",
    "0.01 degC": "_cdegc",
    "degC": "_degc",
}
PAIRS = list(zip(MESSAGES, SPEC["messages"], strict=True))


def test_version_and_framing_are_those_of_the_specification() -> None:
    framing = SPEC["framing"]
    assert SPEC["version"] == PROTOCOL_VERSION
    assert framing["payload_bytes_max"] == protocol.PAYLOAD_BYTES_MAX
    assert framing["frame_bytes_max"] == protocol.FRAME_BYTES_MAX
    assert framing["delimiter"] == protocol.DELIMITER[0]
    assert framing["crc16"]["check"] == protocol.crc16(b"123456789")


def test_constants_are_those_of_the_specification() -> None:
    declared = {c["name"].upper(): c["value"] for c in SPEC["constants"]}
    written = {k: v for k, v in vars(protocol_enums).items() if k.isupper() and isinstance(v, int | float)}
    assert written == {**declared, "PROTOCOL_VERSION": PROTOCOL_VERSION}


def test_enums_are_those_of_the_specification() -> None:
    for enum in SPEC["enums"]:
        cls = getattr(protocol_enums, enum["name"])
        assert {member.name: int(member) for member in cls} == {v["name"]: v["value"] for v in enum["values"]}
        assert issubclass(cls, IntFlag) == (enum.get("kind") == "flags")
    declared = {enum["name"] for enum in SPEC["enums"]} | {"Direction", "Param"}
    written = {k for k, v in vars(protocol_enums).items() if isinstance(v, type) and issubclass(v, Enum)}
    assert {name for name in written if getattr(protocol_enums, name).__module__ == protocol_enums.__name__} == declared


def test_parameters_are_those_of_the_specification() -> None:
    assert {p.name.lower(): (int(p), *PARAM_RANGES[p]) for p in Param} == {
        p["name"]: (p["id"], *p["range"]) for p in SPEC["parameters"]
    }


def test_messages_come_in_the_order_of_the_specification() -> None:
    names = ["".join(part.capitalize() for part in m["name"].split("_")) for m in SPEC["messages"]]
    assert [cls.__name__ for cls in MESSAGES] == names
    assert len({cls.TYPE for cls in MESSAGES}) == len(MESSAGES)


@pytest.mark.parametrize(("cls", "declared"), PAIRS, ids=[cls.__name__ for cls in MESSAGES])
def test_a_message_has_the_fields_of_the_specification(cls: Any, declared: dict[str, Any]) -> None:
    extensible = bool(declared.get("extensible"))
    assert (cls.TYPE, cls.TO.value, cls.EXTENSIBLE) == (declared["id"], declared["to"], extensible)
    fields = layout(cls).fields
    assert [field.name for field in fields] == [field["name"] for field in declared["fields"]]
    assert [field.name for field in fields] == list(cls.__dataclass_fields__)
    for written, field in zip(fields, declared["fields"], strict=True):
        assert written.wire.kind == field["type"], field
        whole = wire(field["type"])
        low, high = field.get("range", (whole.low, whole.high))
        assert (written.wire.low, written.wire.high) == (low, high), field
        plain = float if field["type"] == "f32" else bytes if field["type"].startswith("bytes") else int
        closed = "enum" in field and not extensible
        assert written.python_type is (getattr(protocol_enums, field["enum"]) if closed else plain), field
        assert "enum" not in field or hasattr(protocol_enums, field["enum"])
        assert field["name"].removesuffix("_max").endswith(UNIT_SUFFIX.get(field["unit"], "")), field


def test_every_message_fits_the_largest_payload_without_padding() -> None:
    for cls, declared in zip(MESSAGES, SPEC["messages"], strict=True):
        size = sum(generate._size(field["type"]) for field in declared["fields"])
        assert layout(cls).packer.size == size <= protocol.PAYLOAD_BYTES_MAX


def test_no_message_uses_an_id_of_test_builds() -> None:
    assert not [cls for cls in MESSAGES if cls.TYPE & 0x7F >= 0x70]
    assert all((cls.TYPE >= 0x80) == (cls.TO.value == "host") for cls in MESSAGES)


def test_the_counters_are_named_after_the_reasons_of_rejection() -> None:
    reasons = {reason.name.lower() for reason in Reject}
    assert set(protocol.LinkCounters.__dataclass_fields__) == reasons | {"ok", "lost"}
    link_stats = {field.name for field in layout(protocol_messages.LinkStats).fields}
    assert reasons | {"ok", "lost"} <= link_stats


def test_magic_numbers_differ_in_many_bits() -> None:
    numbers = [c["value"] for c in SPEC["constants"] if c["name"].startswith("magic_")]
    pairs = [(a, b) for i, a in enumerate(numbers) for b in numbers[:i]]
    assert min(bin(a ^ b).count("1") for a, b in pairs) >= 8
    assert all(bin(n).count("1") in range(8, 25) for n in numbers)


def test_the_generated_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    stale = tmp_path / "vectors.json"
    stale.write_text("{}")
    monkeypatch.setattr(generate, "VECTORS", stale)
    assert generate.main(["--check"]) == 1
    assert "vectors.json is stale" in capsys.readouterr().err


def test_a_frame_put_together_by_hand_from_the_specification_is_what_the_encoder_sends() -> None:
    # CRC bit by bit and COBS by its definition, not by the code under test
    body = struct.pack("<BBiiHQ", 0x02, 9, 1500, -1500, 7, 1_000_000)
    crc = 0xFFFF
    for byte in body:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    groups = (body + struct.pack("<H", crc)).split(b"\0")
    frame = b"".join(bytes((len(group) + 1,)) + group for group in groups) + b"\0"
    command = protocol_messages.CmdWheels(left_mradps=1500, right_mradps=-1500, session=7, stamp_us=1_000_000)
    assert protocol.encode_frame(command, 9) == frame
