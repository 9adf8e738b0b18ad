"""Names and numbers of the wire protocol; firmware/protocol/protocol.yaml is the specification (a test compares).

The meaning of each member is in docs/protocol.md.
"""

from enum import Enum, IntEnum, IntFlag

PROTOCOL_VERSION = 1

COMMAND_TIMEOUT_S = 0.2
COMMAND_AGE_S_MAX = 0.1
COMMAND_AHEAD_S_MAX = 0.02
COMMAND_HZ_MIN = 50
LINK_TIMEOUT_S = 0.5
HELLO_RETRY_S = 0.1
TIME_SYNC_PERIOD_S = 1.0
TIME_SYNC_SAMPLES = 20
ODOM_HZ = 100
IMU_HZ = 100
STATUS_HZ = 10
LINK_STATS_HZ = 1
NACK_HZ_MAX = 50
MAGIC_DISARM = 0x5AFE0D15
MAGIC_ARM = 0xA2C30A2D
MAGIC_CLEAR = 0xC1EA4B5E
MAGIC_ESTOP = 0xE5709E57
MAGIC_STORE = 0xF1A54B17


class Direction(Enum):
    """Who reads a message."""

    TO_BASE = "base"
    TO_HOST = "host"


class State(IntEnum):
    """State of the base."""

    INIT = 0
    IDLE = 1
    ACTIVE = 2
    STOPPING = 3
    DISARMING = 4
    ESTOP = 5
    FAULT = 6


class Fault(IntFlag):
    """Latched faults."""

    ENCODER_STALL_LEFT = 0x0001
    ENCODER_STALL_RIGHT = 0x0002
    ENCODER_IMPLAUSIBLE_LEFT = 0x0004
    ENCODER_IMPLAUSIBLE_RIGHT = 0x0008
    UNDERVOLTAGE = 0x0010
    OVERCURRENT = 0x0020
    IMU_LOST = 0x0040
    WATCHDOG_RESET = 0x0080
    CRASH_RESET = 0x0100
    PARAM_STORE = 0x0200
    TICK_OVERRUN = 0x0400
    INTERNAL = 0x0800


class StateRequest(IntEnum):
    """What the host asks for."""

    DISARM = 1
    ARM = 2
    CLEAR = 3
    ESTOP = 4


class NackReason(IntEnum):
    """Why the base refused a request."""

    UNKNOWN_TYPE = 1
    BAD_LENGTH = 2
    BAD_VALUE = 3
    BAD_VERSION = 4
    BAD_SESSION = 5
    BAD_MAGIC = 6
    BAD_STATE = 7
    STALE_STAMP = 8
    FUTURE_STAMP = 9
    UNKNOWN_PARAM = 10
    BAD_PARAM_CRC = 11
    STORE_FAILED = 12
    ESTOP_PRESSED = 13
    FAULT_PRESENT = 14


class ResetCause(IntEnum):
    """Why the base booted."""

    UNKNOWN = 0
    POWER_ON = 1
    PIN = 2
    BROWNOUT = 3
    SOFTWARE = 4
    WATCHDOG = 5
    CRASH = 6


class Board(IntEnum):
    """What the firmware runs on."""

    HOST = 1
    MPS2_AN386 = 2
    STM32F405 = 3


class EventCode(IntEnum):
    """What happened; the meaning of EVENT.value is in brackets."""

    BOOTED = 1
    STATE_CHANGED = 2
    SESSION_STARTED = 3
    COMMAND_TIMEOUT = 4
    LINK_LOST = 5
    ESTOP_PRESSED = 6
    ESTOP_RELEASED = 7
    FAULT_RAISED = 8
    FAULT_CLEARED = 9
    AT_REST = 10
    PARAMS_STORED = 11


class Reject(IntEnum):
    """Why a receiver dropped a frame; also the names of its counters."""

    BAD_COBS = 1
    BAD_CRC = 2
    BAD_LENGTH = 3
    UNKNOWN_TYPE = 4
    BAD_VALUE = 5
    OVERFLOW = 6
    REPEATED = 7


class Param(IntEnum):
    """A parameter of the base; the number is its id on the wire."""

    TICKS_PER_REV = 1
    SPEED_RADPS_MAX = 2
    ACCEL_RADPS2_MAX = 3
    BRAKE_RADPS2 = 4
    DUTY_MAX = 5
    STALL_DUTY = 6
    STALL_S = 7
    UNDERVOLTAGE_V = 8
    UNDERVOLTAGE_S = 9
    BATTERY_SCALE = 10
    LEFT_KP = 16
    LEFT_KI = 17
    LEFT_KV = 18
    LEFT_KS = 19
    LEFT_MOTOR_SIGN = 20
    LEFT_ENCODER_SIGN = 21
    RIGHT_KP = 32
    RIGHT_KI = 33
    RIGHT_KV = 34
    RIGHT_KS = 35
    RIGHT_MOTOR_SIGN = 36
    RIGHT_ENCODER_SIGN = 37


PARAM_RANGES: dict[Param, tuple[float, float]] = {
    Param.TICKS_PER_REV: (1, 1000000),
    Param.SPEED_RADPS_MAX: (0.1, 200),
    Param.ACCEL_RADPS2_MAX: (0.1, 1000),
    Param.BRAKE_RADPS2: (0.1, 1000),
    Param.DUTY_MAX: (0.05, 1),
    Param.STALL_DUTY: (0.05, 1),
    Param.STALL_S: (0.05, 5),
    Param.UNDERVOLTAGE_V: (0, 100),
    Param.UNDERVOLTAGE_S: (0.05, 60),
    Param.BATTERY_SCALE: (0.1, 100),
    Param.LEFT_KP: (0, 10),
    Param.LEFT_KI: (0, 100),
    Param.LEFT_KV: (0, 1),
    Param.LEFT_KS: (0, 0.5),
    Param.LEFT_MOTOR_SIGN: (-1, 1),
    Param.LEFT_ENCODER_SIGN: (-1, 1),
    Param.RIGHT_KP: (0, 10),
    Param.RIGHT_KI: (0, 100),
    Param.RIGHT_KV: (0, 1),
    Param.RIGHT_KS: (0, 0.5),
    Param.RIGHT_MOTOR_SIGN: (-1, 1),
    Param.RIGHT_ENCODER_SIGN: (-1, 1),
}
"""Inclusive range of each parameter, in the unit that docs/protocol.md gives."""
