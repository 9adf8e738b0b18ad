"""The host's end of the wire: frames, their incremental decoder, and the checks between host and base.

A frame is ``COBS(type u8, seq u8, payload, crc16 u16) 0x00``, little-endian, CRC-16/CCITT-FALSE over all before the
CRC. The specification is firmware/protocol/protocol.yaml, its readable form docs/protocol.md; both ends are tested
against firmware/protocol/vectors.json. COBS: Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999.
"""

import binascii
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsac_robot.core.protocol_enums import PARAM_RANGES, PROTOCOL_VERSION, Direction, Param, Reject
from dsac_robot.core.protocol_fields import Message, ProtocolError
from dsac_robot.core.protocol_messages import MESSAGES, Hello, HelloReq

PAYLOAD_BYTES_MAX = 64
FRAME_BYTES_MAX = PAYLOAD_BYTES_MAX + 5  # type, seq, crc16 and one byte of COBS overhead; without the delimiter
DELIMITER = b"\x00"


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, initial 0xFFFF, not reflected. ``crc16(b"123456789") == 0x29B1``."""
    return binascii.crc_hqx(data, 0xFFFF)


def cobs_encode(data: bytes) -> bytes:
    """Encode any bytes without a zero byte; the delimiter is not added. One byte longer, plus one per 254."""
    out = bytearray()
    for group in data.split(b"\x00"):
        for start in range(0, len(group) + 1, 254):
            piece = group[start : start + 254]
            out.append(len(piece) + 1)
            out += piece
    if data and len(group) and len(group) % 254 == 0:
        del out[-1]  # the last code would only say that no zero follows a full group
    return bytes(out)


def cobs_decode(data: bytes) -> bytes:
    """Undo cobs_encode. Raises ProtocolError (BAD_COBS) for a zero byte or a group that runs past the end."""
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        group = data[at + 1 : at + code]
        if code == 0 or len(group) != code - 1 or 0 in group:
            raise ProtocolError(f"byte {at} ({code:#04x}) is not a COBS code of {len(data)} bytes", Reject.BAD_COBS)
        out += group
        at += code
        if code != 0xFF and at < len(data):
            out.append(0)
    return bytes(out)


def encode_frame(message: Message, seq: int) -> bytes:
    """The frame of a message with its delimiter. ``seq`` is taken modulo 256; the caller counts one up per frame."""
    return encode_raw(message.TYPE, seq, message.pack())


def encode_raw(type_id: int, seq: int, payload: bytes) -> bytes:
    """The frame of any type and payload, known or not (tests and tools). Raises ProtocolError over 64 bytes."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ProtocolError(f"payload has {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX} fit", Reject.BAD_LENGTH)
    body = bytes((type_id, seq & 0xFF)) + payload
    return cobs_encode(body + struct.pack("<H", crc16(body))) + DELIMITER


@dataclass(frozen=True)
class LinkCounters:
    """What a receiver has seen since it was made: accepted frames, dropped ones by reason, and gaps in sequence."""

    ok: int = 0
    bad_cobs: int = 0
    bad_crc: int = 0
    bad_length: int = 0
    unknown_type: int = 0
    bad_value: int = 0
    overflow: int = 0
    repeated: int = 0
    lost: int = 0

    @property
    def dropped(self) -> int:
        """Frames that arrived and were dropped, for whatever reason."""
        damaged = self.bad_cobs + self.bad_crc + self.bad_length + self.overflow
        return damaged + self.unknown_type + self.bad_value + self.repeated


