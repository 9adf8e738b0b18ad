"""The messages of the wire protocol, each a frozen dataclass in wire order.

firmware/protocol/protocol.yaml is the specification (a test compares field by field);
docs/protocol.md explains each field.
"""

from dataclasses import dataclass
from typing import Annotated

from dsac_robot.core.protocol_enums import Direction, EventCode, Fault, ResetCause, State, StateRequest
from dsac_robot.core.protocol_fields import Message, wire


@dataclass(frozen=True)
class HelloReq(Message, type_id=0x01, to=Direction.TO_BASE, extensible=True):
    """Opens a session."""

    proto: Annotated[int, wire("u16")]
    nonce: Annotated[int, wire("u32")]


@dataclass(frozen=True)
class CmdWheels(Message, type_id=0x02, to=Direction.TO_BASE):
    """Wheel speed command."""

    left_mradps: Annotated[int, wire("i32", -200_000, 200_000)]
    right_mradps: Annotated[int, wire("i32", -200_000, 200_000)]
    session: Annotated[int, wire("u16", 1, 65_535)]
    stamp_us: Annotated[int, wire("u64")]


@dataclass(frozen=True)
class StateReq(Message, type_id=0x03, to=Direction.TO_BASE):
    """Asks for a change of state."""

    request: Annotated[StateRequest, wire("u8")]
    magic: Annotated[int, wire("u32")]
    session: Annotated[int, wire("u16")]


@dataclass(frozen=True)
class TimeSync(Message, type_id=0x04, to=Direction.TO_BASE):
    """Asks for the base's clock."""

    t0_us: Annotated[int, wire("u64")]


@dataclass(frozen=True)
class ParamSet(Message, type_id=0x05, to=Direction.TO_BASE):
    """Sets one parameter in RAM."""

    param: Annotated[int, wire("u16")]
    value: Annotated[float, wire("f32")]
    session: Annotated[int, wire("u16", 1, 65_535)]


@dataclass(frozen=True)
class ParamGet(Message, type_id=0x06, to=Direction.TO_BASE):
    """Asks for one parameter."""

    param: Annotated[int, wire("u16")]


@dataclass(frozen=True)
class ParamStore(Message, type_id=0x07, to=Direction.TO_BASE):
    """Writes all parameters to flash."""

    params_crc: Annotated[int, wire("u32")]
    magic: Annotated[int, wire("u32")]
    session: Annotated[int, wire("u16", 1, 65_535)]


@dataclass(frozen=True)
class Hello(Message, type_id=0x81, to=Direction.TO_HOST, extensible=True):
    """Who the base is; answers HELLO_REQ."""

    proto: Annotated[int, wire("u16")]
    nonce: Annotated[int, wire("u32")]
    session: Annotated[int, wire("u16")]
    board: Annotated[int, wire("u8")]
    reset_cause: Annotated[int, wire("u8")]
    version_major: Annotated[int, wire("u8")]
    version_minor: Annotated[int, wire("u8")]
    version_patch: Annotated[int, wire("u8")]
    dirty: Annotated[int, wire("u8")]
    git: Annotated[bytes, wire("bytes4")]
    build_id: Annotated[bytes, wire("bytes8")]
    limits_crc: Annotated[int, wire("u32")]
    params_crc: Annotated[int, wire("u32")]
    boots: Annotated[int, wire("u32")]


@dataclass(frozen=True)
class Odom(Message, type_id=0x82, to=Direction.TO_HOST):
    """Wheels and state."""

    t_us: Annotated[int, wire("u64")]
    left_ticks: Annotated[int, wire("i64")]
    right_ticks: Annotated[int, wire("i64")]
    left_mradps: Annotated[int, wire("i32")]
    right_mradps: Annotated[int, wire("i32")]
    left_duty_e4: Annotated[int, wire("i16", -10_000, 10_000)]
    right_duty_e4: Annotated[int, wire("i16", -10_000, 10_000)]
    faults: Annotated[Fault, wire("u16")]
    state: Annotated[State, wire("u8")]
    cmd_seq: Annotated[int, wire("u8")]
    cmd_age_ms: Annotated[int, wire("u16")]


