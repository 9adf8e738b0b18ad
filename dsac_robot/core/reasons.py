"""Levels and typed reasons. The numbers are stable: they are in bags, dashboards and the docs. Never reuse one."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Why the level is what it is. 1x limits, 2x command, 3x scan (8x too), 4x odometry, 5x monitor, 6x clock, 7x
    operator, 9x base."""

    NONE = 0
    NOT_ENABLED = 1  # not activated yet, or disabled by ~/enable
    CLEARANCE = 10  # the command would end too close to something: replaced by the nearest safe one
    NO_SAFE_COMMAND = 11  # no motion is safe: the hardest stop
    UNSEEN_SPACE = 12  # the command would enter space that was not seen free
    RATE_LIMIT = 13  # speed, acceleration or jerk limit
    BACKING_OFF = 14  # held in place for long: the fallback drives
    DOCKING = 15  # ~/dock: the clearance limits are lowered
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
    SCAN_HALF_BLIND = 39
    ODOM_MISSING = 40
    ODOM_STALE = 41
    ODOM_FROM_FUTURE = 42
    ODOM_NOT_FINITE = 43
    ODOM_JUMP = 44
    ODOM_WRONG_FRAME = 45
    ODOM_FROZEN = 46  # left when odometry changes, or by ~/reset
    ODOM_INCONSISTENT = 47  # left by ~/reset
    ODOM_NOT_FOLLOWING = 48  # left by ~/reset
    OOD_CAUTION = 50
    OOD_ALARM = 51
    VERDICT_MISSING = 52  # a command without the monitor's verdict within ood_timeout_s
    MONITOR_FAULT = 53  # the monitor could not rebuild the observation
    CLOCK_LOST = 60
    CLOCK_JUMP = 61
    LOOP_OVERRUN = 62  # the guard itself was late
    OPERATOR_STOP = 70
    CONTACT = 71
    TELEOP = 72  # the operator drives, through the same checks
    TELEOP_STALE = 73  # the dead-man
    SCAN_OUT_OF_ORDER = 80  # an older stamp than before, or the same stamp with other ranges: two lidars on one topic
    BASE_NOT_ARMED = 90  # the base's node says that the base follows no commands
    BASE_ESTOP = 91
    BASE_FAULT = 92
    BASE_SILENT = 93  # the base's node has spoken before and does not any more


