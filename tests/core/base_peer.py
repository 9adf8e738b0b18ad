"""The other end of the wire as docs/protocol.md tells it, without wheels: what the host's end is tried against.

The firmware itself is tried against the host's end under QEMU (tests/loop); this one can be told to misbehave.
"""

from dataclasses import dataclass, field, replace

from dsac_robot.core.protocol import FrameDecoder, encode_frame, params_crc
from dsac_robot.core.protocol_enums import (
    PROTOCOL_VERSION,
    Direction,
    EventCode,
    Fault,
    NackReason,
    Param,
    State,
    StateRequest,
)
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import (
    CmdWheels,
    Event,
    Hello,
    HelloReq,
    Nack,
    Odom,
    ParamSet,
    ParamValue,
    StateReq,
    Status,
    TimeSync,
    TimeSyncRsp,
)

PARAMS = {Param.TICKS_PER_REV: 8192.0, Param.SPEED_RADPS_MAX: 25.0, Param.BRAKE_RADPS2: 40.0}
HELLO = Hello(PROTOCOL_VERSION, 0, 0, 2, 1, 0, 1, 0, 0, b"\x12\x34\x56\x78", b"buildid1", 0x11, 0, 3)
OFFSET_US = 7_000_000  # of its clock to the host's


@dataclass
class Peer:
    """A base that answers at once."""

    hello: Hello = HELLO
    params: dict[Param, float] = field(default_factory=lambda: {**PARAMS, Param.BRAKE_RADPS2: 1.0})
    state: State = State.IDLE
    faults: Fault = field(default_factory=lambda: Fault(0))
    ticks: tuple[int, int] = (0, 0)
    session: int = 0
    nonce: int = 0
    deaf_to: tuple[type[Message], ...] = ()
    commands: list[CmdWheels] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decoder = FrameDecoder(Direction.TO_BASE)
        self.seq = 0
        self.now_us = 0

    def frame(self, message: Message) -> bytes:
        self.seq += 1
        return encode_frame(message, self.seq)

    def telemetry(self) -> bytes:
        odom = Odom(self.now_us, *self.ticks, 0, 0, 0, 0, self.faults, self.state, 0, 65535)
        crc = params_crc(self.params)
        status = Status(self.now_us, self.state, 0, self.faults, Fault(0), self.session, 25_000, 0, crc, 0, 0, 0)
        return self.frame(odom) + self.frame(status)

    def go(self, state: State) -> bytes:
        before, self.state = self.state, state
        return self.frame(Event(self.now_us, EventCode.STATE_CHANGED, state, before))

    def feed(self, host_us: int, data: bytes) -> bytes:
        self.now_us = host_us + OFFSET_US
        return b"".join(self.answer(seq, message) for seq, message in self.decoder.feed(data))

    def answer(self, seq: int, message: Message) -> bytes:
        if isinstance(message, self.deaf_to):
            return b""
        if not isinstance(message, TimeSync | CmdWheels):
            self.requests.append(message)
        if isinstance(message, HelloReq):
            if message.nonce != self.nonce:
                self.nonce, self.session = message.nonce, self.session + 1
                self.state = State.STOPPING if self.state == State.ACTIVE else self.state
            crc = params_crc(self.params)
            return self.frame(replace(self.hello, nonce=self.nonce, session=self.session, params_crc=crc))
        if isinstance(message, TimeSync):
            return self.frame(TimeSyncRsp(message.t0_us, self.now_us, self.now_us))
        if isinstance(message, ParamSet):
            if self.state != State.IDLE:
                return self.frame(Nack(message.TYPE, seq, NackReason.BAD_STATE))
            if message.param not in self.params:
                return self.frame(Nack(message.TYPE, seq, NackReason.UNKNOWN_PARAM))
            self.params[Param(message.param)] = message.value
            return self.frame(ParamValue(message.param, message.value))
        if isinstance(message, CmdWheels):
            self.commands.append(message)
            if message.session != self.session:
                return self.frame(Nack(message.TYPE, seq, NackReason.BAD_SESSION))
        if isinstance(message, StateReq):
            return self.on_request(seq, message)
        return b""

    def on_request(self, seq: int, message: StateReq) -> bytes:
        latched = self.state in (State.ESTOP, State.FAULT)
        if message.request == StateRequest.ESTOP:
            return self.go(State.ESTOP)
        if message.request == StateRequest.DISARM and self.state == State.ACTIVE:
            return self.go(State.DISARMING)
        if message.request == StateRequest.ARM and self.state in (State.IDLE, State.ACTIVE):
            return self.go(State.ACTIVE)
        if message.request == StateRequest.CLEAR and latched:
            self.faults = Fault(0)
            return self.go(State.IDLE)
        return self.frame(Nack(message.TYPE, seq, NackReason.BAD_STATE))
