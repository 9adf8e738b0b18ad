"""The simulated robot: MuJoCo physics stepped from event to event, sensors on their own clocks, the base's watchdog.

It knows nothing of tasks, policies or ROS: commands go in with the time at which they were sent, samples come out
with the stamps that the real sensors would give. Same robot, world and seed: the same samples, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from dsac_robot.core.kinematics import wrap_angle
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Contact, Floats, Imu, Odom, Sample, Scan, ns
from sim.base_controller import BaseController
from sim.lidar import cast, measure
from sim.proximity import Proximity
from sim.robot_model import (
    SPARE_OBSTACLES,
    SPARE_RADIUS_M,
    TIME_STEP_S,
    RobotModel,
    base_position,
    build,
    build_floor,
)
from sim.sensors import InertialUnit, WheelOdometry
from sim.worlds import World

STEP_NS = ns(TIME_STEP_S)
STATE = int(mujoco.mjtState.mjSTATE_PHYSICS | mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_WARMSTART)


@dataclass(frozen=True)
class SimParams:
    """How the simulated sensors and actuators deviate from ideal ones."""

    noise: bool = param(
        True, unit="", help="all that is drawn or wrong: noise, dropout, biases, odometry errors, jitter; false: none"
    )
    scan_period_s: float = param(0.0, unit="s", low=0.0, high=1.0, help="0: the lidar's own; longer: cast fewer scans")
    imu: bool = param(False, unit="", help="produce Imu samples")
    extra_delay_s: float = param(0.0, unit="s", low=0.0, high=0.5, help="more actuation delay than the robot file says")
    wheel_odometry: bool = param(True, unit="", help="odometry from encoders and gyro; false gives the true pose")


@dataclass
class _Due:
    """Next stamp and period of a sensor."""

    period_ns: int
    next_ns: int = 0


class Simulator:
    """One robot in one world.

    ``robot`` is the machine as it truly is. ``nominal`` is the description that its own controller goes by (None: the
    same): wheel radius and effective track that turn commands into wheel speeds, and wheel turns into odometry.
    """

    def __init__(
        self, robot: Robot, world: World, seed: int, params: SimParams = SimParams(), nominal: Robot | None = None
    ) -> None:
        self.robot, self.world, self.params = robot, world, params
        self.nominal = nominal or robot
        self.rng = np.random.default_rng(seed)
        # Where nothing can be touched, the robot is stepped on an empty floor: the same numbers in half the time. The
        # world is compiled when something can first be touched, or when somebody looks at it.
        self._parts = build_floor(robot)
        self._model, self._data = self._on_floor = self._parts.model, mujoco.MjData(self._parts.model)
        self._data.qpos[:7] = base_position(world)
        self._built: tuple[RobotModel, mujoco.MjData] | None = None
        self._state = np.zeros(mujoco.mj_stateSize(self._model, STATE))
        self._cylinders = np.concatenate([world.cylinders_m, np.zeros((0, 3))])  # what stands; a new array on change
        self._moving = np.array([(0.0, 0.0, mover.radius_m) for mover in world.movers]).reshape(-1, 3)
        self._proximity = Proximity(robot.footprint, world)
        self._spares: dict[int, tuple[float, float]] = {}
        self.time_ns = 0
        self.touching = False
        self._pushed = False
        self._clear_until_ns = 0  # nothing can be touched before
        self.touched = False  # any contact so far
        self.touch_speed_mps = 0.0  # how fast the robot's body moved, just before, where it first touched
        link_rng, bias_rng = (np.random.default_rng([seed, stream]) for stream in (1, 2))
        jitter = link_rng if params.noise else None
        self._base = BaseController(robot, self.nominal, params.extra_delay_s, jitter)
        period_s = params.scan_period_s or 1.0 / robot.lidar.rate_hz
        self._scan, self._odom = _Due(ns(period_s)), _Due(ns(1.0 / robot.odometry.rate_hz))
        self._imu = _Due(ns(1.0 / robot.imu.rate_hz))
        mujoco.mj_kinematics(self._model, self._data)
        self._step(100, near=self._steps_without_contact() == 0)  # settle on the tyres
        self._data.time = 0.0
        dofs = [*self._parts.wheel_dofs_left, *self._parts.wheel_dofs_right]
        self._wheel_positions = np.array(dofs) + 1  # a free joint has 7 positions and 6 velocities
        self._wheels = WheelOdometry(robot, self.nominal, self._wheel_angles(), self.rng, params.noise)
        self._inertial = InertialUnit(robot, self.rng, bias_rng, params.noise)
        self._last_yaw = self.pose[2]
        self._start = self.pose

    # -- truth -----------------------------------------------------------------------------------------------------

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled world, to draw it or to time it; not to be changed."""
        return self._in_world()[0]

    @property
    def data(self) -> mujoco.MjData:
        """The physics' state now, obstacles and all, to look at."""
        self._go(self._in_world())
        return self._data

    @property
    def pose(self) -> tuple[float, float, float]:
        """True x, y, yaw in the world."""
        x, y, _ = self._data.xpos[self._parts.base_body].tolist()
        rotation = self._data.xmat[self._parts.base_body].tolist()
        return x, y, math.atan2(rotation[3], rotation[0])

    @property
    def twist(self) -> tuple[float, float]:
        """True forward speed and yaw rate."""
        yaw = self.pose[2]
        vx, vy = self._data.qvel[:2]
        return float(vx * math.cos(yaw) + vy * math.sin(yaw)), float(self._data.qvel[5])

    def world_to_odom(self, x_m: float, y_m: float) -> tuple[float, float]:
        """A point of the world in the frame that odometry starts in (drift not counted)."""
        x, y, yaw = self._start
        c, s = math.cos(yaw), math.sin(yaw)
        return c * (x_m - x) + s * (y_m - y), -s * (x_m - x) + c * (y_m - y)

    def odom_to_world(self, x_m: float, y_m: float) -> tuple[float, float]:
        """The inverse of ``world_to_odom``."""
        return _from_frame(self._start, x_m, y_m)

    def base_to_world(self, x_m: float, y_m: float) -> tuple[float, float]:
        """A point seen from the robot, in the world."""
        return _from_frame(self.pose, x_m, y_m)

    def true_odom(self) -> Odom:
        """True pose, in the frame that odometry starts in, and true twist: what drift-free odometry would say now."""
        x, y, yaw = self.pose
        return Odom.from_yaw(self.time_ns, *self.world_to_odom(x, y), wrap_angle(yaw - self._start[2]), *self.twist)

    def supports(self) -> tuple[bool, ...]:
        """Which wheels (left ones first) and casters touch the ground now."""
        touching = set(self._data.contact.geom.ravel().tolist())
        return tuple(geom in touching for geom in self._parts.support_geoms)

    def obstacles(self) -> Floats:
        """All cylinders now, moving ones last: x, y, radius. # (N, 3)"""
        self._place_movers()
        return np.concatenate([self._cylinders, self._moving])

    def place_obstacle(self, x_m: float, y_m: float) -> int:
        """Put a spare cylinder into the world; returns its number. Raises ValueError when all are in use."""
        index = next((i for i in range(SPARE_OBSTACLES) if i not in self._spares), None)
        if index is None:
            raise ValueError(f"all {SPARE_OBSTACLES} spare obstacles are in use; remove one first")
        self.move_obstacle(index, x_m, y_m)
        return index

    def move_obstacle(self, index: int, x_m: float, y_m: float) -> None:
        """Move spare cylinder ``index`` (place it if it is not there)."""
        self._spares[index] = (x_m, y_m)
        self._sync_spares()

    def remove_all_obstacles(self) -> int:
        """Take all spare cylinders out of the world; returns how many there were."""
        count = len(self._spares)
        self._spares.clear()
        self._sync_spares()
        return count

    def remove_obstacle(self, index: int) -> None:
        """Take spare cylinder ``index`` out of the world."""
        self._spares.pop(index, None)
        self._sync_spares()

    def push(self, x_n: float, y_n: float) -> None:
        """A force on the body's centre of mass from now on, in the world's axes; (0, 0) ends it. Newtons."""
        self._pushed, self._clear_until_ns = (x_n, y_n) != (0.0, 0.0), 0
        for _, data in (self._on_floor, self._built or self._on_floor):
            data.xfrc_applied[self._parts.base_body, :2] = x_n, y_n

    def _sync_spares(self) -> None:
        self._clear_until_ns = 0
        if self._built is not None:
            self._place_spares(*self._built)
        extra = [(x, y, SPARE_RADIUS_M) for x, y in self._spares.values()]
        self._cylinders = np.concatenate([self.world.cylinders_m, np.array(extra, np.float64).reshape(-1, 3)])

    def _place_spares(self, parts: RobotModel, data: mujoco.MjData) -> None:
        for i, mocap in enumerate(parts.spare_mocaps):
            x, y = self._spares.get(i, (0.0, 0.0))
            data.mocap_pos[mocap] = [x, y, 0.5 if i in self._spares else -10.0 - i]

    def _place_movers(self) -> None:
        """Put what moves where it is now, for the physics and for the lidar. It yields to nothing."""
        for i, mover in enumerate(self.world.movers):
            self._moving[i, :2] = mover.position_m(self.time_ns / NS)
        if self._built is not None and len(self._moving):
            parts, data = self._built
            data.mocap_pos[list(parts.mover_mocaps), :2] = self._moving[:, :2]

    # -- time ------------------------------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        """The base receives ``command``, sent at its stamp: the wheels react ``action_delay_s`` and jitter later."""
        self._base.send(command, self.time_ns)

    def drive_wheels(self, left_radps: float, right_radps: float) -> None:
        """Set the wheels' set points directly, from now on: for a controller that is not the base's own.

        ``send`` and its timeout are not used then. See sim/motors.py.
        """
        half = self._model.nu // 2
        self._data.ctrl[:half], self._data.ctrl[half:] = left_radps, right_radps

    def wheel_angles(self) -> list[float]:
        """Angle by which each wheel has turned, left ones first."""
        return self._wheel_angles()

    def advance(self, to_ns: int) -> list[Sample]:
        """Run physics to ``to_ns`` (a multiple of the time step is kept); returns the samples stamped in (now, to].

        At time 0 the first call also gives the samples stamped 0. Order: by stamp, odometry before the scan.
        """
        samples: list[Sample] = []
        if self.time_ns == 0:
            self._sense(samples)
        while self.time_ns + STEP_NS <= to_ns:
            self._drive()
            horizon = min(self._scan.next_ns, self._odom.next_ns, self._base.next_change_ns(self.time_ns))
            if self.params.imu:
                horizon = min(horizon, self._imu.next_ns)
            # what is due between two steps happens at the second
            steps = max(1, min(-((self.time_ns - horizon) // STEP_NS), (to_ns - self.time_ns) // STEP_NS))
            if self._clear_until_ns < self.time_ns + steps * STEP_NS:
                self._clear_until_ns = self.time_ns + self._steps_without_contact() * STEP_NS
                steps = max(1, min(steps, (self._clear_until_ns - self.time_ns) // STEP_NS))
            look = self.time_ns + steps * STEP_NS > self._clear_until_ns
            before = self._data.qvel[:6].copy() if look else None  # an impact has changed it by the end of the step
            self._step(steps, near=look)
            self.time_ns += steps * STEP_NS
            if before is not None:
                self._look_for_contact(samples, before)
            self._sense(samples)
        return samples

    def _step(self, steps: int, near: bool) -> None:
        """Step the physics: among the obstacles where they are ``near``, else on the empty floor."""
        self._go(self._in_world() if near else self._on_floor)
        mujoco.mj_step(self._model, self._data, nstep=steps)

    def _in_world(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model with all obstacles, and its state: made here at the first call."""
        if self._built is None:
            parts = build(self.robot, self.world)
            self._built = parts, mujoco.MjData(parts.model)
            mujoco.mj_kinematics(parts.model, self._built[1])
            self._place_spares(*self._built)
            self._place_movers()
            self._built[1].xfrc_applied[parts.base_body] = self._data.xfrc_applied[parts.base_body]
        return self._built[0].model, self._built[1]

    def _go(self, where: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
        """Carry the robot's state over to the other model."""
        model, data = where
        if data is self._data:
            return
        mujoco.mj_getState(self._model, self._data, self._state, STATE)
        mujoco.mj_setState(model, data, self._state, STATE)
        base = self._parts.base_body
        data.xpos[base], data.xmat[base] = self._data.xpos[base], self._data.xmat[base]
        self._model, self._data = model, data

    def _drive(self) -> None:
        """Give the wheels the base's set points, where they change now."""
        speeds = self._base.wheel_speeds_radps(self.time_ns)
        if speeds is not None:
            half = self._model.nu // 2
            self._data.ctrl[:half], self._data.ctrl[half:] = speeds

    def _steps_without_contact(self) -> int:
        """At least so many steps pass before the body can touch anything."""
        self._place_movers()
        if self.touching or self._pushed:  # a push accelerates as no tyre does
            return 0
        return self._proximity.clear_steps(self.pose, self._data.qvel[:6], self._cylinders, self._moving)

    def _look_for_contact(self, samples: list[Sample], velocity: Floats) -> None:
        contact, body = self._data.contact, self._parts.body_geom
        of_body = np.any(contact.geom == body, axis=1) if self._data.ncon else np.zeros(0, bool)
        touching = bool(np.any(of_body))
        if touching and not self.touched:
            self.touched = True
            x, y = (contact.pos[of_body, :2] - self._data.xpos[self._parts.base_body][:2]).T
            point_velocity = velocity[0] - velocity[5] * y, velocity[1] + velocity[5] * x
            self.touch_speed_mps = float(np.hypot(*point_velocity).max())
        if touching != self.touching:
            samples.append(Contact(self.time_ns, touching))
        self.touching = touching

    # -- sensors ---------------------------------------------------------------------------------------------------

    def _sense(self, samples: list[Sample]) -> None:
        if self.time_ns >= self._odom.next_ns:
            self._odom.next_ns += self._odom.period_ns
            samples.append(self._measure_odom())
        if self.params.imu and self.time_ns >= self._imu.next_ns:
            self._imu.next_ns += self._imu.period_ns
            samples.append(self._measure_imu())
        if self.time_ns >= self._scan.next_ns:
            self._scan.next_ns += self._scan.period_ns
            lidar = self.robot.lidar
            distances = cast(lidar, self.pose, self.obstacles(), self.world.walls_m)
            ranges = measure(lidar, distances, self.rng, self.params.noise)
            samples.append(Scan(self.time_ns, ranges, lidar.angle_min_rad, lidar.angle_increment_rad, lidar.frame_id))

    def _wheel_angles(self) -> list[float]:
        return self._data.qpos[self._wheel_positions].tolist()

    def _measure_odom(self) -> Odom:
        if not self.params.wheel_odometry:
            return self.true_odom()
        yaw, elapsed_s = self.pose[2], self._wheels.elapsed_s(self.time_ns)
        turn = wrap_angle(yaw - self._last_yaw) + self._inertial.turn_error_rad(self.time_ns, elapsed_s)
        self._last_yaw = yaw
        return self._wheels.measure(self.time_ns, self._wheel_angles(), turn)

    def _measure_imu(self) -> Imu:
        velocity = self._data.qvel
        return self._inertial.measure(self.time_ns, np.array(velocity[:3]), self.pose[2], float(velocity[5]))


def _from_frame(pose: tuple[float, float, float], x_m: float, y_m: float) -> tuple[float, float]:
    """A point of the frame at ``pose``, in the frame that ``pose`` is given in."""
    x, y, yaw = pose
    c, s = math.cos(yaw), math.sin(yaw)
    return x + c * x_m - s * y_m, y + s * x_m + c * y_m
