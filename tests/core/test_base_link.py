"""The host's session: it gets up to ARMED only when asked and only with the right base, and falls back for good."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dsac_robot.core.base_link import BaseLink, BaseRefusal, Expected, Phase
from dsac_robot.core.protocol import params_crc
from dsac_robot.core.protocol_enums import EventCode, Fault, NackReason, Param, State, StateRequest
from dsac_robot.core.protocol_messages import (
    Event,
    HelloReq,
    Nack,
    ParamSet,
    StateReq,
)
from tests.core.base_peer import HELLO, OFFSET_US, PARAMS, Peer

VECTORS = json.loads((Path(__file__).parents[2] / "firmware" / "protocol" / "vectors.json").read_text("utf-8"))
DAMAGED = [v for v in VECTORS["damaged"] if v["to"] == "host" or v["reject"] in ("BAD_CRC", "BAD_COBS")]
MS = 1_000_000
EXPECTED = Expected(PARAMS, limits_crc=0x11, build_id=b"buildid1", version=(0, 1))


@dataclass
class Wire:
    """Host and peer, joined by a wire that may be cut."""

    peer: Peer = field(default_factory=Peer)
    expected: Expected = EXPECTED
    cut: bool = False
    now_ns: int = 10**12

    def __post_init__(self) -> None:
        self.rng = random.Random(0)
        self.link = BaseLink(self.expected, lambda: self.rng.randrange(1, 2**32))
        self.carry(self.link.opened(self.now_ns))

    def carry(self, data: bytes) -> None:
        if not self.cut:
            self.link.feed(self.now_ns, self.peer.feed(self.now_ns // 1000, data))

    def run(self, ms: int = 5, command: tuple[float, float] | None = None) -> "Wire":
        """Milliseconds of both ends; telemetry each 10 ms, commands each 20 ms."""
        for i in range(ms):
            self.now_ns += MS
            self.peer.now_us = self.now_ns // 1000 + OFFSET_US
            if i % 10 == 0 and not self.cut:
                self.link.feed(self.now_ns, self.peer.telemetry())
            if command and i % 20 == 0:
                self.carry(self.link.command(*command, self.now_ns, self.now_ns))
            self.carry(self.link.poll(self.now_ns))
        return self

    def until(self, phase: Phase, ms: int = 3000) -> "Wire":
        for _ in range(ms):
            if self.link.phase == phase:
                return self
            self.run(1)
        raise AssertionError(f"never {phase.name}: {self.link.phase.name} {self.link.refusal}")

    def arm(self) -> "Wire":
        self.until(Phase.READY).link.arm(self.now_ns)
        return self.until(Phase.ARMED)


def asked(wire: Wire, request: StateRequest) -> int:
    return sum(isinstance(m, StateReq) and m.request == request for m in wire.peer.requests)


def test_a_session_greets_learns_the_clock_sets_the_parameters_and_then_waits_to_be_armed() -> None:
    wire = Wire().until(Phase.READY)
    assert wire.peer.params == PARAMS
    assert abs(wire.link.clock.to_base_us(wire.now_ns // 1000) - wire.peer.now_us) <= 1
    wire.run(3000)
    assert wire.link.phase == Phase.READY
    assert asked(wire, StateRequest.ARM) == 0


def test_parameters_that_are_right_already_are_left_alone() -> None:
    wire = Wire(Peer(params=dict(PARAMS))).until(Phase.READY)
    assert not any(isinstance(m, ParamSet) for m in wire.peer.requests)


def test_hello_is_asked_for_again_until_it_comes() -> None:
    wire = Wire(Peer(deaf_to=(HelloReq,))).run(450)
    wire.peer.deaf_to = ()
    wire.until(Phase.READY)
    assert len({m.nonce for m in wire.peer.requests if isinstance(m, HelloReq)}) == 1


def test_armed_it_holds_with_zeros_until_the_first_command_and_then_sends_each_command_once() -> None:
    wire = Wire().arm().run(300)
    assert len(wire.peer.commands) >= 14
    assert all((c.left_mradps, c.right_mradps) == (0, 0) for c in wire.peer.commands)
    wire.run(100, command=(1.0, 2.0))
    count = len(wire.peer.commands)
    assert (wire.peer.commands[-1].left_mradps, wire.peer.commands[-1].right_mradps) == (1000, 2000)
    wire.run(300)
    assert len(wire.peer.commands) == count, "silence of the commander is silence on the wire"
    stamps = [c.stamp_us for c in wire.peer.commands]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("age_ms", [-30, 101, 5000])
def test_commands_that_are_old_or_from_the_future_are_not_sent(age_ms: int) -> None:
    wire = Wire().arm()
    assert wire.link.command(1.0, 1.0, wire.now_ns - age_ms * MS, wire.now_ns) == b""
    assert sum(wire.link.commands_dropped.values()) == 1


def test_commands_are_not_sent_before_arming_nor_if_not_finite_nor_twice() -> None:
    wire = Wire().until(Phase.READY)
    assert wire.link.command(1.0, 1.0, wire.now_ns, wire.now_ns) == b""
    wire.arm().run(25)
    assert wire.link.command(float("nan"), 1.0, wire.now_ns, wire.now_ns) == b""
    wire.now_ns += MS
    assert wire.link.command(1.0, 1.0, wire.now_ns, wire.now_ns) != b""
    assert wire.link.command(1.0, 1.0, wire.now_ns, wire.now_ns) == b""
    assert wire.link.commands_dropped == {"not_armed": 1, "not_finite": 1, "out_of_order": 1}


REFUSALS: list[tuple[Callable[[], Wire], list[str]]] = [
    (lambda: Wire(Peer(hello=replace(HELLO, proto=9))), ["version 9", "host 1", "flash"]),
    (lambda: Wire(Peer(hello=replace(HELLO, version_minor=7))), ["0.7", "0.1", "flash"]),
    (lambda: Wire(Peer(hello=replace(HELLO, build_id=b"other__1"))), [b"other__1".hex(), b"buildid1".hex()]),
    (lambda: Wire(Peer(hello=replace(HELLO, limits_crc=0x22))), ["0x00000022", "0x00000011"]),
    (lambda: Wire(Peer(params={Param.TICKS_PER_REV: 1.0})), ["SPEED_RADPS_MAX", "25", "UNKNOWN_PARAM"]),
    (
        lambda: Wire(Peer(params={**PARAMS, Param.STALL_S: 1.0})),
        [f"{params_crc({**PARAMS, Param.STALL_S: 1.0}):#010x}", f"{params_crc(PARAMS):#010x}"],
    ),
]


@pytest.mark.parametrize(("make", "named"), REFUSALS, ids=["proto", "version", "build", "limits", "param", "crc"])
def test_the_wrong_base_is_refused_by_naming_both_values_and_never_armed(make, named: list[str]) -> None:
    wire = make().until(Phase.REFUSED).run(500)
    for text in named:
        assert text in wire.link.refusal
    with pytest.raises(BaseRefusal, match=re.escape(named[0])):
        wire.link.arm(wire.now_ns)
    assert asked(wire, StateRequest.ARM) == 0


def test_requests_are_repeated_with_new_sequences_until_they_have_an_effect() -> None:
    wire = Wire().until(Phase.READY)
    wire.peer.deaf_to = (StateReq,)
    wire.link.arm(wire.now_ns)
    wire.run(220)
    assert wire.link.phase == Phase.ARMING
    wire.peer.deaf_to = ()
    wire.until(Phase.ARMED)
    assert asked(wire, StateRequest.ARM) == 1


def test_arming_without_effect_for_a_second_fails() -> None:
    wire = Wire(Peer(deaf_to=(StateReq,))).until(Phase.READY)
    wire.link.arm(wire.now_ns)
    wire.run(1100)
    assert wire.link.phase == Phase.READY
    assert "ARM failed" in wire.link.stopped_because


def test_arming_that_the_base_refuses_fails_with_its_reason() -> None:
    wire = Wire().until(Phase.READY)
    wire.link.arm(wire.now_ns)
    wire.peer.deaf_to = (StateReq,)
    wire.link.poll(wire.now_ns)
    nack = Nack(StateReq.TYPE, wire.link.frames_sent & 0xFF, NackReason.BAD_VERSION)
    wire.link.feed(wire.now_ns, wire.peer.frame(nack))
    assert wire.link.phase == Phase.READY
    assert "BAD_VERSION" in wire.link.stopped_because


def the_base_times_out(wire: Wire) -> None:
    wire.link.feed(
        wire.now_ns, wire.peer.frame(Event(wire.peer.now_us, EventCode.COMMAND_TIMEOUT, State.STOPPING, 201_000))
    )
    wire.peer.go(State.STOPPING)
    wire.run(100)
    wire.peer.go(State.IDLE)


def the_base_faults(wire: Wire) -> None:
    wire.peer.faults = Fault.UNDERVOLTAGE
    wire.peer.go(State.FAULT)


def the_e_stop_is_pressed(wire: Wire) -> None:
    event = Event(wire.peer.now_us, EventCode.ESTOP_PRESSED, State.ESTOP, 0)
    wire.peer.state = State.ESTOP
    wire.link.feed(wire.now_ns, wire.peer.frame(event))


def the_wire_is_cut(wire: Wire) -> None:
    wire.cut = True
    wire.run(600)
    wire.cut, wire.peer.state = False, State.IDLE


def the_base_boots(wire: Wire) -> None:
    wire.peer.session, wire.peer.nonce, wire.peer.state = 0, 0, State.IDLE
    wire.link.feed(wire.now_ns, wire.peer.frame(replace(HELLO, reset_cause=5)))


def the_port_closes(wire: Wire) -> None:
    wire.link.closed("cable pulled")
    wire.run(100)
    wire.peer.state = State.IDLE
    wire.carry(wire.link.opened(wire.now_ns))


ENDS = [
    (the_base_times_out, "no fresh command for 0.201 s"),
    (the_base_faults, "FAULT (UNDERVOLTAGE)"),
    (the_e_stop_is_pressed, "e-stop input"),
    (the_wire_is_cut, "nothing heard"),
    (the_base_boots, "booted (reset cause WATCHDOG)"),
    (the_port_closes, "cable pulled"),
]


@pytest.mark.parametrize(("end", "why"), ENDS, ids=[end.__name__ for end, _ in ENDS])
def test_whatever_ends_armed_is_named_and_only_arm_brings_it_back(end: Callable[[Wire], None], why: str) -> None:
    wire = Wire().arm().run(100, command=(1.0, 1.0))
    before = asked(wire, StateRequest.ARM)
    end(wire)
    wire.run(2000, command=(1.0, 1.0))
    assert wire.link.phase != Phase.ARMED
    assert why in wire.link.stopped_because
    assert asked(wire, StateRequest.ARM) == before
    if wire.peer.state in (State.ESTOP, State.FAULT):
        with pytest.raises(BaseRefusal, match=wire.peer.state.name):
            wire.link.arm(wire.now_ns)
        wire.link.clear(wire.now_ns)
        wire.run(50)
        assert wire.link.phase == Phase.READY
    wire.arm()
    assert wire.peer.state == State.ACTIVE


def test_disarm_waits_until_the_base_is_at_rest() -> None:
    wire = Wire().arm().run(100, command=(1.0, 1.0))
    wire.link.disarm(wire.now_ns)
    wire.run(50)
    assert wire.link.phase == Phase.DISARMING
    wire.peer.go(State.IDLE)
    wire.until(Phase.READY)
    assert wire.link.stopped_because == "disarmed by the host"


def test_a_base_that_still_moves_gets_its_parameters_when_it_is_at_rest() -> None:
    wire = Wire(Peer(state=State.STOPPING)).run(500)
    assert wire.link.phase == Phase.CONFIGURING
    assert not any(isinstance(m, ParamSet) for m in wire.peer.requests)
    wire.peer.go(State.IDLE)
    wire.until(Phase.READY)


def test_the_e_stop_of_the_host_needs_no_session() -> None:
    wire = Wire().arm()
    wire.carry(wire.link.estop())
    wire.run(20)
    assert wire.peer.state == State.ESTOP
    assert "by the host" in wire.link.stopped_because


@pytest.mark.parametrize("vector", DAMAGED, ids=lambda vector: vector["name"])
def test_damage_between_good_frames_is_counted_and_changes_nothing(vector) -> None:
    wire = Wire().until(Phase.READY)
    before, state = wire.link.counters, (wire.link.phase, wire.link.state, wire.link.stopped_because)
    wire.link.feed(wire.now_ns, bytes.fromhex(vector["frame"]))
    assert (wire.link.phase, wire.link.state, wire.link.stopped_because) == state
    assert wire.link.counters.dropped == before.dropped + 1
    assert wire.link.counters.ok == before.ok


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: nobody but ``arm`` asks the base to arm, and no command is sent unarmed."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.arms = 0

    @rule(ms=st.integers(1, 700))
    def time_passes(self, ms: int) -> None:
        self.wire.run(ms)

    @rule(ms=st.integers(1, 100), left=st.floats(-30, 30), right=st.floats(-30, 30))
    def commands_come(self, ms: int, left: float, right: float) -> None:
        self.wire.run(ms, command=(left, right))

    @rule()
    def it_is_armed(self) -> None:
        try:
            self.wire.link.arm(self.wire.now_ns)
        except BaseRefusal as refusal:
            assert str(refusal)
            return
        self.arms += 1

    @rule()
    def it_is_disarmed(self) -> None:
        self.wire.link.disarm(self.wire.now_ns)

    @rule()
    def it_is_cleared(self) -> None:
        try:
            self.wire.link.clear(self.wire.now_ns)
        except BaseRefusal as refusal:
            assert str(refusal)

    @rule(cut=st.booleans())
    def the_wire(self, cut: bool) -> None:
        self.wire.cut = cut

    @rule(state=st.sampled_from(State))
    def the_base_goes(self, state: State) -> None:
        if state != State.ACTIVE:
            self.wire.peer.go(state)

    @rule()
    def the_base_boots(self) -> None:
        the_base_boots(self.wire)

    @precondition(lambda self: not self.wire.cut)
    @rule()
    def the_port_is_opened_again(self) -> None:
        self.wire.link.closed("closed")
        self.wire.carry(self.wire.link.opened(self.wire.now_ns))

    @rule(data=st.binary(max_size=80))
    def rubbish_comes(self, data: bytes) -> None:
        self.wire.link.feed(self.wire.now_ns, data)

    @invariant()
    def armed_only_if_asked_for(self) -> None:
        wire = self.wire
        sequences = {m.session for m in wire.peer.requests if isinstance(m, StateReq) and m.request == StateRequest.ARM}
        assert len(sequences) <= self.arms
        if self.arms == 0:
            assert not wire.peer.commands
        if wire.link.phase == Phase.ARMED:
            assert wire.link.stopped_because == ""
        stamps = [c.stamp_us for c in wire.peer.commands]
        assert stamps == sorted(set(stamps))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
