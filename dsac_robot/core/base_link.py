"""The host's session with the base: greeting, clock, parameters, arming, commands, and what ends them.

Bytes and the host's steady time go in, bytes and messages come out; nothing here opens a port or reads a clock.
The protocol's rules are in docs/protocol.md. The way up is CLOSED, GREETING, SYNCING, CONFIGURING, READY, then ARMING
and ARMED on request. Whatever goes wrong on the way down leads to READY or farther back, never to ARMED again: only
``arm`` does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import IntEnum

from dsac_robot.core.base_clock import ClockSync
from dsac_robot.core.base_commands import WheelCommands
from dsac_robot.core.base_expected import Expected
from dsac_robot.core.base_requests import ParamSetup, Request, state_request
from dsac_robot.core.protocol import DELIMITER, FrameDecoder, LinkCounters, encode_frame
from dsac_robot.core.protocol_enums import (
    HELLO_RETRY_S,
    LINK_TIMEOUT_S,
    PROTOCOL_VERSION,
    EventCode,
    Fault,
    NackReason,
    Param,
    ResetCause,
    State,
    StateRequest,
)
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import (
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
    TimeSyncRsp,
)
from dsac_robot.core.values import ns

__all__ = ["BaseLink", "BaseRefusal", "Expected", "Phase"]

HELLO_RETRY_NS = ns(HELLO_RETRY_S)
SILENCE_NS = ns(LINK_TIMEOUT_S)
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


class BaseLink:
    """One host end. ``nonce`` draws a number from 1 to 2^32 - 1 for each session. Times are the host's steady clock's.

    ``simulated``: the base's clock is simulated time, which does not keep pace with the host's.

    Call ``opened`` and ``closed`` with the port, ``feed`` with all bytes that come, ``poll`` at least every 5 ms, and
    send what ``poll``, ``command`` and ``estop`` return.
    """

    def __init__(self, expected: Expected, nonce: Callable[[], int], simulated: bool = False) -> None:
        self._expected, self._draw, self._simulated = expected, nonce, simulated
        self._decoder, self._setup, self._commands = FrameDecoder(), ParamSetup(expected.params), WheelCommands()
        self.frames_sent = 0  # whose low byte is the sequence
        self.phase = Phase.CLOSED
        self.refusal = ""  # why it is REFUSED
        self.closed_because = "not opened yet"
        self.stopped_because = "not armed yet"  # why it is not ARMED (any more)
        self.faults = Fault(0)
        self.base_counters: LinkStats | None = None
        self.sessions = 0
        self.nacks: Counter[str] = Counter()
        self.commands_dropped = self._commands.dropped
        self._heard_ns = self._hello_due_ns = 0
        self._forget(0)

    # -- the port ----------------------------------------------------------------------------------------------------

    def opened(self, now_ns: int) -> bytes:
        """The port is open: greet."""
        self._decoder.restart()
        self._greet(now_ns)
        return DELIMITER + self.poll(now_ns)

    def closed(self, why: str) -> None:
        """The port is gone."""
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
        self._request(StateRequest.ARM, now_ns)

    def disarm(self, now_ns: int) -> None:
        """Ask the base to ramp to rest and to follow no commands. Harmless in any phase."""
        if self.phase in (Phase.ARMING, Phase.ARMED):
            self._unarm("disarmed by the host")
            self.phase = Phase.DISARMING
            self._request(StateRequest.DISARM, now_ns)

    def clear(self, now_ns: int) -> None:
        """Ask the base to leave ESTOP or FAULT. Raises BaseRefusal without a session, or in any other state."""
        if self.phase <= Phase.GREETING:
            raise BaseRefusal(
                f"no session with the base ({self.phase.name}): {self.refusal or 'no answer to HELLO_REQ'}"
            )
        if not self.latched:
            raise BaseRefusal(f"the base is in {self._state_name}: only ESTOP and FAULT can be cleared")
        self._request(StateRequest.CLEAR, now_ns)

    def estop(self) -> bytes:
        """The frames that drop the base's enable line and latch it; valid in any session."""
        self._unarm("emergency stop by the host")
        return b"".join(self.frame(state_request(StateRequest.ESTOP, self._session)) for _ in range(3))

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
            self.commands_dropped["not_armed"] += 1
            return b""
        return self.frame(self._commands.command(left_radps, right_radps, decided_ns, now_ns))

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
        if self.phase == Phase.GREETING and now_ns >= self._hello_due_ns:
            self._hello_due_ns = now_ns + HELLO_RETRY_NS
            return self.frame(HelloReq(PROTOCOL_VERSION, self._nonce))
        if self.hello is None:
            return b""
        out = self._repeat(now_ns) + self.frame(self.clock.ask(now_ns))
        return out + self.frame(self._commands.hold(now_ns) if self.phase == Phase.ARMED else None)

    def frame(self, message: Message | None) -> bytes:
        """The next frame of this end (tools send messages of their own with it); without a message none."""
        if message is None:
            return b""
        self.frames_sent += 1
        return encode_frame(message, self.frames_sent)

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def counters(self) -> LinkCounters:
        """What the host has received, over all connections."""
        return self._decoder.counters

    @property
    def commands_sent(self) -> int:
        """Over all sessions, zeros included."""
        return self._commands.sent

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

    @property
    def _session(self) -> int:
        return self.hello.session if self.hello else 0

    def _forget(self, now_ns: int) -> None:
        """All that belongs to one session."""
        self.hello: Hello | None = None
        self.state: State | None = None
        self.status: Status | None = None
        self.clock = ClockSync(self._simulated)
        self._nonce = 0
        self._pending: Request | None = None
        self._heard_ns = self._hello_due_ns = now_ns

    def _greet(self, now_ns: int, why: str = "") -> None:
        """Begin a new session."""
        self._unarm(why)
        self._forget(now_ns)
        self._nonce = self._draw()
        self.refusal = ""
        self.phase = Phase.GREETING

    def _unarm(self, why: str) -> None:
        """Not armed any more, and why; without effect where it was not."""
        if self.phase in (Phase.ARMING, Phase.ARMED):
            self.phase, self._pending, self.stopped_because = Phase.READY, None, why

    def _explain(self, why: str) -> None:
        """Why it is not armed any more, perhaps after a state alone (``WENT``) has told that it is not."""
        self._unarm(why)
        if self.stopped_because.startswith(WENT):
            self.stopped_because = why

    def _refuse(self, why: str) -> None:
        self.refusal, self.phase, self._pending = why, Phase.REFUSED, None

    def _request(self, request: StateRequest, now_ns: int) -> None:
        self._pending = Request(state_request(request, self._session), now_ns)

    def _repeat(self, now_ns: int) -> bytes:
        """The request that is open, if it is due (again)."""
        if self.phase == Phase.CONFIGURING:
            self._configure(now_ns)
        pending = self._pending
        if pending is None or now_ns < pending.due_ns:
            return b""
        if now_ns > pending.deadline_ns:
            self._failed("no answer and no effect within 1 s")
            return b""
        pending.sent(self.frames_sent + 1, now_ns)
        return self.frame(pending.message)

    def _configure(self, now_ns: int) -> None:
        """Ask for the next parameter. The base takes them only at rest."""
        if self._pending is None and self.state == State.IDLE:
            message = self._setup.next(self._session)
            self._pending = Request(message, now_ns) if message else None
        if self._setup.is_over(now_ns):
            self._refuse(f"no STATUS came to verify the parameters (CRC {self._setup.crc:#010x})")

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
                cause = _name(ResetCause, hello.reset_cause)
                self._greet(now_ns, f"the base has booted (reset cause {cause})")
            return  # or it answers an older try
        if self.hello is not None:
            return
        self.hello = hello
        why = self._expected.why_refused(hello, self._nonce)
        if why:
            self._refuse(why)
            return
        self._commands.begin(hello.session, self.clock)
        self.sessions += 1
        self.phase = Phase.SYNCING

    def _on_time_sync(self, message: TimeSyncRsp, now_ns: int) -> None:
        self.clock.answer(message, now_ns)
        if self.clock.ready and self.phase == Phase.SYNCING:
            assert self.hello is not None
            self._setup.begin()
            self.phase = Phase.READY if self.hello.params_crc == self._setup.crc else Phase.CONFIGURING

    def _on_state(self, state: State, faults: Fault) -> None:
        self.state, self.faults = state, faults
        request = self._pending.message if self._pending else None
        asked = request.request if isinstance(request, StateReq) else None
        if self.phase == Phase.ARMING and state == State.ACTIVE:
            self.phase, self._pending = Phase.ARMED, None
            self.stopped_because, self._commands.holding = "", True
        elif self.phase == Phase.ARMED and state != State.ACTIVE:
            self._unarm(f"{WENT} {state.name}" + (f" ({self.faults_text})" if faults else ""))
        elif self.phase == Phase.DISARMING and state not in MOVING:
            self.phase, self._pending = Phase.READY, None
        elif asked == StateRequest.CLEAR and state not in (State.ESTOP, State.FAULT):
            self._pending = None

    def _on_status(self, status: Status, now_ns: int) -> None:
        self.status = status
        self._on_state(status.state, status.faults)
        if status.session != self._session:
            self._greet(now_ns, f"the base ended session {self._session} (it is in {status.session})")
        elif self.phase == Phase.CONFIGURING and self._setup.verifying:
            if status.params_crc == self._setup.crc:
                self.phase = Phase.READY
            else:
                self._refuse(
                    f"after setting all parameters the base's have CRC {status.params_crc:#010x}, the host's "
                    f"{self._setup.crc:#010x}: firmware and host do not know the same parameters"
                )

    def _on_event(self, event: Event, now_ns: int) -> None:
        if event.code == EventCode.COMMAND_TIMEOUT:
            self._explain(f"the base had no fresh command for {event.value / 1e6:.3f} s and came to rest by itself")
        elif event.code == EventCode.ESTOP_PRESSED:
            self._explain("the e-stop " + ("input was pressed" if event.value == 0 else "was requested"))
        elif event.code == EventCode.LINK_LOST:
            self._greet(now_ns, "the base heard nothing from the host and ended the session")
            return
        self._on_state(event.state, self.faults)

    def _on_param(self, answer: ParamValue, now_ns: int) -> None:
        asked = self._pending.message if self._pending else None
        if not isinstance(asked, ParamSet) or answer.param != asked.param:
            return
        if self._setup.took(answer.value, now_ns):
            self._pending = None
        else:
            self._failed(f"its value is {answer.value:g}")

    def _on_nack(self, nack: Nack, now_ns: int) -> None:
        reason = _name(NackReason, nack.reason)
        self.nacks[reason] += 1
        if nack.reason == NackReason.BAD_SESSION:
            self._greet(now_ns, "the base is in another session")
        elif self._pending is not None and nack.rejected_seq in self._pending.sequences:
            if isinstance(self._pending.message, ParamSet) and nack.reason == NackReason.BAD_STATE:
                self._pending = None  # it has just left IDLE: again, when it is back
            elif nack.rejected_type == self._pending.message.TYPE:
                self._failed(f"the base answers {reason}" + (f" ({self.faults_text})" if self.faults else ""))


def _name(kind: type[IntEnum], value: int) -> str:
    """A value that a newer base may know alone goes by its number."""
    return kind(value).name if value in list(kind) else str(value)
