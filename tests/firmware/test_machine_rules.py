"""Single rules of the state machine and the parser, at their edges: what the mutants of both showed to be untested."""

import struct
from dataclasses import replace
from typing import Any

import pytest

from dsac_robot.core.protocol import FrameDecoder, encode_raw
from dsac_robot.core.protocol_enums import Direction, Fault, NackReason, Param, State, StateRequest
from dsac_robot.core.protocol_messages import CmdWheels, Hello, Nack, Odom, ParamSet, Status
from tests.firmware.rig import PERIOD_US, REST, HostBase
from tests.firmware.test_base import Driver
from tests.firmware.test_wire import counters


def refusals(d: Driver, data: bytes) -> list[Any]:
    return [m.reason for m in d.base.send(data) if isinstance(m, Nack)]


@pytest.mark.parametrize(
    ("age_us", "refused"),
    [
        (100_000, []),
        (100_001, [NackReason.STALE_STAMP]),
        (-20_000, []),
        (-20_001, [NackReason.FUTURE_STAMP]),
        (0, []),
    ],
)
def test_a_command_is_taken_up_to_its_oldest_and_its_farthest_stamp(core: Any, age_us: int, refused: list[Any]) -> None:
    d = Driver(core)
    d.arm()
    assert refusals(d, d.base.command(1, 1, d.base.now_us - age_us)) == refused


def test_a_stamp_that_came_before_is_stale_and_a_new_session_knows_no_stamps(core: Any) -> None:
    d = Driver(core)
    d.arm()
    ahead_us = d.base.now_us + 15_000
    assert refusals(d, d.base.command(1, 1, ahead_us)) == []
    assert refusals(d, d.base.command(2, 2, ahead_us)) == [NackReason.STALE_STAMP]
    d.ask(StateRequest.DISARM)
    d.run(100)
    d.base.send(d.base.hello(8))
    d.arm()
    assert refusals(d, d.base.command(1, 1, d.base.now_us - 10_000)) == []
    late_us = d.base.now_us
    d.ask(StateRequest.DISARM)
    d.base.send(d.base.hello(9))
    d.run(2)
    d.arm()
    assert refusals(d, d.base.command(1, 1, late_us - 20_000)) == []


def test_a_command_of_another_session_is_refused_and_not_followed(core: Any) -> None:
    d = Driver(core)
    d.arm()
    assert refusals(d, d.base.frame(CmdWheels(9000, 9000, d.base.session + 1, d.base.now_us))) == [
        NackReason.BAD_SESSION
    ]
    d.run(2)
    assert (d.drive.left_duty_e4, d.drive.right_duty_e4) == (0, 0)


def test_arming_again_follows_no_command_of_before(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.run(100, (5.0, 5.0))
    d.run(1, estop_pressed=1)
    d.keep_alive(200, estop_pressed=0)  # the wheels run out
    assert d.ask(StateRequest.CLEAR) == []
    d.arm()
    d.run(10)
    assert d.drive.state == State.ACTIVE
    assert d.motors.radps == pytest.approx([0.0, 0.0], abs=0.05)


def test_odometry_tells_the_sequence_of_the_last_fresh_command(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.run(3, (1.0, 1.0))
    fresh = d.base.seq
    d.base.send(d.base.command(1, 1, 0))
    d.run(2)
    assert d.base.of(Odom)[-1].cmd_seq == fresh != d.base.seq


def test_a_fault_is_told_when_it_comes_and_when_it_is_cleared(core: Any) -> None:
    d = Driver(core)
    d.base.inputs.overcurrent = True
    d.run(2)
    assert ("FAULT_RAISED", State.IDLE, Fault.OVERCURRENT) in d.base.events()
    d.base.inputs.overcurrent = False
    d.run(2)
    assert d.ask(StateRequest.CLEAR) == []
    assert ("FAULT_CLEARED", State.FAULT, Fault.OVERCURRENT) in d.base.events()


def test_a_broken_invariant_is_told_with_the_state_that_there_is_not(core: Any) -> None:
    d = Driver(core)
    d.base.lib.host_corrupt_state(77)
    d.run(1)
    assert d.base.decoder.counters.bad_value == 1  # FAULT_RAISED in state 77, which is no state to the host
    assert d.drive.state == State.FAULT


def test_the_smallest_fault_is_cleared_and_a_clear_without_any_tells_none(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.motors.blocked = True
    d.run(200, (20.0, 0.0))
    assert d.base.of(Odom)[-1].faults == Fault.ENCODER_STALL_LEFT == Fault(1)
    assert ("FAULT_RAISED", State.ACTIVE, 1) in d.base.events()
    d.keep_alive(4)
    assert d.ask(StateRequest.CLEAR) == []
    d.run(4)
    assert d.base.of(Odom)[-1].faults == Fault(0)
    cleared = [e for e in d.base.events() if e[0] == "FAULT_CLEARED"]
    assert len(cleared) == 1
    assert d.ask(StateRequest.ESTOP) == []
    assert d.ask(StateRequest.CLEAR) == []
    assert [e for e in d.base.events() if e[0] == "FAULT_CLEARED"] == cleared


def test_wheels_that_do_not_rest_are_braked_for_exactly_three_tenths_of_a_second_each_time(core: Any) -> None:
    d = Driver(core)
    for nonce in (11, 12):
        d.base.send(d.base.hello(nonce))
        d.arm()
        for _ in range(20):
            d.motors.radps = [5.0, 5.0]  # a slope; the set points are zero from the first
            d.run(1, (0.0, 0.0))
        d.ask(StateRequest.DISARM)
        enabled = 0
        for _ in range(120):
            d.motors.radps = [5.0, 5.0]
            d.run(1)
            enabled += bool(d.drive.enabled)
        assert enabled == 300_000 // PERIOD_US  # the period in which the time is over switches off
        d.motors.radps = [0.0, 0.0]
        d.keep_alive(4)


def test_a_boot_tells_nothing_but_that_it_has_booted_and_is_idle(core: Any) -> None:
    d = HostBase(core)
    d.step(replace(REST, t_us=20 * PERIOD_US))
    assert [name for name, *_ in d.events()] == ["BOOTED", "STATE_CHANGED"]
    assert (d.of(Hello)[0].session, d.of(Status)[-1].session) == (0, 0)


def test_no_session_is_ever_number_zero(core: Any) -> None:
    for boot in range(261):  # the first session of the 261st is 65512
        base = HostBase(core, erase=boot == 0)
    sessions: list[int] = []
    for nonce in range(1, 300):
        base.send(base.hello(nonce))
        sessions.append(base.session)
    assert sessions == [*range(65512, 65536), *range(1, 276)]


def test_the_longest_payload_is_encoded_and_a_signalling_nan_is_no_number(core: Any) -> None:
    ffi, lib = core
    payload = bytes(range(64))
    out = ffi.new("uint8_t[70]")
    length = lib.wire_encode(out, 0x70, 5, payload, 64)
    assert bytes(ffi.buffer(out, length)) == encode_raw(0x70, 5, payload)
    base, python = HostBase(core), FrameDecoder(Direction.TO_BASE)
    nan = struct.pack("<HIH", Param.LEFT_KP, 0x7F800001, 1)
    frame = encode_raw(ParamSet.TYPE, 1, nan)
    base.send(frame)
    python.feed(frame)
    assert counters(base) == python.counters
    assert python.counters.bad_value == 1