class FrameDecoder:
    """Takes bytes as they come and gives messages. Never raises on what it is fed; holds at most one frame.

    ``reads`` is the direction that this end reads: the host reads TO_HOST. Call ``restart`` for each new connection.
    ``messages`` are those it knows (test builds have more).
    """

    def __init__(self, reads: Direction = Direction.TO_HOST, messages: Sequence[type[Message]] = MESSAGES) -> None:
        self._types = {cls.TYPE: cls for cls in messages if cls.TO is reads}
        self._counts: Counter[str] = Counter()
        self.restart()

    def restart(self) -> None:
        """Forget the unfinished frame and the sequence; the counters go on."""
        self._buffer = bytearray()
        self._overflowed = False
        self._last_seq: int | None = None

    @property
    def counters(self) -> LinkCounters:
        """The counters as they stand."""
        return LinkCounters(**self._counts)

    def feed(self, data: bytes) -> list[tuple[int, Message]]:
        """Take bytes, give the (sequence, message) of every frame that they complete, in order."""
        out = []
        *complete, rest = bytes(data).split(DELIMITER)
        for chunk in complete:
            self._hold(chunk)
            frame, overflowed = bytes(self._buffer), self._overflowed
            self._buffer.clear()
            self._overflowed = False
            if frame and not overflowed:
                try:
                    out.append(self._accept(frame))
                    self._counts["ok"] += 1
                except ProtocolError as error:
                    self._counts[error.reject.name.lower()] += 1
        self._hold(rest)
        return out

    def _hold(self, chunk: bytes) -> None:
        """Keep bytes of an unfinished frame; one that outgrows every frame is counted once and skipped."""
        if self._overflowed:
            return
        if len(self._buffer) + len(chunk) > FRAME_BYTES_MAX:
            self._overflowed = True
            self._buffer.clear()
            self._counts["overflow"] += 1
        else:
            self._buffer += chunk

    def _accept(self, frame: bytes) -> tuple[int, Message]:
        """Read one frame without its delimiter, or raise ProtocolError with the reason that drops it."""
        body = cobs_decode(frame)
        if len(body) < 4:
            raise ProtocolError(f"a frame has at least 4 bytes, got {len(body)}", Reject.BAD_LENGTH)
        body, crc = body[:-2], int.from_bytes(body[-2:], "little")
        if crc16(body) != crc:
            raise ProtocolError(f"CRC is {crc16(body):#06x}, the frame says {crc:#06x}", Reject.BAD_CRC)
        type_id, seq = body[0], body[1]
        cls = self._types.get(type_id)
        self._follow(seq, starts=cls in (Hello, HelloReq))
        if cls is None:
            raise ProtocolError(f"no message has type {type_id:#04x} in this direction", Reject.UNKNOWN_TYPE)
        return seq, cls.unpack(body[2:])

    def _follow(self, seq: int, starts: bool) -> None:
        """Count the gap to the frame before; raise ProtocolError (REPEATED) where there is no step at all."""
        last, self._last_seq = self._last_seq, seq
        if last is None or starts:
            return
        if seq == last:
            raise ProtocolError(f"sequence {seq} came twice", Reject.REPEATED)
        self._counts["lost"] += (seq - last - 1) & 0xFF


def check_hello(hello: Hello, nonce: int) -> None:
    """Refuse a base that must not be armed: raises ProtocolError naming what differs and what to do.

    ``nonce`` is that of the HELLO_REQ that was sent; a HELLO with another one answers somebody else or an older try.
    """
    if hello.proto != PROTOCOL_VERSION:
        firmware = f"{hello.version_major}.{hello.version_minor}.{hello.version_patch}"
        raise ProtocolError(
            f"the base (firmware {firmware}, git {hello.git.hex()}) speaks protocol version {hello.proto}, this host "
            f"{PROTOCOL_VERSION}: flash the firmware that belongs to this release, or install the matching host"
        )
    if hello.nonce != nonce:
        raise ProtocolError(f"HELLO answers nonce {hello.nonce:#010x}, expected {nonce:#010x}: send HELLO_REQ again")
    if hello.session == 0:
        raise ProtocolError("HELLO.session is 0, expected 1 to 65535: send HELLO_REQ again")


def params_crc(values: Mapping[Param, float]) -> int:
    """CRC-32 (zlib) over id u16 and value f32 of each parameter in ascending id; both ends compute it alike.

    Raises ProtocolError naming the parameter where a value is outside its range (or not finite).
    """
    data = b""
    for param, value in sorted(values.items()):
        low, high = PARAM_RANGES[param]
        if not low <= value <= high:
            raise ProtocolError(f"parameter {param.name} must be from {low} to {high}, got {value!r}")
        data += struct.pack("<Hf", param, value)
    return binascii.crc32(data)
