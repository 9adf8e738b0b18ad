"""Driving, faults, parameters and their store: the core in this process, its clock in the test's hand."""

from dataclasses import replace
from typing import Any

import pytest

from dsac_robot.core.firmware_params import firmware_params, limits_crc
from dsac_robot.core.protocol import params_crc
from dsac_robot.core.protocol_enums import MAGIC_STORE, Fault, NackReason, Param, State, StateRequest
from dsac_robot.core.protocol_messages import (
    Crash,
    Event,
    Hello,
    Imu,
    Nack,
    Odom,
    ParamGet,
    ParamSet,
    ParamStore,
    ParamValue,
    Status,
    TimeSync,
    TimeSyncRsp,
)
from dsac_robot.core.robot import load_robot
from tests.firmware.rig import PERIOD_US, REST, HostBase, Motors

BRAKE = firmware_params(load_robot("jackal"))[Param.BRAKE_RADPS2]


class Driver:
    """A base on motors, with a session."""

    def __init__(self, core: Any, **boot: Any) -> None:
        self.base, self.motors = HostBase(core, **boot), Motors()
        self.drive = self.base.step(self.motors.inputs)
        self.run(2)
        self.base.send(self.base.hello())

    def run(self, periods: int, command: tuple[float, float] | None = None, **inputs: int) -> None:
        for _ in range(periods):
            if command is not None:
                self.base.send(self.base.command(*command, self.base.now_us))
            self.motors.inputs = replace(self.motors.inputs, **inputs)
            self.drive = self.base.step(self.motors.move(self.drive))

    def keep_alive(self, periods: int, **inputs: int) -> None:
        for _ in range(periods):
            self.base.send(self.base.frame(TimeSync(0)))
            self.run(1, **inputs)

    def ask(self, request: StateRequest) -> list[Any]:
        return [m.reason for m in self.base.send(self.base.request(request)) if isinstance(m, Nack)]

    def arm(self) -> None:
        assert self.ask(StateRequest.ARM) == []

    def set(self, param: Param, value: float) -> list[Any]:
        answers = self.base.send(self.base.frame(ParamSet(param, value, self.base.session)))
        return [m.reason for m in answers if isinstance(m, Nack)]

    def store(self, crc: int | None = None, magic: int = MAGIC_STORE) -> list[Any]:
        crc = self.base.of(Status)[-1].params_crc if crc is None else crc
        answers = self.base.send(self.base.frame(ParamStore(crc, magic, self.base.session)))
        return [m.reason if isinstance(m, Nack) else m.code.name for m in answers if isinstance(m, Nack | Event)]


