"""The host's session with the base: greeting, clock, parameters, arming, commands, and what ends them.

Bytes and the host's steady time go in, bytes and messages come out; nothing here opens a port or reads a clock.
The protocol's rules are in docs/protocol.md. The way up is CLOSED, GREETING, SYNCING, CONFIGURING, READY, then ARMING
and ARMED on request. Whatever goes wrong on the way down leads to READY or farther back, never to ARMED again: only
``arm`` does that.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from dsac_robot.core.base_clock import DRIFT, SIMULATED_DRIFT, ClockSync, microseconds
from dsac_robot.core.protocol import DELIMITER, FrameDecoder, LinkCounters, check_hello, encode_frame, params_crc
from dsac_robot.core.protocol_enums import (
    COMMAND_AGE_S_MAX,
    COMMAND_HZ_MIN,
    HELLO_RETRY_S,
    LINK_TIMEOUT_S,
    MAGIC_ARM,
    MAGIC_CLEAR,
    MAGIC_DISARM,
    MAGIC_ESTOP,
    PROTOCOL_VERSION,
    TIME_SYNC_PERIOD_S,
    EventCode,
    Fault,
    NackReason,
    Param,
    ResetCause,
    State,
    StateRequest,
)
from dsac_robot.core.protocol_fields import Message, ProtocolError
from dsac_robot.core.protocol_messages import (
    CmdWheels,
    Event,
    Hello,
    HelloReq,
    LinkStats,
    Nack,
    Odom,
    ParamSet,
    ParamValue,
    StateReq,
    Status,
    TimeSync,
    TimeSyncRsp,
)
from dsac_robot.core.values import ns

HELLO_RETRY_NS = ns(HELLO_RETRY_S)
HOLD_NS = ns(1.0 / COMMAND_HZ_MIN)
KEEP_ALIVE_NS = ns(min(0.4 * LINK_TIMEOUT_S, TIME_SYNC_PERIOD_S))  # without a frame the base ends the session
SILENCE_NS = ns(LINK_TIMEOUT_S)
REPEAT_NS = ns(0.05)  # a request without an answer
GIVE_UP_NS = ns(1.0)
SYNC_RETRY_NS = ns(0.02)
SPEED_MRADPS_MAX = 200_000
MAGIC = {
    StateRequest.DISARM: MAGIC_DISARM,
    StateRequest.ARM: MAGIC_ARM,
    StateRequest.CLEAR: MAGIC_CLEAR,
    StateRequest.ESTOP: MAGIC_ESTOP,
}
WENT = "the base went to"
MOVING = (State.ACTIVE, State.STOPPING, State.DISARMING)


class Phase(IntEnum):
    """How far the session has come."""

    CLOSED = 0  # no connection
    REFUSED = 1  # the base is not the one that was expected; see ``refusal``
    GREETING = 2  # HELLO_REQ, again and again
    SYNCING = 3  # learning the base's clock
    CONFIGURING = 4  # setting parameters and verifying them
    READY = 5  # may be armed
    ARMING = 6
    ARMED = 7  # follows commands
    DISARMING = 8


class BaseRefusal(ConnectionError):
    """The base does not do what it was asked for, or must not be asked. The message says why and what to do."""


@dataclass(frozen=True)
class Expected:
    """What the base must be before it is armed. None: any."""

    params: Mapping[Param, float]
    limits_crc: int | None = None
    build_id: bytes | None = None
    version: tuple[int, int] | None = None  # major, minor


@dataclass
class _Request:
    """What is repeated until it is answered."""

    message: Message
    deadline_ns: int
    due_ns: int
    sequences: set[int]


class BaseLink:
    """One host end. ``nonce`` draws a number from 1 to 2^32 - 1 for each session. Times are the host's steady clock's.

    ``simulated``: the base's clock is simulated time, which does not keep pace with the host's.

    Call ``opened`` and ``closed`` with the port, ``feed`` with all bytes that come, ``poll`` at least every 5 ms, and
    send what ``poll``, ``command`` and ``estop`` return.
    """

    def __init__(self, expected: Expected, nonce: Callable[[], int], simulated: bool = False) -> None:
        self._drift = SIMULATED_DRIFT if simulated else DRIFT
        self._sync_period_ns = SYNC_RETRY_NS if simulated else KEEP_ALIVE_NS
        self._expected, self._draw = expected, nonce
        self._expected_crc = params_crc(expected.params)
        self._decoder = FrameDecoder()
        self.frames_sent = 0  # whose low byte is the sequence
        self._lost_counters: Counter[str] = Counter()  # of decoders before this one
        self.phase = Phase.CLOSED
        self.refusal = ""  # why it is REFUSED
        self.closed_because = "not opened yet"
        self.stopped_because = "not armed yet"  # why it is not ARMED (any more)
        self.state: State | None = None
        self.faults = Fault(0)
        self.hello: Hello | None = None
        self.status: Status | None = None
        self.base_counters: LinkStats | None = None
        self.clock = ClockSync(self._drift)
        self.sessions = 0
        self.commands_sent = 0
        self.commands_dropped: Counter[str] = Counter()
        self.nacks: Counter[str] = Counter()
        self._heard_ns = self._hello_due_ns = self._sync_due_ns = self._hold_due_ns = 0
        self._forget(0)

    # -- the port ----------------------------------------------------------------------------------------------------

    def opened(self, now_ns: int) -> bytes:
        """The port is open: greet."""
        self._keep_counters()
        self._decoder = FrameDecoder()
        self._greet(now_ns)
        return DELIMITER + self.poll(now_ns)

    def closed(self, why: str) -> None:
        """The port is gone."""
        if self.phase in (Phase.ARMING, Phase.ARMED):
            self._unarm(why)
        self.phase, self.closed_because = Phase.CLOSED, why
        self._forget(0)

    # -- what the operator wants -------------------------------------------------------------------------------------

    def arm(self, now_ns: int) -> None:
        """Ask the base to follow commands. Raises BaseRefusal where it cannot be asked; look at ``phase`` later.

        From ARMED on the session sends zeros until the first ``command``, and then nothing but commands.
        """
        why = self.why_not_armable
        if why:
            raise BaseRefusal(why)
        self.phase = Phase.ARMING
        self._request(self._state_req(StateRequest.ARM), now_ns)

    def disarm(self, now_ns: int) -> None:
        """Ask the base to ramp to rest and to follow no commands. Harmless in any phase."""
        if self.phase in (Phase.ARMING, Phase.ARMED):
            self._unarm("disarmed by the host")
            self.phase = Phase.DISARMING
            self._request(self._state_req(StateRequest.DISARM), now_ns)

    def clear(self, now_ns: int) -> None:
        """Ask the base to leave ESTOP or FAULT. Raises BaseRefusal without a session, or in any other state."""
        if self.phase <= Phase.GREETING:
            raise BaseRefusal(
                f"no session with the base ({self.phase.name}): {self.refusal or 'no answer to HELLO_REQ'}"
            )
        if not self.latched:
            raise BaseRefusal(f"the base is in {self._state_name}: only ESTOP and FAULT can be cleared")
        self._request(self._state_req(StateRequest.CLEAR), now_ns)

    def estop(self) -> bytes:
        """The frames that drop the base's enable line and latch it; valid in any session."""
        if self.phase in (Phase.ARMING, Phase.ARMED):
            self._unarm("emergency stop by the host")
        return b"".join(self.frame(self._state_req(StateRequest.ESTOP)) for _ in range(3))

    @property
    def why_not_armable(self) -> str:
        """Why ``arm`` would refuse now; empty where it would not."""
        if self.phase == Phase.REFUSED:
            return self.refusal
        if self.phase == Phase.CLOSED:
            return f"no connection to the base: {self.closed_because}"
        if self.latched:
            what = self.faults_text or "the e-stop input or a request"
            return f"the base is in {self._state_name} ({what}): remove the cause, then ~/clear, then ~/arm"
        if self.phase == Phase.GREETING:
            return "the base does not answer HELLO_REQ: check port, speed and power"
        if self.phase != Phase.READY or self.state != State.IDLE:
            return f"the session is {self.phase.name}, the base {self._state_name}; READY and IDLE are needed: wait"
        return ""

    def command(self, left_radps: float, right_radps: float, decided_ns: int, now_ns: int) -> bytes:
        """The frame of a wheel command that was decided at ``decided_ns``, or nothing, with the reason counted.

        Only while ARMED. A command is sent once: silence of whoever commands is silence on the wire.
        """
        if self.phase != Phase.ARMED:
            return self._drop("not_armed")
        if not (math.isfinite(left_radps) and math.isfinite(right_radps)):
            return self._drop("not_finite")
        if not 0 <= now_ns - decided_ns <= ns(COMMAND_AGE_S_MAX):
            return self._drop("stale" if decided_ns < now_ns else "from_future")
        self._commanded = True
        return self._command(left_radps, right_radps, decided_ns)

    # -- the wire ----------------------------------------------------------------------------------------------------

    def feed(self, now_ns: int, data: bytes) -> list[Message]:
        """Take bytes from the base; returns the messages in them, in order."""
        messages = [message for _, message in self._decoder.feed(data)]
        for message in messages:
            self._heard_ns = now_ns
            self._take(message, now_ns)
        return messages

    def poll(self, now_ns: int) -> bytes:
        """What must be sent now."""
        if self.phase == Phase.CLOSED:
            return b""
        if self.phase > Phase.GREETING and now_ns - self._heard_ns > SILENCE_NS:
            self._greet(now_ns, f"nothing heard from the base for {LINK_TIMEOUT_S} s")
        out = []
        if self.phase == Phase.GREETING and now_ns >= self._hello_due_ns:
            self._hello_due_ns = now_ns + HELLO_RETRY_NS
            out.append(self.frame(HelloReq(PROTOCOL_VERSION, self._nonce)))
        if self.hello is not None:
            out += [self._repeat(now_ns), self._sync(now_ns)]
        if self.phase == Phase.ARMED and not self._commanded and now_ns >= self._hold_due_ns:
            self._hold_due_ns = now_ns + HOLD_NS
            out.append(self._command(0.0, 0.0, now_ns))
        return b"".join(out)

    @property
    def counters(self) -> LinkCounters:
        """What the host has received, over all connections."""
        now = self._decoder.counters
        return LinkCounters(**{name: value + self._lost_counters[name] for name, value in vars(now).items()})

    @property
    def latched(self) -> bool:
        """True where the base is in ESTOP or FAULT."""
        return self.state in (State.ESTOP, State.FAULT)

    @property
    def faults_text(self) -> str:
        """Names of the latched faults."""
        return ", ".join(str(fault.name) for fault in Fault if fault in self.faults)

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _state_name(self) -> str:
        return self.state.name if self.state is not None else "an unknown state"

    def _keep_counters(self) -> None:
        self._lost_counters.update(vars(self._decoder.counters))

    def _forget(self, now_ns: int) -> None:
        """All that belongs to one session."""
        self.hello = None
        self.state = None
        self.status = None
        self.clock = ClockSync(self._drift)
        self._nonce = 0
        self._pending: _Request | None = None
        self._to_set: list[tuple[Param, float]] = []
        self._verify_by_ns: int | None = None
        self._commanded = False
        self._last_stamp_us = -1
        self._heard_ns = self._hello_due_ns = self._sync_due_ns = self._hold_due_ns = now_ns

    def _greet(self, now_ns: int, why: str = "") -> None:
        """Begin a new session."""
        if self.phase in (Phase.ARMING, Phase.ARMED):
            self._unarm(why)
        self._forget(now_ns)
        self._nonce = self._draw()
        self.refusal = ""
        self.phase = Phase.GREETING

    def _unarm(self, why: str) -> None:
        """Not armed any more, and why. A state alone (``WENT``) is explained by the event that follows it."""
        armed = self.phase in (Phase.ARMING, Phase.ARMED)
        if armed or (self.stopped_because.startswith(WENT) and not why.startswith(WENT)):
            self.stopped_because = why
        if armed:
            self.phase, self._pending = Phase.READY, None

    def _refuse(self, why: str) -> None:
        self.refusal, self.phase, self._pending = why, Phase.REFUSED, None

    def frame(self, message: Message) -> bytes:
        """The next frame of this end (tools send messages of their own with it)."""
        self.frames_sent += 1
        return encode_frame(message, self.frames_sent)

    def _state_req(self, request: StateRequest) -> StateReq:
        return StateReq(request, MAGIC[request], self.hello.session if self.hello else 0)

    def _drop(self, why: str) -> bytes:
        self.commands_dropped[why] += 1
        return b""

    def _command(self, left_radps: float, right_radps: float, decided_ns: int) -> bytes:
        assert self.hello is not None  # there is no ARMED without one
        stamp_us = self.clock.to_base_us(microseconds(decided_ns))
        if stamp_us <= self._last_stamp_us:
            return self._drop("out_of_order")
        self._last_stamp_us = stamp_us
        self.commands_sent += 1
        left, right = (max(-SPEED_MRADPS_MAX, min(SPEED_MRADPS_MAX, round(1e3 * v))) for v in (left_radps, right_radps))
        return self.frame(CmdWheels(left, right, self.hello.session, stamp_us))

    def _request(self, message: Message, now_ns: int) -> None:
        self._pending = _Request(message, now_ns + GIVE_UP_NS, now_ns, set())

    def _repeat(self, now_ns: int) -> bytes:
        """The request that is open, if it is due (again); without effect for 1 s it has failed."""
        if self._pending is None and self._to_set and self.phase == Phase.CONFIGURING and self.state == State.IDLE:
            param, value = self._to_set[0]
            assert self.hello is not None
            self._request(ParamSet(param, value, self.hello.session), now_ns)
        if self._verify_by_ns is not None and now_ns > self._verify_by_ns and self.phase == Phase.CONFIGURING:
            self._refuse(f"no STATUS came to verify the parameters (CRC {self._expected_crc:#010x})")
        pending = self._pending
        if pending is None or now_ns < pending.due_ns:
            return b""
        if now_ns > pending.deadline_ns:
            self._failed("no answer and no effect within 1 s")
            return b""
        pending.due_ns = now_ns + REPEAT_NS
        frame = self.frame(pending.message)
        pending.sequences.add(self.frames_sent & 0xFF)
        return frame

    def _failed(self, why: str) -> None:
        """The open request has failed."""
        assert self._pending is not None
        message, self._pending = self._pending.message, None
        if isinstance(message, ParamSet):
            self._refuse(f"the base did not set {Param(message.param).name} to {message.value:g}: {why}")
        elif isinstance(message, StateReq):
            self.stopped_because = f"{message.request.name} failed: {why}"
            if self.phase in (Phase.ARMING, Phase.DISARMING):
                self.phase = Phase.READY

    def _sync(self, now_ns: int) -> bytes:
        """TIME_SYNC: one after the other at first, then as often as keeps the session alive and the clock fresh."""
        if now_ns < self._sync_due_ns:
            return b""
        pause_ns = self._sync_period_ns if self.clock.ready else SYNC_RETRY_NS
        self._sync_due_ns = now_ns + pause_ns
        return self.frame(TimeSync(microseconds(now_ns)))

    # -- messages ----------------------------------------------------------------------------------------------------

    def _take(self, message: Message, now_ns: int) -> None:
        if isinstance(message, Hello):
            self._on_hello(message, now_ns)
        elif self.hello is None:  # of a session before this one
            return
        elif isinstance(message, TimeSyncRsp):
            self._on_time_sync(message, now_ns)
        elif isinstance(message, Odom):
            self._on_state(message.state, message.faults)
        elif isinstance(message, Status):
            self._on_status(message, now_ns)
        elif isinstance(message, Event):
            self._on_event(message, now_ns)
        elif isinstance(message, ParamValue):
            self._on_param(message, now_ns)
        elif isinstance(message, Nack):
            self._on_nack(message, now_ns)
        elif isinstance(message, LinkStats):
            self.base_counters = message

    def _on_hello(self, hello: Hello, now_ns: int) -> None:
        if hello.nonce != self._nonce:
            if hello.nonce == 0 and self.hello is not None:
                cause = hello.reset_cause
                name = ResetCause(cause).name if cause in list(ResetCause) else str(cause)
                self._greet(now_ns, f"the base has booted (reset cause {name})")
            return  # or it answers an older try
        if self.hello is not None:
            return
        self.hello = hello
        try:
            check_hello(hello, self._nonce)
        except ProtocolError as error:
            self._refuse(str(error))
            return
        why = self._unexpected(hello)
        if why:
            self._refuse(why)
            return
        self.sessions += 1
        self.phase = Phase.SYNCING

    def _unexpected(self, hello: Hello) -> str:
        """What of HELLO is not as expected; empty: nothing."""
        expected = self._expected
        version = (hello.version_major, hello.version_minor)
        if expected.version is not None and version != expected.version:
            return (
                f"the base runs firmware {version[0]}.{version[1]}, this host expects {expected.version[0]}."
                f"{expected.version[1]}: flash the firmware that belongs to this release"
            )
        if expected.build_id is not None and hello.build_id != expected.build_id:
            return (
                f"the base runs build {hello.build_id.hex()}, the parameter firmware_build expects "
                f"{expected.build_id.hex()}: flash that build, or change the parameter"
            )
        if expected.limits_crc is not None and hello.limits_crc != expected.limits_crc:
            return (
                f"the base was built for limits with CRC {hello.limits_crc:#010x}, the robot file has "
                f"{expected.limits_crc:#010x}: build and flash the firmware for this robot"
            )
        return ""

    def _on_time_sync(self, message: TimeSyncRsp, now_ns: int) -> None:
        self.clock.add(message.t0_us, message.t1_us, message.t2_us, microseconds(now_ns))
        if not self.clock.ready:
            self._sync_due_ns = now_ns
        elif self.phase == Phase.SYNCING:
            assert self.hello is not None
            same = self.hello.params_crc == self._expected_crc
            self.phase = Phase.READY if same else Phase.CONFIGURING
            self._to_set = [] if same else sorted(self._expected.params.items())

    def _on_state(self, state: State, faults: Fault) -> None:
        self.state, self.faults = state, faults
        request = self._pending.message if self._pending else None
        asked = request.request if isinstance(request, StateReq) else None
        if self.phase == Phase.ARMING and state == State.ACTIVE:
            self.phase, self._pending, self._commanded = Phase.ARMED, None, False
            self.stopped_because = ""
        elif self.phase == Phase.ARMED and state != State.ACTIVE:
            self._unarm(f"{WENT} {state.name}" + (f" ({self.faults_text})" if faults else ""))
        elif self.phase == Phase.DISARMING and state not in MOVING:
            self.phase, self._pending = Phase.READY, None
        elif asked == StateRequest.CLEAR and state not in (State.ESTOP, State.FAULT):
            self._pending = None

    def _on_status(self, status: Status, now_ns: int) -> None:
        assert self.hello is not None
        self.status = status
        self._on_state(status.state, status.faults)
        if status.session != self.hello.session:
            self._greet(now_ns, f"the base ended session {self.hello.session} (it is in {status.session})")
        elif self._verify_by_ns is not None and self.phase == Phase.CONFIGURING:
            self._verify_by_ns = None
            if status.params_crc == self._expected_crc:
                self.phase = Phase.READY
            else:
                self._refuse(
                    f"after setting all parameters the base's have CRC {status.params_crc:#010x}, the host's "
                    f"{self._expected_crc:#010x}: firmware and host do not know the same parameters"
                )

    def _on_event(self, event: Event, now_ns: int) -> None:
        if event.code == EventCode.COMMAND_TIMEOUT:
            self._unarm(f"the base had no fresh command for {event.value / 1e6:.3f} s and came to rest by itself")
        elif event.code == EventCode.ESTOP_PRESSED:
            self._unarm("the e-stop " + ("input was pressed" if event.value == 0 else "was requested"))
        elif event.code == EventCode.LINK_LOST:
            self._greet(now_ns, "the base heard nothing from the host and ended the session")
            return
        self._on_state(event.state, self.faults)

    def _on_param(self, answer: ParamValue, now_ns: int) -> None:
        if not (self._pending and isinstance(self._pending.message, ParamSet) and self._to_set):
            return
        asked = self._pending.message
        if answer.param != asked.param:
            return
        if struct.pack("<f", answer.value) != struct.pack("<f", asked.value):
            self._failed(f"its value is {answer.value:g}")
            return
        self._pending = None
        self._to_set.pop(0)
        if not self._to_set:
            self._verify_by_ns = now_ns + GIVE_UP_NS

    def _on_nack(self, nack: Nack, now_ns: int) -> None:
        known = nack.reason in list(NackReason)
        reason = NackReason(nack.reason).name if known else str(nack.reason)
        self.nacks[reason] += 1
        if nack.reason == NackReason.BAD_SESSION:
            self._greet(now_ns, "the base is in another session")
        elif self._pending is not None and nack.rejected_seq in self._pending.sequences:
            if isinstance(self._pending.message, ParamSet) and nack.reason == NackReason.BAD_STATE:
                self._pending = None  # it has just left IDLE: again, when it is back
            elif nack.rejected_type == self._pending.message.TYPE:
                self._failed(f"the base answers {reason}" + (f" ({self.faults_text})" if self.faults else ""))
