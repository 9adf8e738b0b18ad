"""The state machine of docs/protocol.md and docs/firmware.md once more, in Python: what the C is compared with.

Set points are zero throughout, so that a ramp ends with the control period in which it is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dsac_robot.core.protocol_enums import PROTOCOL_VERSION, EventCode, Fault, NackReason, State, StateRequest

PERIOD_US, COMMAND_US, LINK_US = 5_000, 200_000, 500_000
AGE_US, AHEAD_US = 100_000, 20_000
NO_FAULT = Fault(0)
LATCHED = (State.ESTOP, State.FAULT)
Said = tuple[str, int, int]


@dataclass
class Model:
    """One base. Methods return the NACK, or None; ``said`` collects (event, state, value)."""

    session_next: int
    state: State = State.IDLE
    session: int = 0
    nonce: int = 0
    version_ok: bool = False
    pressed: bool = False
    faults: Fault = NO_FAULT
    present: Fault = NO_FAULT
    heard_us: int = 0
    alive_us: int = 0
    stamp_us: int | None = None
    said: list[Said] = field(default_factory=list)

    def say(self, code: EventCode, value: int) -> None:
        self.said.append((code.name, int(self.state), value))

    def go(self, state: State) -> None:
        before, self.state = self.state, state
        self.say(EventCode.STATE_CHANGED, before)

    def end_session(self) -> None:
        self.session, self.stamp_us = 0, None
        if self.state == State.ACTIVE:
            self.go(State.STOPPING)

    def hello(self, proto: int, nonce: int, now_us: int) -> None:
        self.heard_us = now_us
        if self.session and nonce == self.nonce:
            return
        self.end_session()
        self.session_next = self.session_next % 65535 + 1
        self.session, self.nonce, self.version_ok = self.session_next, nonce, proto == PROTOCOL_VERSION
        self.say(EventCode.SESSION_STARTED, self.session)

    def request(self, asked: StateRequest, magic_ok: bool, session: int, now_us: int) -> NackReason | None:
        self.heard_us = now_us
        if not magic_ok:
            return NackReason.BAD_MAGIC
        if asked == StateRequest.ESTOP:
            if self.state != State.ESTOP:
                self.go(State.ESTOP)
                self.say(EventCode.ESTOP_PRESSED, 1)
        elif asked == StateRequest.DISARM:
            if self.state in (State.ACTIVE, State.STOPPING):
                self.go(State.DISARMING)
        elif session == 0 or session != self.session:
            return NackReason.BAD_SESSION
        elif asked == StateRequest.ARM:
            return self.arm(now_us)
        else:
            return self.clear()
        return None

    def arm(self, now_us: int) -> NackReason | None:
        if not self.version_ok:
            return NackReason.BAD_VERSION
        if self.state == State.IDLE:
            self.alive_us = now_us
            self.go(State.ACTIVE)
        return None if self.state == State.ACTIVE else NackReason.BAD_STATE

    def clear(self) -> NackReason | None:
        if self.state == State.IDLE:
            return None
        if self.state not in LATCHED:
            return NackReason.BAD_STATE
        if self.pressed:
            return NackReason.ESTOP_PRESSED
        if self.present:
            return NackReason.FAULT_PRESENT
        if self.faults:
            self.say(EventCode.FAULT_CLEARED, self.faults)
            self.faults = Fault(0)
        self.go(State.IDLE)
        return None

    def command(self, session: int, stamp_us: int, now_us: int) -> NackReason | None:
        self.heard_us = now_us
        if session == 0 or session != self.session:
            return NackReason.BAD_SESSION
        if stamp_us - now_us > AHEAD_US:
            return NackReason.FUTURE_STAMP
        if now_us - stamp_us > AGE_US or (self.stamp_us is not None and stamp_us <= self.stamp_us):
            return NackReason.STALE_STAMP
        self.stamp_us = stamp_us
        if self.state != State.ACTIVE:
            return NackReason.BAD_STATE
        self.alive_us = now_us
        return None

    def tick(self, now_us: int, pressed: bool, present: Fault) -> None:
        edge, self.pressed = pressed != self.pressed, pressed
        if pressed and self.state != State.ESTOP:
            self.go(State.ESTOP)
        if edge:
            self.say(EventCode.ESTOP_PRESSED if pressed else EventCode.ESTOP_RELEASED, 0)
        for fault in Fault:
            if fault in present and fault not in self.faults:
                self.say(EventCode.FAULT_RAISED, fault)
        self.present, self.faults = present, self.faults | present
        if self.faults and self.state not in LATCHED:
            self.go(State.FAULT)
        age_us = now_us - self.alive_us
        if self.state == State.ACTIVE and age_us + PERIOD_US > COMMAND_US:
            self.go(State.STOPPING)
            self.say(EventCode.COMMAND_TIMEOUT, age_us)
        if self.session and now_us - self.heard_us >= LINK_US:
            ended = self.session
            self.end_session()
            self.say(EventCode.LINK_LOST, ended)
        if self.state in (State.STOPPING, State.DISARMING):
            self.go(State.IDLE)
            self.said.append(("AT_REST", int(State.IDLE), -1))  # its duration is looked at elsewhere
