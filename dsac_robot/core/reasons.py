"""Levels and typed reasons. The numbers are stable: they are in bags, dashboards and the docs. Never reuse one."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Level(IntEnum):
    """Who is in command, from best to worst."""

    DRIVE = 0  # the command asked for is sent as it is
    LIMITED = 1  # the command is changed: slower, narrower, or both
    FALLBACK = 2  # the fallback controller drives
    STOP = 3  # controlled stop; leaves by itself when the cause is gone
    EMERGENCY = 4  # latched stop; left only by ~/reset


@unique
class OodLevel(IntEnum):
    """What the monitor says of one (observation, command)."""

    OK = 0
    CAUTION = 1
    ALARM = 2


@unique
class Reason(IntEnum):
    """Why the level is what it is. 1x limits, 2x command, 3x scan, 4x odometry, 5x monitor, 6x clock, 7x operator."""

    NONE = 0
    NOT_ENABLED = 1  # not activated yet, or disabled by ~/enable
    CLEARANCE = 10  # the command would end too close to something: replaced by the nearest safe one
    NO_SAFE_COMMAND = 11  # no motion is safe: the hardest stop
    UNSEEN_SPACE = 12  # the command would enter space that was not seen free
    RATE_LIMIT = 13  # speed, acceleration or jerk limit
    COMMAND_MISSING = 20  # no command from the policy yet
    COMMAND_STALE = 21
    COMMAND_NOT_FINITE = 22
    COMMAND_OUT_OF_RANGE = 23
    COMMAND_FROM_FUTURE = 24
    COMMAND_SECOND_PUBLISHER = 25
    SCAN_MISSING = 30
    SCAN_STALE = 31
    SCAN_FROM_FUTURE = 32
    SCAN_ALL_INVALID = 33
    SCAN_BLANK = 34  # every beam without return
    SCAN_FROZEN = 35
    SCAN_WRONG_COUNT = 36
    SCAN_WRONG_FRAME = 37
    SCAN_WRONG_GEOMETRY = 38
    ODOM_MISSING = 40
    ODOM_STALE = 41
    ODOM_FROM_FUTURE = 42
    ODOM_NOT_FINITE = 43
    ODOM_JUMP = 44
    ODOM_WRONG_FRAME = 45
    OOD_CAUTION = 50
    OOD_ALARM = 51
    VERDICT_MISSING = 52  # a command without the monitor's verdict within ood_timeout_s
    MONITOR_FAULT = 53  # the monitor could not rebuild the observation
    CLOCK_LOST = 60
    CLOCK_JUMP = 61
    OPERATOR_STOP = 70
    CONTACT = 71
    TELEOP = 72  # the operator drives, through the same checks
