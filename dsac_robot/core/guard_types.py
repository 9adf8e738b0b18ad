"""What goes into and out of the guard's ``step``. Frozen values; nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass

from dsac_robot.core.params import param
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.values import Command, Odom, Scan


@dataclass(frozen=True)
class GuardParams:
    """The guard's parameters. ``brake_mps2``, speed and acceleration limits come from the robot description."""

    period_s: float = param(0.02, unit="s", low=0.005, high=0.1, help="cmd_vel is published at this period, always")
    reaction_s: float = param(
        0.10,
        unit="s",
        low=0.01,
        high=1.0,
        help="a command acts so long before a stop does: at least p99 of guard period + jitter + actuation delay; "
        "the ages of scan and odometry are measured and added. Less than the robot file asks for is refused",
    )
    obstacle_speed_mps_max: float = param(0.5, unit="m/s", low=0.0, high=3.0, help="obstacles move no faster")
    unseen_speed_mps_max: float = param(
        0.0,
        unit="m/s",
        low=0.0,
        high=3.0,
        help="space once seen free but not seen now shrinks at this speed; above 0 a robot at rest soon may not turn, "
        "for its rear corners would enter what it cannot see",
    )
    margin_m: float = param(0.03, unit="m", low=0.0, high=1.0, help="kept around the footprint (noise, model error)")
    margin_s: float = param(
        0.01,
        unit="s",
        low=0.0,
        high=0.5,
        help="and so much more per m/s of the fastest corner: what the base departs from its roll-out by",
    )
    command_timeout_s: float = param(
        0.22,
        unit="s",
        low=0.05,
        high=2.0,
        help="age at which a policy command is stale; 1.8 periods of the lidar where that is longer",
    )
    teleop_timeout_s: float = param(
        0.3, unit="s", low=0.05, high=2.0, help="dead-man: teleop commands older than this stop"
    )
    teleop_handback_s: float = param(
        0.0,
        unit="s",
        low=0.0,
        high=600.0,
        help="the policy drives again so long after the last teleop command; 0: only after ~/reset",
    )
    scan_timeout_s: float = param(
        0.15,
        unit="s",
        low=0.02,
        high=2.0,
        help="age at which a scan is stale; 1.5 of the robot file's periods where that is longer",
    )
    odom_timeout_s: float = param(0.15, unit="s", low=0.02, high=2.0, help="age at which odometry is stale; likewise")
    ood_timeout_s: float = param(
        0.15, unit="s", low=0.02, high=2.0, help="a command without a verdict by then is an alarm"
    )
    future_tolerance_s: float = param(
        0.02, unit="s", low=0.0, high=0.5, help="stamps farther in the future are a fault"
    )
    frozen_s: float = param(0.5, unit="s", low=0.05, high=10.0, help="identical scans for so long, while moving")
    frozen_motion_m: float = param(
        0.05, unit="m", low=0.001, high=1.0, help="odometry motion that a frozen scan denies"
    )
    frozen_far_m: float = param(
        0.3, unit="m", low=0.01, high=10.0, help="moved so far, identical scans or odometry are a fault at once"
    )
    valid_beams_min: float = param(
        0.5, unit="", low=0.0, high=1.0, help="less than this part of the beams valid is a fault; 0: never"
    )
    blank_is_fault: bool = param(True, unit="", help="a scan without any return is a fault; false on open ground")
    caution_speed_mps: float = param(0.5, unit="m/s", low=0.0, high=5.0, help="speed limit while the monitor cautions")
    fallback_after_s: float = param(
        1.0, unit="s", low=0.0, high=60.0, help="held in place so long, the robot backs off; 0: it never does"
    )
    fallback_distance_m: float = param(
        0.3, unit="m", low=0.05, high=2.0, help="way to back off; more with each further try at the same place"
    )
    fallback_speed_mps: float = param(0.25, unit="m/s", low=0.05, high=1.0, help="speed of backing off")
    docking_s: float = param(20.0, unit="s", low=1.0, high=120.0, help="~/dock: a docking ends after so long")
    docking_radius_m: float = param(1.0, unit="m", low=0.1, high=5.0, help="and farther from where it began than this")
    docking_margin_m: float = param(
        0.005,
        unit="m",
        low=0.0,
        high=1.0,
        help="margin while docking (margin_m if that is less); obstacles stand still",
    )
    docking_speed_mps: float = param(0.1, unit="m/s", low=0.02, high=0.5, help="speed limit while docking")
    min_dwell_s: float = param(
        0.3,
        unit="s",
        low=0.0,
        high=5.0,
        help="a stop lasts so long after its fault was seen last, and until zero is sent",
    )
    clock_jump_s: float = param(0.5, unit="s", low=0.05, high=10.0, help="longer between two steps is a clock jump")
    late_s_max: float = param(
        0.1,
        unit="s",
        low=0.02,
        high=10.0,
        help="steps later than reaction_s less the base's delay are a fault if they add up to more; a tenth of a "
        "second is forgotten each second",
    )
    start_speed_mps: float = param(
        0.15, unit="m/s", low=0.0, high=1.0, help="from rest, a motion starts only if it is safe at this speed"
    )
    require_verdict: bool = param(True, unit="", help="commands need the monitor's verdict; false only without monitor")


@dataclass(frozen=True)
class Verdict:
    """What the monitor said of the command stamped ``judged_stamp_ns``."""

    stamp_ns: int
    judged_stamp_ns: int
    level: OodLevel
    reason: Reason = Reason.NONE
    score: float = 0.0
    caution_threshold: float = 0.0
    alarm_threshold: float = 0.0


@dataclass(frozen=True)
class GuardInput:
    """All that one step of the guard may look at. The newest of each; None where nothing has come yet."""

    now_ns: int  # ROS time
    scan: Scan | None = None
    odom: Odom | None = None
    command: Command | None = None  # the policy's newest
    verdict: Verdict | None = None  # the monitor's newest
    teleop: Command | None = None
    enabled: bool = True
    stop_requested: bool = False  # ~/stop was called since the last step
    reset_requested: bool = False  # ~/reset was called since the last step
    contact: bool = False  # the bumper touches
    teleop_heard: bool = False  # a teleop command came since the last step
    dock: bool | None = None  # ~/dock was called since the last step: begin, or end
    clock_lost: bool = False  # sim time stands still (judged by the steady clock, in the node)
    gap_s: float = 0.0  # steady time since the step before
    fault: Reason = Reason.NONE  # what only the node can see: wrong frame, second publisher, …


@dataclass(frozen=True)
class Decision:
    """What is sent, who is in command, why, and the numbers that made it so."""

    speed_mps: float
    yaw_rate_radps: float
    level: Level
    reason: Reason
    numbers: tuple[tuple[str, float], ...] = ()