def test_wheels_reach_the_speeds_commanded_and_hold_them(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.run(300, (10.0, -6.0))
    assert d.motors.radps == pytest.approx([10.0, -6.0], abs=0.1)
    odom = d.base.of(Odom)[-1]
    assert odom.left_mradps == pytest.approx(10_000, abs=100)
    assert odom.left_ticks == d.motors.inputs.left_ticks
    assert odom.cmd_age_ms == 5


def test_a_command_the_other_way_brakes_to_rest_first(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.run(150, (10.0, 10.0))
    d.run(150, (-5.0, -5.0))
    assert d.motors.radps == pytest.approx([-5.0, -5.0], abs=0.2)


def test_stops_overlap_without_a_way_back_to_active(core: Any) -> None:
    d = Driver(core)
    assert d.ask(StateRequest.CLEAR) == []  # in IDLE it came again
    d.arm()
    d.run(150, (20.0, 20.0))
    stamp = d.base.now_us
    for age, reason in ((-100_001, NackReason.STALE_STAMP), (-50_000, NackReason.STALE_STAMP)):
        nacks = [m.reason for m in d.base.send(d.base.command(1, 1, stamp + age)) if isinstance(m, Nack)]
        assert nacks == [reason]
    assert d.ask(StateRequest.CLEAR) == [NackReason.BAD_STATE]
    d.base.send(d.base.hello(99))  # a new session ends the old one, and its drive
    d.run(2)
    assert d.drive.state == State.STOPPING
    d.ask(StateRequest.DISARM)
    d.run(1)
    assert d.drive.state == State.DISARMING
    assert d.ask(StateRequest.ARM) == [NackReason.BAD_STATE]
    d.run(120)
    assert d.drive.state == State.IDLE


def test_saturation_does_not_wind_the_controller_up(core: Any) -> None:
    d = Driver(core)
    d.arm()
    assert d.set(Param.DUTY_MAX, 0.3) == [NackReason.BAD_STATE]
    d.ask(StateRequest.DISARM)
    d.run(3)
    assert d.set(Param.DUTY_MAX, 0.3) == []
    d.arm()
    d.run(400, (20.0, 20.0))  # 0.3 of 39.2 rad/s is all it can
    assert d.drive.left_duty_e4 == 3000
    d.run(60, (5.0, 5.0))
    assert d.motors.radps[0] == pytest.approx(5.0, abs=0.5)


@pytest.mark.parametrize("speeds", [(20.0, 20.0), (20.0, 8.0), (-15.0, 15.0)])
def test_silence_ramps_to_rest_in_time_and_on_the_same_curve(core: Any, speeds: tuple[float, float]) -> None:
    d = Driver(core)
    d.arm()
    d.run(200, speeds)
    last = d.base.now_us - PERIOD_US
    d.run(40)
    timeout = next(e for e in d.base.of(Event) if e.code.name == "COMMAND_TIMEOUT")
    assert timeout.t_us - last <= 200_000
    d.run(160)
    rest = next(e for e in d.base.of(Event) if e.code.name == "AT_REST")
    assert rest.value <= (max(map(abs, speeds)) / BRAKE + 0.3) * 1e6
    assert d.base.state == State.IDLE
    during = [o for o in d.base.of(Odom) if timeout.t_us + 50_000 < o.t_us < timeout.t_us + 150_000]
    assert all(o.left_mradps * speeds[1] == pytest.approx(o.right_mradps * speeds[0], abs=25_000) for o in during)
    d.run(20, (5.0, 5.0))
    assert d.base.state == State.IDLE  # a command re-arms nothing
    assert d.motors.radps == pytest.approx([0.0, 0.0], abs=0.1)


def test_wheels_that_do_not_come_to_rest_are_switched_off(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.run(100, (5.0, 5.0))
    d.ask(StateRequest.DISARM)
    for _ in range(120):
        d.motors.radps = [5.0, 5.0]  # a slope that no brake holds
        d.run(1)
    assert d.base.state == State.IDLE
    assert not [e for e in d.base.of(Event) if e.code.name == "AT_REST"]


def test_the_e_stop_drops_the_enable_line_and_stays_until_released_cleared_and_armed(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.run(50, (5.0, 5.0))
    d.run(1, (5.0, 5.0), estop_pressed=1)
    assert (d.drive.enabled, d.drive.left_duty_e4, d.drive.state) == (0, 0, State.ESTOP)
    assert d.ask(StateRequest.CLEAR) == [NackReason.ESTOP_PRESSED]
    d.run(2, (5.0, 5.0), estop_pressed=0)
    assert d.ask(StateRequest.ARM) == [NackReason.BAD_STATE]
    assert d.ask(StateRequest.CLEAR) == []
    d.run(2, (5.0, 5.0))
    assert (d.drive.enabled, d.drive.state) == (0, State.IDLE)
    d.arm()
    d.run(2, (5.0, 5.0))
    assert d.drive.enabled


def test_a_stalled_wheel_is_a_fault(core: Any) -> None:
    d = Driver(core)
    d.arm()
    d.motors.blocked = True
    d.run(500, (20.0, 0.0))
    assert d.base.of(Odom)[-1].faults == Fault.ENCODER_STALL_LEFT
    assert d.base.state == State.FAULT
    assert not d.drive.enabled


def test_an_encoder_that_counts_backwards_is_a_fault(core: Any) -> None:
    d = Driver(core)
    assert d.set(Param.RIGHT_ENCODER_SIGN, -1.0) == []
    assert d.set(Param.RIGHT_ENCODER_SIGN, 0.5) == [NackReason.BAD_VALUE]
    d.arm()
    d.run(400, (0.0, 3.0))
    assert d.base.of(Odom)[-1].faults == Fault.ENCODER_IMPLAUSIBLE_RIGHT


def test_an_encoder_that_jumps_is_a_fault_and_one_that_wraps_is_none(core: Any) -> None:
    d = Driver(core)
    d.run(4, left_ticks=0)
    jump = 8192 * 4
    d.motors.turns_rad[0] = jump * 6.2832 / 8192
    d.run(6)
    assert d.base.of(Odom)[-1].faults == Fault.ENCODER_IMPLAUSIBLE_LEFT
    base = HostBase(core)
    for n, ticks in enumerate((2**31 - 5, 2**31 + 5, 2**31 + 15)):
        base.inputs.left_count = 0
        if n == 0:
            base.sense(replace(REST, left_ticks=ticks))
            base = HostBase(core)
            base.sense(replace(REST, left_ticks=0))
        base.step(replace(REST, t_us=2 * (n + 1) * PERIOD_US, left_ticks=10 * n))
    assert base.of(Odom)[-1].left_ticks == 20


@pytest.mark.parametrize(("ticks", "faults"), [(150, Fault(0)), (300, Fault.UNDERVOLTAGE)])
def test_a_low_battery_is_a_fault_after_its_time(core: Any, ticks: int, faults: Fault) -> None:
    d = Driver(core)
    d.keep_alive(ticks, battery_mv=8_000)
    assert d.base.of(Odom)[-1].faults == faults
    assert d.base.of(Status)[-1].battery_mv == pytest.approx(8_000, abs=100)


def test_a_lost_imu_is_a_fault_and_is_not_reported(core: Any) -> None:
    d = Driver(core)
    d.base.inputs.imu_valid = False
    before = len(d.base.of(Imu))
    d.run(30)
    assert d.base.of(Odom)[-1].faults == Fault.IMU_LOST
    assert d.ask(StateRequest.CLEAR) == [NackReason.FAULT_PRESENT]
    assert len(d.base.of(Imu)) == before


def test_a_boot_without_imu_waits_half_a_second_and_ends_in_a_fault(core: Any) -> None:
    base = HostBase(core)
    base.inputs.imu_valid = False
    base.step(replace(REST, t_us=490_000))
    assert base.state == State.INIT
    base.step(replace(REST, t_us=520_000))
    assert (base.state, base.of(Odom)[-1].faults) == (State.FAULT, Fault.IMU_LOST)


def test_missed_control_periods_and_a_broken_invariant_are_faults(core: Any) -> None:
    d = Driver(core)
    d.base.inputs.loop_us = 321
    d.base.inputs.missed_ticks = 21
    d.run(20)
    assert d.base.of(Odom)[-1].faults == Fault.TICK_OVERRUN
    assert d.base.of(Status)[-1].loop_us_max == 321
    d.run(200)
    assert d.base.of(Status)[-1].faults_present == Fault(0)
    d.base.send(d.base.hello(9))
    assert d.ask(StateRequest.CLEAR) == []
    d.base.lib.host_corrupt_state(77)
    d.run(2)
    assert d.base.of(Odom)[-1].faults == Fault.INTERNAL
    assert d.drive.state == State.FAULT


@pytest.mark.parametrize(("cause", "faults"), [(1, 0), (5, Fault.WATCHDOG_RESET), (6, Fault.CRASH_RESET)])
def test_a_boot_after_watchdog_or_crash_is_a_fault(core: Any, cause: int, faults: int) -> None:
    base = HostBase(core, cause=cause)
    base.step(replace(REST, t_us=20_000))
    assert base.of(Odom)[-1].faults == faults
    assert base.state == (State.FAULT if faults else State.IDLE)
    assert base.of(Crash) == ([Crash(1, 2, 3, 4, 5, 6, cause)] if faults else [])  # type: ignore[arg-type]


def test_the_built_in_parameters_are_those_of_the_robot_file(core: Any) -> None:
    d, robot = Driver(core), load_robot("jackal")
    hello = d.base.of(Hello)[-1]
    assert hello.limits_crc == hello.params_crc == limits_crc(robot)
    for param, value in firmware_params(robot).items():
        d.base.send(d.base.frame(ParamGet(param)))
        assert d.base.of(ParamValue)[-1].value == pytest.approx(value, rel=1e-6)
    answers = d.base.send(d.base.frame(ParamGet(999)))
    assert [m.reason for m in answers if isinstance(m, Nack)] == [NackReason.UNKNOWN_PARAM]


def test_parameters_are_refused_out_of_range_and_above_the_robot(core: Any) -> None:
    d = Driver(core)
    refused = [(Param.SPEED_RADPS_MAX, 100.0), (Param.DUTY_MAX, 1.5), (Param.LEFT_KP, -1.0)]
    assert [d.set(param, value) for param, value in refused] == [[NackReason.BAD_VALUE]] * 3
    session, d.base.session = d.base.session, 999
    assert d.set(Param.LEFT_KP, 0.1) == [NackReason.BAD_SESSION]
    assert d.store(0) == [NackReason.BAD_SESSION]
    d.base.session = session
    answers = d.base.send(d.base.frame(ParamSet(77, 1.0, session)))  # type: ignore[arg-type]
    assert [m.reason for m in answers if isinstance(m, Nack)] == [NackReason.UNKNOWN_PARAM]


def test_stored_parameters_survive_a_reboot(core: Any) -> None:
    d = Driver(core)
    wanted = firmware_params(load_robot("jackal")) | {Param.LEFT_KP: 0.125}
    assert d.set(Param.LEFT_KP, 0.125) == []
    d.run(20)
    crc = params_crc(wanted)
    assert d.store(crc, magic=1) == [NackReason.BAD_MAGIC]
    assert d.store(crc ^ 1) == [NackReason.BAD_PARAM_CRC]
    assert d.store(crc) == ["PARAMS_STORED"]
    again = HostBase(core, erase=False)
    assert (again.of(Hello)[0].params_crc, again.of(Hello)[0].boots) == (crc, 2)
    d = Driver(core)
    d.run(20)
    d.base.lib.host_flash_budget(0)
    assert d.store() == [NackReason.STORE_FAILED]
    d.arm()
    assert d.store() == [NackReason.BAD_STATE]


def test_power_may_fail_at_any_byte_of_a_store(core: Any) -> None:
    _, lib = core
    base = HostBase(core)
    for boot in range(330):  # past both pages
        lib.host_flash_budget(3 + boot * 7 % 160 if boot % 3 == 1 else -1)
        base = HostBase(core, erase=False)
        lib.host_flash_budget(-1)
    again = HostBase(core, erase=False)
    again.step(replace(REST, t_us=20_000))
    assert 150 < again.of(Hello)[0].boots <= 332
    assert again.of(Hello)[0].params_crc == base.of(Hello)[0].limits_crc
    assert again.of(Odom)[-1].faults == 0


def test_flash_that_holds_only_rubbish_is_a_fault_and_the_built_in_set_is_used(core: Any) -> None:
    _, lib = core
    HostBase(core)
    for page in range(2):
        for at in range(4096):
            lib.host_flash()[page * 16384 + at] = 0x5A
    base = HostBase(core, erase=False)
    base.step(replace(REST, t_us=20_000))
    assert base.of(Odom)[-1].faults == Fault.PARAM_STORE
    assert base.of(Hello)[0].params_crc == base.of(Hello)[0].limits_crc


def test_the_clock_is_told(core: Any) -> None:
    d = Driver(core)
    d.base.send(d.base.frame(TimeSync(42)))
    assert d.base.of(TimeSyncRsp) == [TimeSyncRsp(42, d.base.now_us, d.base.now_us)]


def test_frames_for_a_reader_that_stands_still_are_dropped_and_counted(core: Any) -> None:
    base = HostBase(core)
    for _ in range(400):
        base.lib.host_tick(base.inputs, base.now_us, base.outputs)
        base.now_us += PERIOD_US
    base.drain()
    assert base.decoder.counters.dropped == 0
    assert len(base.got) < 60