@dataclass(frozen=True)
class Imu(Message, type_id=0x83, to=Direction.TO_HOST):
    """Inertial sensor, in the sensor's frame."""

    t_us: Annotated[int, wire("u64")]
    gyro_x_uradps: Annotated[int, wire("i32")]
    gyro_y_uradps: Annotated[int, wire("i32")]
    gyro_z_uradps: Annotated[int, wire("i32")]
    accel_x_umps2: Annotated[int, wire("i32")]
    accel_y_umps2: Annotated[int, wire("i32")]
    accel_z_umps2: Annotated[int, wire("i32")]
    temperature_cdegc: Annotated[int, wire("i16")]


@dataclass(frozen=True)
class Status(Message, type_id=0x84, to=Direction.TO_HOST):
    """Slow state."""

    t_us: Annotated[int, wire("u64")]
    state: Annotated[State, wire("u8")]
    estop_pressed: Annotated[int, wire("u8", 0, 1)]
    faults: Annotated[Fault, wire("u16")]
    faults_present: Annotated[Fault, wire("u16")]
    session: Annotated[int, wire("u16")]
    battery_mv: Annotated[int, wire("u32")]
    battery_ma: Annotated[int, wire("i32")]
    params_crc: Annotated[int, wire("u32")]
    missed_ticks: Annotated[int, wire("u32")]
    loop_us_max: Annotated[int, wire("u16")]
    mcu_degc: Annotated[int, wire("i16")]


@dataclass(frozen=True)
class TimeSyncRsp(Message, type_id=0x85, to=Direction.TO_HOST):
    """Answers TIME_SYNC."""

    t0_us: Annotated[int, wire("u64")]
    t1_us: Annotated[int, wire("u64")]
    t2_us: Annotated[int, wire("u64")]


@dataclass(frozen=True)
class ParamValue(Message, type_id=0x86, to=Direction.TO_HOST):
    """Answers PARAM_SET and PARAM_GET."""

    param: Annotated[int, wire("u16")]
    value: Annotated[float, wire("f32")]


@dataclass(frozen=True)
class Event(Message, type_id=0x87, to=Direction.TO_HOST):
    """Something happened, stamped when it did."""

    t_us: Annotated[int, wire("u64")]
    code: Annotated[EventCode, wire("u8")]
    state: Annotated[State, wire("u8")]
    value: Annotated[int, wire("u32")]


@dataclass(frozen=True)
class Nack(Message, type_id=0x88, to=Direction.TO_HOST, extensible=True):
    """The base refused a request."""

    rejected_type: Annotated[int, wire("u8")]
    rejected_seq: Annotated[int, wire("u8")]
    reason: Annotated[int, wire("u8")]


@dataclass(frozen=True)
class LinkStats(Message, type_id=0x89, to=Direction.TO_HOST):
    """The base's own receive counters since boot, modulo 2^32."""

    t_us: Annotated[int, wire("u64")]
    ok: Annotated[int, wire("u32")]
    bad_cobs: Annotated[int, wire("u32")]
    bad_crc: Annotated[int, wire("u32")]
    bad_length: Annotated[int, wire("u32")]
    unknown_type: Annotated[int, wire("u32")]
    bad_value: Annotated[int, wire("u32")]
    overflow: Annotated[int, wire("u32")]
    repeated: Annotated[int, wire("u32")]
    lost: Annotated[int, wire("u32")]
    uart_errors: Annotated[int, wire("u32")]
    tx_dropped: Annotated[int, wire("u32")]


@dataclass(frozen=True)
class Crash(Message, type_id=0x8A, to=Direction.TO_HOST):
    """The last crash record, after each HELLO while there is one."""

    t_us: Annotated[int, wire("u64")]
    boots: Annotated[int, wire("u32")]
    pc: Annotated[int, wire("u32")]
    lr: Annotated[int, wire("u32")]
    cfsr: Annotated[int, wire("u32")]
    fault_address: Annotated[int, wire("u32")]
    reset_cause: Annotated[ResetCause, wire("u8")]


MESSAGES: tuple[type[Message], ...] = (
    HelloReq,
    CmdWheels,
    StateReq,
    TimeSync,
    ParamSet,
    ParamGet,
    ParamStore,
    Hello,
    Odom,
    Imu,
    Status,
    TimeSyncRsp,
    ParamValue,
    Event,
    Nack,
    LinkStats,
    Crash,
)
"""Every message, in the order of the specification."""
