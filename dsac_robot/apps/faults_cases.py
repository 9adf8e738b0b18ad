"""What ``bench faults`` breaks, and what the guard must call it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dsac_robot.core.reasons import Reason

R = Reason


@dataclass(frozen=True)
class Case:
    """One thing that breaks, and what the guard must call it."""

    name: str
    reasons: tuple[Reason, ...]  # any of them; none: the guard is what is broken
    asked: tuple[float, float] | None = (0.0, 0.0)  # what a broken policy asks instead; (0, 0): it is not broken
    age_s: float = 0.0  # of the stamps of its commands
    parameters: Mapping[str, str] = field(default_factory=dict)  # faults of the simulated robot
    second: str = ""  # policy | guard: a second publisher on its topic
    process: str = ""  # which one is killed, stopped or slowed
    how: str = ""  # kill | stop | slow | pause
    stopped_s: float = 0.35  # slow: so long of simulated time it stands still, and then runs for so long, and again
    running_s: float = 0.05
    reset: bool = False  # recovery needs ~/reset
    service: str = ""  # called as the fault

    @property
    def learned(self) -> bool:
        """Whether it needs the real policy and monitor; else the benchmark plays the policy."""
        return self.process in ("policy", "ood_monitor")

    @property
    def kills(self) -> bool:
        """Whether a process is gone afterwards."""
        return self.how == "kill"


def _lidar(fault: str, *reasons: Reason) -> Case:
    return Case(f"lidar {fault.replace('_', ' ')}", reasons, parameters={"lidar_fault": fault})


def _odom(fault: str, *reasons: Reason, reset: bool = False) -> Case:
    return Case(f"odometry {fault.replace('_', ' ')}", reasons, parameters={"odom_fault": fault}, reset=reset)


def _clock(fault: str, *reasons: Reason) -> Case:
    return Case(f"clock {fault}", reasons, parameters={"clock_fault": fault})


INPUTS = (
    Case("command NaN", (R.COMMAND_NOT_FINITE,), asked=(math.nan, 0.0)),
    Case("command Inf", (R.COMMAND_NOT_FINITE,), asked=(0.5, math.inf)),
    Case("command out of range", (R.COMMAND_OUT_OF_RANGE,), asked=(3.0, 0.0)),
    Case("command old stamp", (R.COMMAND_STALE,), asked=(0.5, 0.0), age_s=1.0),
    Case("command future stamp", (R.COMMAND_FROM_FUTURE,), asked=(0.5, 0.0), age_s=-1.0),
    Case("commands end", (R.COMMAND_STALE,), asked=None),
    Case("second publisher of policy/cmd_vel", (R.COMMAND_SECOND_PUBLISHER,), second="policy"),
    Case("second publisher of cmd_vel", (R.COMMAND_SECOND_PUBLISHER,), second="guard"),
    _lidar("nan", R.SCAN_ALL_INVALID),
    _lidar("blank", R.SCAN_BLANK),
    _lidar("frozen", R.SCAN_FROZEN),
    _lidar("half_invalid", R.SCAN_HALF_BLIND),
    _lidar("wrong_count", R.SCAN_WRONG_COUNT),
    _lidar("wrong_frame", R.SCAN_WRONG_FRAME),
    _lidar("future_stamp", R.SCAN_FROM_FUTURE),
    _lidar("old_stamp", R.SCAN_STALE),
    _lidar("repeated_stamp", R.SCAN_OUT_OF_ORDER),
    _lidar("silent", R.SCAN_STALE),
    _odom("nan", R.ODOM_NOT_FINITE),
    _odom("jump", R.ODOM_JUMP),
    _odom("frozen", R.ODOM_FROZEN),
    _odom("dead", R.ODOM_NOT_FOLLOWING, reset=True),
    _odom("pose_frozen", R.ODOM_INCONSISTENT, reset=True),
    _odom("future_stamp", R.ODOM_FROM_FUTURE),
    _odom("silent", R.ODOM_STALE),
    # Sensors go on without the clock: their stamps are ahead of it before its silence is long enough.
    _clock("stop", R.CLOCK_LOST, R.SCAN_FROM_FUTURE, R.ODOM_FROM_FUTURE, R.COMMAND_FROM_FUTURE),
    _clock("forward", R.CLOCK_JUMP),
    _clock("back", R.CLOCK_JUMP),
    Case("~/stop", (R.OPERATOR_STOP,), service="safety_guard/stop", reset=True),
)
GUARD = "safety_guard"
LEARNED = (("policy", "policy", R.COMMAND_STALE), ("monitor", "ood_monitor", R.VERDICT_MISSING))
HELD = (R.LOOP_OVERRUN, R.CLOCK_JUMP, R.CLOCK_LOST)  # what a guard says that has been held up, once it runs again
SLOW = (R.LOOP_OVERRUN, R.COMMAND_STALE)
PROCESSES = (
    Case("guard, kill -9", (), process=GUARD, how="kill"),
    Case("guard, SIGSTOP", HELD, process=GUARD, how="stop"),
    Case("guard paused for 0.4 s", HELD[:1], process=GUARD, how="pause"),
    Case("guard runs 0.05 s of each 0.4 s", HELD[:1], process=GUARD, how="slow"),
    # It hears so late, too, that a command may be stale to it before its own lateness has added up.
    Case("guard runs 0.02 s of each 0.2 s", SLOW, process=GUARD, how="slow", stopped_s=0.18, running_s=0.02),
    *(
        Case(f"{name}{text}", (reason,), process=process, how=how)
        for name, process, reason in LEARNED
        for text, how in ((", kill -9", "kill"), (", SIGSTOP", "stop"), (" runs 0.05 s of each 0.4 s", "slow"))
    ),
)
