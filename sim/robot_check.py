"""What the compiled model of a robot is, and how it drives: to hold against the description before anything is trained.

``compiled`` reads everything back out of MuJoCo's arrays, nothing from the description. ``try_out`` drives the robot
on bare floor, without noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from dsac_robot.core.action import Ramp
from dsac_robot.core.kinematics import wrap_angle
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Floats, ns
from sim.robot_model import RobotModel, build
from sim.simulator import SimParams, Simulator
from sim.worlds import World

PERIOD_S = 0.02  # of commands
BARE = World("bare", np.zeros((0, 3)), (0.0, 0.0, 0.0), (5.0, 0.0), 5.0)


@dataclass(frozen=True)
class Compiled:
    """The robot as MuJoCo has it. SI, base frame."""

    parts: RobotModel
    wheels_m: Floats  # (W, 3) centres, left ones first
    wheel_radius_m: float
    track_m: float
    wheelbase_m: float
    mass_kg: float
    com_m: Floats  # (3,)
    inertia_kgm2: Floats  # (3,) principal moments of the whole robot about its centre of mass, smallest first
    torque_nm_max: Floats  # (W,)
    motor_time_constant_s: float
    outline_m: Floats  # (V, 2) corners of what obstacles touch
    top_m: float
    lidar_pose: tuple[float, float, float, float]  # x, y, z, yaw


def compiled(robot: Robot) -> Compiled:
    """Compile ``robot`` on bare floor and read it back."""
    parts = build(robot, BARE)
    model = parts.model
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    bodies = [i for i in range(model.nbody) if model.body_rootid[i] == parts.base_body]
    mass, where = model.body_mass[bodies], data.xipos[bodies]
    com = mass @ where / mass.sum()
    inertia = np.zeros((3, 3))
    for i, body in enumerate(bodies):
        axes = data.ximat[body].reshape(3, 3)
        arm = where[i] - com
        inertia += axes @ np.diag(model.body_inertia[body]) @ axes.T
        inertia += mass[i] * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    joints = [int(model.dof_jntid[dof]) for dof in (*parts.wheel_dofs_left, *parts.wheel_dofs_right)]
    wheel_bodies = [int(model.jnt_bodyid[joint]) for joint in joints]
    wheels = data.xpos[wheel_bodies].copy()
    actuators = [int(np.flatnonzero(model.actuator_trnid[:, 0] == joint)[0]) for joint in joints]
    corners = _corners(model, data, parts.body_geom)
    site = model.site("lidar").id
    turn, (x, y, z) = data.site_xmat[site], data.site_xpos[site]
    return Compiled(
        parts,
        wheels,
        float(model.geom_size[model.body_geomadr[wheel_bodies[0]], 0]),
        float(np.ptp(wheels[:, 1])),
        float(np.ptp(wheels[:, 0])),
        float(mass.sum()),
        com,
        np.asarray(np.linalg.eigvalsh(inertia), np.float64),
        model.actuator_forcerange[actuators, 1],
        float(model.actuator_dynprm[actuators[0], 0]) if model.actuator_dyntype[actuators[0]] else 0.0,
        corners[:, :2],
        float(corners[:, 2].max()),
        (float(x), float(y), float(z), math.atan2(turn[3], turn[0])),
    )


def _corners(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> Floats:
    """Corners of a box or mesh in the world. # (N, 3)"""
    mesh = int(model.geom_dataid[geom])
    if mesh >= 0:
        first = model.mesh_vertadr[mesh]
        local = model.mesh_vert[first : first + model.mesh_vertnum[mesh]].astype(np.float64)
    else:
        signs = np.array([(a, b, c) for c in (-1, 1) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        local = signs * model.geom_size[geom]
    return np.asarray(data.geom_xpos[geom] + local @ data.geom_xmat[geom].reshape(3, 3).T)


@dataclass(frozen=True)
class TryOut:
    """How the robot drives in simulation."""

    speed_ratio: float  # true over asked speed, straight ahead at speed_mps_max
    track_multiplier: float  # that the physics give, turning in place at half of yaw_rate_radps_max
    wheels_down: float  # fraction of the time with all wheels, and the caster, on the ground
    stop_m: float  # from speed_mps_max with brake_mps2, from the first command of the stop
    stop_expected_m: float  # by delays, motor lag and brake_mps2


class _Driver:
    """Commands at a fixed rate, changed as fast as the limits allow."""

    def __init__(self, robot: Robot) -> None:
        self.sim, self._robot = Simulator(robot, BARE, 0, SimParams(noise=False)), robot
        self._ramp = Ramp()
        supports = len(self.sim.supports())
        self._supports, self.periods, self.periods_down = supports, 0, 0

    def run(self, seconds: float, speed_mps: float, yaw_rate_radps: float) -> tuple[float, float]:
        """Drive so; returns distance and turn."""
        distance, turn = 0.0, 0.0
        for _ in range(round(seconds / PERIOD_S)):
            now_ns, before = self.sim.time_ns, self.sim.pose
            self._ramp = self._ramp.toward((speed_mps, yaw_rate_radps), self._robot.limits, PERIOD_S)
            self._step(Command(now_ns, *self._ramp.twist))
            after = self.sim.pose
            distance += math.hypot(after[0] - before[0], after[1] - before[1])
            turn += wrap_angle(after[2] - before[2])
        return distance, turn

    def stop(self, seconds: float) -> float:
        """Brake as stops do; returns the distance."""
        start, (speed, _) = self.sim.pose, self._ramp.twist
        for _ in range(round(seconds / PERIOD_S)):
            speed = max(0.0, speed - self._robot.limits.brake_mps2 * PERIOD_S)
            self._step(Command(self.sim.time_ns, speed, 0.0))
        self._ramp = Ramp()
        return math.hypot(self.sim.pose[0] - start[0], self.sim.pose[1] - start[1])

    def _step(self, command: Command) -> None:
        self.sim.send(command)
        self.sim.advance(self.sim.time_ns + ns(PERIOD_S))
        self.periods += 1
        self.periods_down += all(self.sim.supports())


def try_out(robot: Robot) -> TryOut:
    """Drive ``robot`` straight, in a stop and in a turn: about ten simulated seconds."""
    limits, actuation = robot.limits, robot.actuation
    lag_s = actuation.action_delay_s + actuation.motor_time_constant_s + actuation.response_delay_s
    settle_s = 0.5 + 5.0 * lag_s
    speed, rate = limits.speed_mps_max, 0.5 * limits.yaw_rate_radps_max
    straight = _Driver(robot)
    straight.run(speed / limits.accel_mps2_max + settle_s, speed, 0.0)
    distance, _ = straight.run(1.0, speed, 0.0)
    stop_m = straight.stop(speed / limits.brake_mps2 + settle_s)
    turning = _Driver(robot)
    turning.run(rate / limits.yaw_accel_radps2_max + settle_s, 0.0, rate)
    _, turn = turning.run(3.0, 0.0, rate)
    down = (straight.periods_down + turning.periods_down) / (straight.periods + turning.periods)
    return TryOut(
        distance / speed,
        robot.base.track_multiplier * 3.0 * rate / max(turn, 1e-9),
        down,
        stop_m,
        speed * lag_s + 0.5 * speed**2 / limits.brake_mps2,
    )
