"""The ARM image under QEMU. Asserts are on the firmware's own time, never on the wall clock."""

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsac_robot.core.protocol_enums import EventCode, Fault, State, StateRequest
from dsac_robot.core.protocol_messages import Crash, Event, Hello, LinkStats, Odom, Status, TimeSync, TimeSyncRsp
from tests.firmware.rig import (
    PERIOD_US,
    POKE_CRASH,
    POKE_HANG,
    REST,
    HostBase,
    Motors,
    QemuBase,
    connect,
    image,
    make,
    qemu,
)

CLOCK_US = 1_000_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def elf() -> Any:
    make("qemu")
    return image("qemu.elf")


@pytest.fixture(scope="module")
def base(elf: Any) -> Iterator[QemuBase]:
    """One machine that boots anew in lockstep for each test that asks it to."""
    with qemu(elf) as made:
        yield made


def drive(base: Any, last_command: int = 60, periods: int = 150) -> list[Any]:
    """A drive in lockstep: greet, arm, follow, fall silent. Returns what the motors got."""
    motors, out = Motors(), []
    drive = base.step(motors.inputs)
    drive = base.step(motors.move(drive))
    base.send(base.hello())
    drive = base.step(motors.move(drive))
    base.session = 252
    base.send(base.request(StateRequest.ARM))
    for period in range(periods):
        if period < last_command and period % 3 == 0:
            stamp = CLOCK_US + motors.inputs.t_us
            base.send(base.command(12.0, 9.0 if period < 30 else -4.0, stamp))
        if period == 20:
            base.send(b"\x07damage\x00")
        drive = base.step(motors.move(drive))
        out.append(drive)
    return out


def test_host_and_arm_are_bit_equal_in_lockstep_and_silence_stops_in_time(core: Any, base: QemuBase) -> None:
    host = HostBase(core, now_us=CLOCK_US)
    on_host = drive(host)
    base.restart(CLOCK_US)
    base.got.clear()
    on_arm = drive(base)
    assert on_arm == on_host
    base.until(Odom, lambda odom: odom.t_us >= on_arm[-1].t_us - PERIOD_US)
    heard = [m for m in base.got if not isinstance(m, Hello)]
    told = [m for m in host.got if not isinstance(m, Hello)]
    assert heard == told[-len(heard) :]
    assert len(heard) > 100
    timeout = next(e for e in base.of(Event) if e.code == EventCode.COMMAND_TIMEOUT)
    last = next(o for o in reversed(base.of(Odom)) if o.cmd_age_ms < 20)
    assert timeout.t_us <= last.t_us + 200_000
    rest = next(e for e in base.of(Event) if e.code == EventCode.AT_REST)
    assert rest.value <= (12.0 / 56.0 + 0.3) * 1e6


def test_the_e_stop_latches(base: QemuBase) -> None:
    base.restart(CLOCK_US)
    drive(base, periods=12)
    pressed = base.step(replace(REST, t_us=100_000, estop_pressed=1))
    assert (pressed.enabled, pressed.left_duty_e4, pressed.state) == (0, 0, State.ESTOP)
    base.send(base.request(StateRequest.CLEAR) + base.request(StateRequest.ARM))
    assert base.step(replace(REST, t_us=110_000)).state == State.ESTOP
    base.send(base.request(StateRequest.CLEAR))
    assert base.step(replace(REST, t_us=120_000)).state == State.IDLE


def test_a_free_running_base_survives_damage_reconnection_and_a_reader_that_stands_still(elf: Any) -> None:
    with qemu(elf) as base:
        base.until(Status)
        base.link.sendall(b"\0" + base.hello())
        session = base.until(Hello, lambda hello: hello.nonce == 7).session
        bad = bytearray(base.frame(TimeSync(1)))
        bad[1] ^= 0x40
        base.link.sendall(bytes(bad) + base.frame(TimeSync(2)))
        assert base.until(TimeSyncRsp).t0_us == 2
        assert base.until(LinkStats, lambda stats: stats.bad_crc).lost == 1
        before = base.of(Odom)[-1].t_us
        time.sleep(0.5)  # nobody reads; the emulator's buffers are larger than this, the base must only go on
        base.link.close()
        base.link = connect(base.ports[0], base.process)
        base.reconnected()
        base.link.sendall(b"\0" + base.hello(8))
        assert base.until(Hello, lambda hello: hello.nonce == 8).session == session + 1
        assert base.until(Odom).t_us > before
        assert base.of(Status)[-1].faults == Fault(0)


