"""What the robot description says to the firmware: its parameters, and the CRC by which both ends know it is the same.

The same numbers are compiled in as defaults and set by the host at the start of each session.
"""

from __future__ import annotations

from dsac_robot.core.kinematics import wheel_speeds
from dsac_robot.core.protocol import params_crc
from dsac_robot.core.protocol_enums import Param
from dsac_robot.core.robot import Robot

FIRMWARE_VERSION = (0, 1)  # major, minor of the firmware that belongs to this release
NO_LOAD_OVER_MAX = 1.5  # a motor's no-load speed over the fastest wheel speed that is asked for: headroom for control


def wheel_radps_max(robot: Robot) -> float:
    """The fastest wheel that a command within the limits asks for: the outer one at full speed and full turn."""
    limits = robot.limits
    speeds = wheel_speeds(
        limits.speed_mps_max, limits.yaw_rate_radps_max, robot.base.wheel_radius_m, robot.effective_track_m
    )
    return max(map(abs, speeds))


def no_load_radps(robot: Robot) -> float:
    """Wheel speed at full drive without load, which the feed-forward goes by."""
    return NO_LOAD_OVER_MAX * wheel_radps_max(robot)


def firmware_params(robot: Robot) -> dict[Param, float]:
    """The firmware's parameters for this robot."""
    base, actuation, limits = robot.base, robot.actuation, robot.limits
    turning = 0.5 * robot.effective_track_m * limits.yaw_accel_radps2_max
    per_side = {"KP": 0.5, "KI": 0.2, "KV": 1.0 / no_load_radps(robot), "KS": 0.0}
    made = {
        Param.TICKS_PER_REV: float(robot.odometry.ticks_per_turn),
        Param.SPEED_RADPS_MAX: wheel_radps_max(robot),
        Param.ACCEL_RADPS2_MAX: (limits.accel_mps2_max + turning) / base.wheel_radius_m,
        Param.BRAKE_RADPS2: actuation.timeout_brake_mps2 / base.wheel_radius_m,
        Param.DUTY_MAX: 1.0,
        Param.STALL_DUTY: 0.5,
        Param.STALL_S: 0.5,
        Param.UNDERVOLTAGE_V: robot.battery.undervoltage_v,
        Param.UNDERVOLTAGE_S: 1.0,
        Param.BATTERY_SCALE: 11.0,
    }
    for side in ("LEFT", "RIGHT"):
        made |= {Param[f"{side}_{name}"]: value for name, value in per_side.items()}
        made |= {Param[f"{side}_{name}_SIGN"]: 1.0 for name in ("MOTOR", "ENCODER")}
    return made


def limits_crc(robot: Robot) -> int:
    """CRC-32 of the parameters above, as HELLO.limits_crc tells it."""
    return params_crc(firmware_params(robot))
