"""How a frozen dataclass becomes the payload of a frame and comes back.

A field declares its wire type and range in its annotation: ``speed: Annotated[int, wire("i32", -200, 200)]``. Values
are checked when a message is built, so a message that exists can be sent, and one from the wire has been checked.
"""

import math
import struct
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from typing import Any, ClassVar, TypeVar, get_type_hints

from dsac_robot.core.protocol_enums import Direction, Reject

M = TypeVar("M", bound="Message")

_INT_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i", "i64": "q"}
_F32_MAX = 3.4028234663852886e38


class ProtocolError(ValueError):
    """A message cannot be built, read, or relied on. ``reject`` is the reason that a receiver counts."""

    def __init__(self, text: str, reject: Reject = Reject.BAD_VALUE) -> None:
        super().__init__(text)
        self.reject = reject


@dataclass(frozen=True)
class Wire:
    """Wire form of a field: ``kind`` as in protocol.yaml (u8 ... i64, f32, bytesN), inclusive bounds."""

    kind: str
    low: float
    high: float

    @property
    def code(self) -> str:
        """The ``struct`` code."""
        if self.kind == "f32":
            return "f"
        if self.kind.startswith("bytes"):
            return f"{int(self.kind[5:])}s"
        return _INT_CODES[self.kind]


def wire(kind: str, low: int | None = None, high: int | None = None) -> Wire:
    """Declare a wire type; without bounds the range is that of the type (for f32: finite numbers)."""
    if kind == "f32":
        return Wire(kind, -_F32_MAX, _F32_MAX)
    if kind.startswith("bytes"):
        return Wire(kind, 0, 255)
    bits = int(kind[1:])
    least, most = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Wire(kind, least if low is None else low, most if high is None else high)


@dataclass(frozen=True)
class FieldSpec:
    """One field of a message: its name, wire form and the Python type that a receiver gets."""

    name: str
    wire: Wire
    python_type: type


@dataclass(frozen=True)
class Layout:
    """The fields of a message in wire order and their compiled ``struct``."""

    fields: tuple[FieldSpec, ...]
    packer: struct.Struct


class Message:
    """Base of all messages. Subclasses are frozen dataclasses that give their wire id and direction.

    Building one checks each field and raises ProtocolError naming message, field, value and range. An f32 is rounded
    to single precision there, so that both ends hold the same value.
    """

    TYPE: ClassVar[int]
    TO: ClassVar[Direction]
    EXTENSIBLE: ClassVar[bool]

    def __init_subclass__(cls, *, type_id: int, to: Direction, extensible: bool = False) -> None:
        cls.TYPE, cls.TO, cls.EXTENSIBLE = type_id, to, extensible

    def __post_init__(self) -> None:
        for spec in layout(type(self)).fields:
            object.__setattr__(self, spec.name, _checked(type(self), spec, getattr(self, spec.name)))

    def pack(self) -> bytes:
        """The payload, little-endian, without padding."""
        specs = layout(type(self))
        return specs.packer.pack(*(getattr(self, spec.name) for spec in specs.fields))

    @classmethod
    def unpack(cls: type[M], payload: bytes) -> M:
        """Read a payload.

        Raises ProtocolError: BAD_LENGTH where the length is not this message's (an extensible message may be
        longer, its tail is ignored), BAD_VALUE for a value outside its range or enum or a float that is not finite.
        """
        packer = layout(cls).packer
        if len(payload) != packer.size and not (cls.EXTENSIBLE and len(payload) > packer.size):
            raise ProtocolError(
                f"{cls.__name__} has {packer.size} payload bytes, got {len(payload)}: compare the versions in HELLO",
                Reject.BAD_LENGTH,
            )
        return cls(*packer.unpack_from(payload))


_LAYOUTS: dict[type[Message], Layout] = {}


def layout(cls: type[Message]) -> Layout:
    """The wire layout of a message class, from its annotations; worked out once a class."""
    if cls in _LAYOUTS:
        return _LAYOUTS[cls]
    specs = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        metadata: tuple[Any, ...] = getattr(hint, "__metadata__", ())
        if metadata:
            specs.append(FieldSpec(name, metadata[0], hint.__origin__))
    _LAYOUTS[cls] = Layout(tuple(specs), struct.Struct("<" + "".join(spec.wire.code for spec in specs)))
    return _LAYOUTS[cls]


def _checked(cls: type[Message], spec: FieldSpec, value: Any) -> Any:
    """The value in the field's Python type, or ProtocolError."""
    name, kind, low, high = f"{cls.__name__}.{spec.name}", spec.wire.kind, spec.wire.low, spec.wire.high
    if kind.startswith("bytes"):
        length = int(kind[5:])
        if not isinstance(value, bytes) or len(value) != length:
            raise ProtocolError(f"{name} must be {length} bytes, got {value!r}")
        return value
    if kind == "f32":
        if isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high:
            return struct.unpack("<f", struct.pack("<f", value))[0]
        raise ProtocolError(f"{name} must be a finite number that fits 32 bits, got {value!r}")
    if not isinstance(value, int) or not low <= value <= high:
        raise ProtocolError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    if issubclass(spec.python_type, Enum):
        return _member(name, spec.python_type, value)
    return int(value)


def _member(name: str, enum: type[Enum], value: int) -> Any:
    """The member (or union of flags) with this number, or ProtocolError listing what is allowed."""
    if issubclass(enum, IntFlag):
        mask = sum(int(member) for member in enum)
        if value & ~mask:
            raise ProtocolError(f"{name} must be flags within {mask:#06x} of {enum.__name__}, got {value:#06x}")
        return enum(value)
    if issubclass(enum, IntEnum) and value in {int(member) for member in enum}:
        return enum(value)
    allowed = ", ".join(f"{member.name}={member.value}" for member in enum)
    raise ProtocolError(f"{name} must be one of {allowed}, got {value}")
