"""Times: which ones fit a robot, and whether the guard's own loop keeps its pace. Pure functions.

A command is checked as if it were held for no longer than the reaction time allows. A loop that comes later has let it
act unchecked for the rest: for a moment that may happen on a busy computer, again and again it is a fault.
"""

from __future__ import annotations

from dataclasses import replace

from dsac_robot.core.guard_inputs import Fault
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.params import ParameterError
from dsac_robot.core.reasons import Reason
from dsac_robot.core.robot import Robot

SCAN_PERIODS, ODOM_PERIODS = 1.5, 1.5  # a sensor is not late before this
COMMAND_PERIODS = 1.8  # nor is a policy that waits for each scan
FORGOTTEN = 0.1  # seconds of lateness forgotten in a second
STOP_STEP_S_MAX = 0.1  # for a silence that ROS time does not confirm a stop goes down its ramp by so much at most


def fitted(params: GuardParams, robot: Robot) -> GuardParams:
    """The parameters with the time-outs that a robot of slow sensors needs: no shorter than they can be.

    Raises ParameterError where ``reaction_s`` is less than the guard's period and the base's delay and its jitter.
    """
    delay_s = robot.actuation.action_delay_s + robot.actuation.delay_jitter_s
    if params.reaction_s < params.period_s + delay_s - 1e-9:
        raise ParameterError(
            f"reaction_s = {params.reaction_s:g} must be at least {params.period_s + delay_s:g}: period_s = "
            f"{params.period_s:g}, and {robot.name}'s actuation.action_delay_s = {robot.actuation.action_delay_s:g} "
            f"and delay_jitter_s = {robot.actuation.delay_jitter_s:g}"
        )
    scan_s = 1.0 / robot.lidar.rate_hz
    return replace(
        params,
        scan_timeout_s=max(params.scan_timeout_s, round(SCAN_PERIODS * scan_s, 6)),
        odom_timeout_s=max(params.odom_timeout_s, round(ODOM_PERIODS / robot.odometry.rate_hz, 6)),
        command_timeout_s=max(params.command_timeout_s, round(COMMAND_PERIODS * scan_s, 6)),
    )


def late_after_s(params: GuardParams, robot: Robot) -> float:
    """A step that comes later than this after the one before is late: the reaction time less the base's delay."""
    return max(2.0 * params.period_s, params.reaction_s - robot.actuation.action_delay_s)


def lateness_s(before_s: float, elapsed_s: float, params: GuardParams, robot: Robot) -> float:
    """The lateness of all steps until now, less what is forgotten. A clock that leapt is no lateness.

    At most twice ``late_s_max`` is remembered, so that a loop that is on time again drives again soon.
    """
    if not 0.0 < elapsed_s <= params.clock_jump_s:
        return before_s
    late_s = max(0.0, before_s - FORGOTTEN * elapsed_s) + max(0.0, elapsed_s - late_after_s(params, robot))
    return min(late_s, 2.0 * params.late_s_max)


def pace_fault(late_s: float, elapsed_s: float, params: GuardParams, robot: Robot) -> Fault | None:
    """LOOP_OVERRUN where the base has begun to stop by itself, or where the lateness is more than ``late_s_max``."""
    limit_s = robot.actuation.command_timeout_s
    if elapsed_s > limit_s:
        return Fault(Reason.LOOP_OVERRUN, (("step_s", elapsed_s), ("limit_s", limit_s)))
    if late_s > params.late_s_max:
        return Fault(Reason.LOOP_OVERRUN, (("late_s", late_s), ("limit_s", params.late_s_max)))
    return None


def suspected(inp: GuardInput, robot: Robot) -> Fault | None:
    """LOOP_OVERRUN where the steady clock says so and ROS time does not, or not yet.

    Under simulated time a guard that was held up is late before it hears by how much: the first /clock may come after
    the timer. Until then only a stop is sent. If the whole simulation was held up, it goes on with the next step.
    """
    limit_s = robot.actuation.command_timeout_s
    if inp.gap_s > limit_s:
        return Fault(Reason.LOOP_OVERRUN, (("gap_s", inp.gap_s), ("limit_s", limit_s)))
    return None


def stop_step_s(elapsed_s: float, inp: GuardInput, params: GuardParams) -> float:
    """How far down its ramp a stop goes in this step, in seconds: all the time since the last.

    After a silence the base has begun to stop by itself and must not speed up again, and what is sent now may be the
    last for as long. Where the clock leapt the steady clock counts instead. At least a period: a stop goes on even if
    the clock stands still.
    """
    doubtful_s = min(inp.gap_s, STOP_STEP_S_MAX)
    if elapsed_s > params.clock_jump_s:
        return min(elapsed_s, max(inp.gap_s, STOP_STEP_S_MAX))
    return max(params.period_s, elapsed_s, doubtful_s)