MEANINGS: Mapping[Reason, tuple[str, str]] = {  # what is the matter; what the guard does
    Reason.NONE: ("nothing", "drives"),
    Reason.NOT_ENABLED: ("the guard is not active yet, or disabled by `~/enable`", "stops"),
    Reason.CLEARANCE: ("the command would end nearer to a return than the margin", "nearest safe command"),
    Reason.NO_SAFE_COMMAND: ("no motion is safe", "stops"),
    Reason.UNSEEN_SPACE: ("the command would enter space that was not seen free", "nearest safe command"),
    Reason.RATE_LIMIT: ("the command changes faster than the limits allow", "follows at the limit"),
    Reason.BACKING_OFF: ("the guard held the robot in place for `fallback_after_s`", "backs off the way it came"),
    Reason.DOCKING: (
        "the operator lowered the clearance limits by `~/dock`, for `docking_s` at most",
        "at most `docking_speed_mps`, keeps `docking_margin_m`",
    ),
    Reason.COMMAND_MISSING: ("no command from the policy yet", "stops"),
    Reason.COMMAND_STALE: ("the newest command is older than `command_timeout_s`", "stops"),
    Reason.COMMAND_NOT_FINITE: ("a command holds NaN or Inf", "stops"),
    Reason.COMMAND_OUT_OF_RANGE: ("a command is beyond the robot's limits", "stops"),
    Reason.COMMAND_FROM_FUTURE: ("a command's stamp is ahead of the clock", "stops"),
    Reason.COMMAND_SECOND_PUBLISHER: ("`policy/cmd_vel` or `cmd_vel` has a second publisher", "stops"),
    Reason.SCAN_MISSING: ("no scan yet", "stops"),
    Reason.SCAN_STALE: ("the newest scan is older than `scan_timeout_s`", "stops"),
    Reason.SCAN_FROM_FUTURE: ("a scan's stamp is ahead of the clock", "stops"),
    Reason.SCAN_ALL_INVALID: ("no beam of the scan is valid", "stops"),
    Reason.SCAN_BLANK: ("no beam of the scan has a return (`blank_is_fault`)", "stops"),
    Reason.SCAN_FROZEN: (
        "the very same ranges for `frozen_s` while the robot moves, or for `frozen_far_m` of its way",
        "stops",
    ),
    Reason.SCAN_WRONG_COUNT: ("another number of beams than the robot file says", "stops"),
    Reason.SCAN_WRONG_FRAME: ("the scan is in another frame than the lidar's", "stops"),
    Reason.SCAN_WRONG_GEOMETRY: ("the scan's angles are not the lidar's", "stops"),
    Reason.SCAN_HALF_BLIND: ("less than `valid_beams_min` of the beams are valid", "stops"),
    Reason.ODOM_MISSING: ("no odometry yet", "stops"),
    Reason.ODOM_STALE: ("the newest odometry is older than `odom_timeout_s`", "stops"),
    Reason.ODOM_FROM_FUTURE: ("odometry's stamp is ahead of the clock", "stops"),
    Reason.ODOM_NOT_FINITE: ("odometry holds NaN, Inf or no unit quaternion", "stops"),
    Reason.ODOM_JUMP: ("the robot cannot have moved as odometry says", "stops"),
    Reason.ODOM_WRONG_FRAME: ("odometry is in other frames than declared", "stops"),
    Reason.ODOM_FROZEN: (
        "the very same odometry for `frozen_s`, or `frozen_far_m` at its speed, while the robot is told to drive: "
        "it is frozen, or the wheels are",
        "stops until odometry changes or `~/reset`",
    ),
    Reason.ODOM_INCONSISTENT: (
        "odometry's pose is not where its own twist leads: the one or the other is frozen or wrong",
        "stops until `~/reset`",
    ),
    Reason.ODOM_NOT_FOLLOWING: (
        "odometry shows less than a quarter of what was sent, for `frozen_s` or `frozen_far_m` of what was sent: it is "
        "wrong, or the wheels are blocked or without power",
        "stops until `~/reset`",
    ),
    Reason.OOD_CAUTION: ("the monitor's score is above its caution threshold", "at most `caution_speed_mps`"),
    Reason.OOD_ALARM: ("the monitor's score is above its alarm threshold", "stops"),
    Reason.VERDICT_MISSING: ("a command without a verdict within `ood_timeout_s`", "stops"),
    Reason.MONITOR_FAULT: ("the monitor could not rebuild the observation", "stops"),
    Reason.CLOCK_LOST: ("no `/clock` for `clock_timeout_s` of steady time", "stops"),
    Reason.CLOCK_JUMP: ("the clock leapt by more than `clock_jump_s`, or went back", "stops"),
    Reason.LOOP_OVERRUN: (
        "the guard sent nothing for longer than the base's own `command_timeout_s`, or its steps were later than "
        "`reaction_s` allows by more than `late_s_max` in all",
        "stops",
    ),
    Reason.OPERATOR_STOP: ("`~/stop` was called", "stops until `~/reset`"),
    Reason.CONTACT: ("the bumper touches something", "stops until `~/reset`"),
    Reason.TELEOP: ("the operator drives", "passes teleop, checked alike"),
    Reason.TELEOP_STALE: (
        "a teleop command is older than `teleop_timeout_s`: the operator let go, or the clocks differ",
        "stops until teleop comes again, or `~/reset` hands the robot back (`teleop_handback_s`: by itself)",
    ),
    Reason.SCAN_OUT_OF_ORDER: ("a scan is older than one before, or has its stamp and other ranges", "stops"),
    Reason.BASE_NOT_ARMED: ("`base/state` says that the base follows no commands", "stops"),
    Reason.BASE_ESTOP: ("the base's e-stop is latched", "stops until the base is cleared and armed"),
    Reason.BASE_FAULT: ("the base has a latched fault", "stops until the base is cleared and armed"),
    Reason.BASE_SILENT: ("`base/state` came before, and has not for `base_timeout_s`", "stops"),
}


def reasons_markdown() -> str:
    """The table of all reasons: number, name, meaning, answer."""
    rows = (f"| {reason.value} | `{reason.name}` | {what} | {done} |\n" for reason, (what, done) in MEANINGS.items())
    return "| | reason | what is the matter | what the guard does |\n|---|---|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    print(reasons_markdown(), end="")
