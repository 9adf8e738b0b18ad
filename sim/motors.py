"""The robot with bare motors, for a controller that is not simulated: the firmware. Duty in, encoder counts out.

A brushed motor on a battery gives ``stall_torque * (duty - speed / no_load_speed)`` at the wheel: the same straight
line as the servo of sim/robot_model.py, whose set point becomes ``duty * no_load_speed``, its droop the no-load speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dsac_robot.core.firmware_params import no_load_radps
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Imu, Sample, ns
from sim.robot_model import TIME_STEP_S
from sim.simulator import SimParams, Simulator
from sim.worlds import World

CURRENT_RISE_S = 0.002  # electrical time constant of a motor
GRAVITY_MPS2 = 9.80665
BATTERY_V = 25.2
PERIOD_NS = ns(TIME_STEP_S)


def with_bare_motors(robot: Robot) -> Robot:
    """The robot without its wheel servos: the torque falls from the stall torque to none at the no-load speed."""
    actuation = replace(
        robot.actuation,
        servo_droop_radps=no_load_radps(robot),
        motor_time_constant_s=CURRENT_RISE_S,
        action_delay_s=0.0,
        delay_jitter_s=0.0,
    )
    return replace(robot, actuation=actuation)


@dataclass(frozen=True)
class PlantState:
    """What the firmware's inputs see. Encoders count since the start, forward positive."""

    time_ns: int
    left_ticks: int
    right_ticks: int
    gyro_z_radps: float
    accel_x_mps2: float
    accel_y_mps2: float
    accel_z_mps2: float = GRAVITY_MPS2
    battery_v: float = BATTERY_V
    estop_pressed: bool = False


class MotorPlant:
    """A simulated robot with bare motors in a world. One encoder a side, on both of its wheels through one gear."""

    def __init__(self, robot: Robot, world: World, seed: int, params: SimParams = SimParams()) -> None:
        self._no_load_radps = no_load_radps(robot)
        self._ticks_per_rad = robot.odometry.ticks_per_turn / (2.0 * math.pi)
        self.simulator = Simulator(with_bare_motors(robot), world, seed, replace(params, imu=True))
        self._start = self._angles()
        self._imu = Imu(0, 0.0, 0.0, 0.0)
        self.estop_pressed = False
        self.battery_v = BATTERY_V

    def step(self, left_duty: float, right_duty: float) -> tuple[PlantState, list[Sample]]:
        """The next 5 ms under these duties in [-1, 1]: the firmware's inputs then, and what other sensors gave."""
        sim = self.simulator
        speeds = (duty * self._no_load_radps for duty in (left_duty, right_duty))
        sim.drive_wheels(*speeds)
        samples = sim.advance(sim.time_ns + PERIOD_NS)
        self._imu = next((s for s in reversed(samples) if isinstance(s, Imu)), self._imu)
        return self.state(), samples

    def state(self) -> PlantState:
        """The firmware's inputs now."""
        left, right = (math.floor(angle * self._ticks_per_rad) for angle in self._angles() - self._start)
        imu = self._imu
        return PlantState(
            self.simulator.time_ns,
            left,
            right,
            imu.yaw_rate_radps,
            imu.accel_x_mps2,
            imu.accel_y_mps2,
            battery_v=self.battery_v,
            estop_pressed=self.estop_pressed,
        )

    def _angles(self) -> np.ndarray:
        """Mean angle of the left and of the right wheels. # (2,)"""
        return np.array(self.simulator.wheel_angles()).reshape(2, -1).mean(axis=1)