def test_a_reader_that_stalls_for_seconds_blocks_nothing_and_what_it_missed_is_counted(
    elf: Any, tmp_path: Path
) -> None:
    with qemu(elf, tmp_path / "link") as base:
        base.restart(CLOCK_US)
        base.got.clear()
        base.step(REST)
        base.send(b"\0" + base.hello())
        second, t_us = 1_000_000, 0

        def run(until_us: int, wait_s: float) -> None:
            nonlocal t_us
            while t_us < until_us:
                t_us += 10 * PERIOD_US
                assert base.step(replace(REST, t_us=t_us)).t_us == CLOCK_US + t_us  # the base is not held up
                if wait_s:
                    base.drain(wait_s)

        run(second, 0.01)
        session = base.of(Hello)[-1].session
        assert base.of(LinkStats)[-1].tx_dropped == 0
        run(4 * second, 0.0)  # nobody reads for 3 s of the firmware's time
        while base.of(Odom)[-1].t_us < CLOCK_US + t_us:  # reads again
            base.drain(0.3)
            run(t_us + 10 * PERIOD_US, 0.01)
        heard = len(base.of(Odom))
        run(t_us + 2 * second, 0.01)
        base.drain(0.3)
        stats = base.of(LinkStats)[-1]
        assert stats.tx_dropped > 100
        assert base.decoder.counters.dropped == 0  # frames are dropped whole
        assert (stats.tx_dropped - base.decoder.counters.lost) % 256 == 0  # the sequence has eight bits
        after = [odom.t_us for odom in base.of(Odom)[heard:]]
        assert {b - a for a, b in itertools.pairwise(after)} == {2 * PERIOD_US}
        base.send(base.hello(8))
        run(t_us + 10 * PERIOD_US, 0.01)
        base.drain(0.3)
        assert (base.of(Hello)[-1].nonce, base.of(Hello)[-1].session) == (8, session + 1)


def ends_listening(port: int, within_s: float) -> bool:
    """Whether nobody accepts connections to a port any more."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.05)
    return False


def test_qemu_ends_with_whoever_started_it_even_by_sigkill(elf: Any) -> None:
    script = (
        "import sys, time; from dsac_robot.apps.firmware_qemu import FirmwareInQemu; from pathlib import Path\n"
        "made = FirmwareInQemu(Path(sys.argv[1])); print(made.link_port, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(elf)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        parent.kill()
    assert ends_listening(port, 10.0)


@pytest.mark.parametrize(
    ("poke", "cause", "fault"), [(POKE_CRASH, 6, Fault.CRASH_RESET), (POKE_HANG, 5, Fault.WATCHDOG_RESET)]
)
def test_a_crash_and_a_hang_end_in_a_reset_with_a_record(elf: Any, poke: int, cause: int, fault: Fault) -> None:
    with qemu(elf) as base:
        base.until(Status)
        base.poke(poke)
        crash = base.until(Crash)
        assert base.of(Hello)[-1].reset_cause == crash.reset_cause == cause
        assert crash.boots == 1
        assert base.of(Hello)[-1].boots == 2  # the parameters have survived
        assert 0x400 <= crash.pc < 0x8000
        assert base.until(Odom, lambda odom: odom.state == State.FAULT).faults == fault


def test_the_hardware_image_boots_under_netduinoplus2() -> None:
    make("stm32f4")
    base = QemuBase(image("stm32f4.elf"), "netduinoplus2")
    try:
        base.until(Odom)  # what is sent before the USART is on is lost
        base.link.sendall(b"\0" + base.hello())
        assert base.until(Hello, lambda hello: hello.nonce == 7).board == 3
        assert base.until(Status).state in (State.INIT, State.FAULT)  # there is no IMU
        base.link.sendall(base.frame(TimeSync(5)))
        assert base.until(TimeSyncRsp).t0_us == 5
    finally:
        base.close()
