"""The robot as data: one YAML file in ``config/robots/`` read into frozen values. All SI, base frame x forward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsac_robot.core.files import load_yaml, share_path
from dsac_robot.core.geometry import half_planes, outward_distance
from dsac_robot.core.params import ParameterError, build, param

CASTER_AT = 0.8  # of the way from the axle to the rear end, where a robot file does not say
FLOOR_CLEARANCE = 0.25  # of a wheel radius: how far above the floor the body begins
FIT_M = 0.001  # parts may stand out of the outline by as much as robot files round


@dataclass(frozen=True)
class Base:
    """Body and wheels."""

    drive: str = param(unit="", choices=("differential", "skid_steer"), help="how the base turns")
    mass_kg: float = param(unit="kg", low=0.1, high=1000.0, help="whole robot, wheels included, empty")
    footprint_m: tuple[float, ...] = param(
        unit="m", low=-5.0, high=5.0, help="convex outline x0, y0, x1, y1, … counter-clockwise in the base frame"
    )
    height_m: float = param(unit="m", low=0.01, high=3.0, help="height of the body above the ground")
    wheel_radius_m: float = param(unit="m", low=0.005, high=1.0, help="radius of a driven wheel")
    wheel_mass_kg: float = param(unit="kg", low=0.001, high=100.0, help="one wheel")
    track_m: float = param(unit="m", low=0.02, high=3.0, help="lateral distance of left and right wheel centres")
    wheel_width_m: float = param(0.0, unit="m", low=0.0, high=1.0, help="tread of a wheel; 0: not given")
    wheelbase_m: float = param(0.0, unit="m", low=0.0, high=3.0, help="front to rear axle, skid steer only")
    track_multiplier: float = param(1.0, unit="", low=0.5, high=4.0, help="effective over geometric track when turning")
    caster_x_m: float = param(
        0.0,
        unit="m",
        low=-3.0,
        high=3.0,
        help="caster, differential only; 0: 0.8 of the way from the axle to the rear end",
    )
    com_x_m: float = param(0.0, unit="m", low=-3.0, high=3.0, help="centre of mass of the body without wheels, forward")
    com_z_m: float = param(
        0.0, unit="m", low=0.0, high=3.0, help="its height; 0: 0.35 of height_m, or the wheels' centres if higher"
    )
    friction: float = param(0.8, unit="", low=0.05, high=2.0, help="Coulomb coefficient, tyre on floor")
    payload_kg: float = param(0.0, unit="kg", low=0.0, high=1000.0, help="load on the deck, beside mass_kg")


@dataclass(frozen=True)
class Actuation:
    """Motors and the base's own controller."""

    motor_time_constant_s: float = param(unit="s", low=0.0, high=1.0, help="first-order lag of the wheel speed loop")
    wheel_torque_nm_max: float = param(unit="N m", low=0.001, high=1000.0, help="torque limit of one driven wheel")
    action_delay_s: float = param(unit="s", low=0.0, high=0.5, help="from cmd_vel sent to the wheels' reaction")
    delay_jitter_s: float = param(
        0.0,
        unit="s",
        low=0.0,
        high=0.2,
        help="each command takes longer by a uniform draw from 0 to this; order is kept",
    )
    servo_droop_radps: float = param(
        0.3, unit="rad/s", low=0.01, high=20.0, help="speed error at which a wheel servo gives its whole torque"
    )
    armature_kgm2: float = param(
        0.02, unit="kg m^2", low=1e-6, high=10.0, help="inertia of one motor and gear, seen at the wheel"
    )
    response_delay_s: float = param(
        0.0,
        unit="s",
        low=0.0,
        high=0.5,
        help="true speed is so much later than delay and motor lag say (controller, tyres); the guard counts on it",
    )
    side_slip_s: float = param(
        0.0,
        unit="s",
        low=0.0,
        high=0.5,
        help="in a turn the base slides outwards of its heading by this times the yaw rate; the guard counts on it",
    )
    command_timeout_s: float = param(
        0.2, unit="s", low=0.05, high=1.0, help="the base ramps to zero after this silence"
    )
    timeout_brake_mps2: float = param(4.0, unit="m/s^2", low=0.1, high=20.0, help="the ramp of that stop")


@dataclass(frozen=True)
class Limits:
    """What the robot may be asked for, and what it can be relied on to do."""

    speed_mps_max: float = param(unit="m/s", low=0.01, high=10.0, help="highest forward speed command")
    speed_mps_min: float = param(unit="m/s", low=-10.0, high=0.0, help="fastest reverse speed command (negative)")
    yaw_rate_radps_max: float = param(unit="rad/s", low=0.01, high=20.0, help="highest turn rate command, both ways")
    accel_mps2_max: float = param(
        unit="m/s^2", low=0.01, high=50.0, help="change of speed by drive commands, up or down"
    )
    yaw_accel_radps2_max: float = param(
        unit="rad/s^2", low=0.01, high=100.0, help="turn acceleration of drive commands"
    )
    brake_mps2: float = param(
        unit="m/s^2", low=0.01, high=20.0, help="deceleration of stops, which is reached on the worst floor"
    )
    jerk_mps3_max: float = param(
        100.0, unit="m/s^3", low=0.1, high=10000.0, help="change of the acceleration of drive commands"
    )
    yaw_jerk_radps3_max: float = param(
        300.0, unit="rad/s^3", low=0.1, high=10000.0, help="change of their turn acceleration"
    )


@dataclass(frozen=True)
class Lidar:
    """Planar lidar, beams from ``angle_min_rad`` counter-clockwise in the sensor frame."""

    beams: int = param(unit="", low=3, high=20000, help="beams of one scan")
    angle_min_rad: float = param(unit="rad", low=-6.3, high=6.3, help="bearing of the first beam")
    angle_increment_rad: float = param(unit="rad", low=0.0001, high=1.0, help="angle between beams")
    rate_hz: float = param(unit="Hz", low=1.0, high=200.0, help="scans a second")
    range_min_m: float = param(unit="m", low=0.0, high=5.0, help="nearer returns are not measured")
    range_max_m: float = param(unit="m", low=0.1, high=300.0, help="farther returns are not measured")
    noise_std_m: float = param(0.01, unit="m", low=0.0, high=1.0, help="standard deviation of a range")
    dropout: float = param(0.0, unit="", low=0.0, high=1.0, help="probability that a beam gives no valid range")
    x_m: float = param(0.0, unit="m", low=-5.0, high=5.0, help="mount in the base frame")
    y_m: float = param(0.0, unit="m", low=-5.0, high=5.0, help="mount in the base frame")
    z_m: float = param(0.2, unit="m", low=0.0, high=5.0, help="mount above the ground")
    yaw_rad: float = param(0.0, unit="rad", low=-math.pi, high=math.pi, help="mount, turn about z")
    in_slot: bool = param(
        False, unit="", help="the body is open in the plane of the scan, so that the mount may be below its top"
    )
    zero_means: str = param("invalid", unit="", choices=("invalid", "no_return"), help="what a range of exactly 0 says")
    frame_id: str = param("laser", unit="", help="frame of the scan messages")

    @property
    def angles_rad(self) -> npt.NDArray[np.float64]:
        """Bearing of each beam in the sensor frame. # (B,)"""
        return np.asarray(self.angle_min_rad + self.angle_increment_rad * np.arange(self.beams), np.float64)


@dataclass(frozen=True)
class Imu:
    """Inertial unit: gyro about z and accelerations in x and y are used."""

    rate_hz: float = param(100.0, unit="Hz", low=1.0, high=2000.0, help="samples a second")
    gyro_noise_radps: float = param(2e-4, unit="rad/s", low=0.0, high=1.0, help="white noise of the yaw rate")
    accel_noise_mps2: float = param(1.7e-2, unit="m/s^2", low=0.0, high=10.0, help="white noise of the accelerations")
    gyro_bias_radps: float = param(
        0.0, unit="rad/s", low=0.0, high=1.0, help="bias of the yaw rate at start, standard deviation over runs"
    )
    gyro_bias_walk: float = param(
        0.0, unit="rad/s/sqrt(s)", low=0.0, high=0.1, help="random walk of that bias, standard deviation after 1 s"
    )
    accel_bias_mps2: float = param(
        0.0, unit="m/s^2", low=0.0, high=10.0, help="bias of each acceleration at start, standard deviation over runs"
    )
    accel_bias_walk: float = param(
        0.0, unit="m/s^2/sqrt(s)", low=0.0, high=1.0, help="random walk of that bias, standard deviation after 1 s"
    )


@dataclass(frozen=True)
class Odometry:
    """Dead reckoning as the base reports it: distance from the wheel encoders, heading from the gyro or the wheels."""

    rate_hz: float = param(50.0, unit="Hz", low=1.0, high=1000.0, help="messages a second")
    ticks_per_turn: int = param(8192, unit="", low=1, high=10_000_000, help="encoder ticks of one wheel turn")
    heading: str = param("gyro", unit="", choices=("gyro", "wheels"), help="what the heading is integrated from")
    radius_error_left: float = param(
        0.0, unit="", low=-0.2, high=0.2, help="the left wheels' radius is believed too large by this fraction"
    )
    radius_error_right: float = param(
        0.0, unit="", low=-0.2, high=0.2, help="the right wheels' radius is believed too large by this fraction"
    )
    slip_noise: float = param(
        0.0, unit="m/sqrt(m)", low=0.0, high=0.5, help="random walk of the distance, standard deviation after 1 m"
    )


@dataclass(frozen=True)
class Battery:
    """The pack, for the base's firmware: what it is switched off below."""

    nominal_v: float = param(11.1, unit="V", low=1.0, high=90.0, help="voltage it is sold by")
    undervoltage_v: float = param(
        9.9, unit="V", low=0.5, high=90.0, help="below it for a second, motors off and a latched fault"
    )


@dataclass(frozen=True, kw_only=True)
class Robot:
    """One robot description. ``load_robot`` reads and checks it."""

    name: str = param(unit="", help="the robot's name")
    base: Base
    actuation: Actuation
    limits: Limits
    lidar: Lidar
    imu: Imu
    odometry: Odometry
    battery: Battery = Battery()

    @property
    def footprint(self) -> npt.NDArray[np.float64]:
        """Convex outline, counter-clockwise, base frame, metres. # (V, 2)"""
        return np.asarray(self.base.footprint_m, np.float64).reshape(-1, 2)

    @property
    def effective_track_m(self) -> float:
        """The track that turns wheel speed differences into yaw rate."""
        return self.base.track_m * self.base.track_multiplier

    @property
    def supports_x_m(self) -> tuple[float, float]:
        """Where the robot stands, forward of the base frame: rear and front axle, or axle and caster in order."""
        base = self.base
        if base.drive == "skid_steer":
            return -0.5 * base.wheelbase_m, 0.5 * base.wheelbase_m
        caster = base.caster_x_m or CASTER_AT * float(self.footprint[:, 0].min())
        return min(0.0, caster), max(0.0, caster)


def check_robot(robot: Robot, where: str) -> Robot:
    """``robot`` itself if one can compute with it; ParameterError naming ``where``, field and value otherwise."""
    outline = robot.base.footprint_m
    if len(outline) < 6 or len(outline) % 2:
        raise ParameterError(f"{where}: base.footprint_m needs at least 3 points x, y; got {len(outline)} numbers")
    edges = np.roll(robot.footprint, -1, axis=0) - robot.footprint  # (V, 2)
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    bearings = np.unwrap(np.append(np.arctan2(edges[:, 1], edges[:, 0]), np.arctan2(edges[0, 1], edges[0, 0])))
    if np.any(turns <= 0.0) or bearings[-1] - bearings[0] > 2.0 * math.pi + 1e-6:
        raise ParameterError(f"{where}: base.footprint_m = {list(outline)} must be convex and counter-clockwise")
    battery = robot.battery
    if battery.undervoltage_v >= battery.nominal_v:
        raise ParameterError(
            f"{where}: battery.undervoltage_v = {battery.undervoltage_v} must be below nominal_v = {battery.nominal_v}"
        )
    lidar = robot.lidar
    if lidar.range_min_m >= lidar.range_max_m:
        raise ParameterError(
            f"{where}: lidar.range_min_m = {lidar.range_min_m} must be below range_max_m = {lidar.range_max_m}"
        )
    fan = (lidar.beams - 1) * lidar.angle_increment_rad  # many drivers give the first bearing twice: first and last
    if fan > 2.0 * math.pi + 1e-3:
        raise ParameterError(
            f"{where}: (lidar.beams - 1) * lidar.angle_increment_rad = {fan:.4f} rad is more than a full turn"
        )
    if robot.base.drive == "skid_steer" and robot.base.wheelbase_m == 0.0:
        raise ParameterError(f"{where}: base.wheelbase_m is missing: a skid-steer base has two axles")
    return robot


def check_parts(robot: Robot, where: str) -> Robot:
    """``robot`` itself if it could be built so: the wheels are lighter than the whole and within the outline, and the
    lidar does not look at its own robot. ParameterError naming ``where``, the field, its value and the range otherwise.

    Asked of robot files only: a stored data set is not refused for it.
    """
    base, lidar = robot.base, robot.lidar
    wheels = 4 if base.drive == "skid_steer" else 2
    if wheels * base.wheel_mass_kg >= 0.95 * base.mass_kg:
        raise ParameterError(
            f"{where}: base.wheel_mass_kg = {base.wheel_mass_kg} kg: {wheels} wheels leave no body; "
            f"below {0.95 * base.mass_kg / wheels:g} for base.mass_kg = {base.mass_kg}"
        )
    if base.height_m <= FLOOR_CLEARANCE * base.wheel_radius_m:
        raise ParameterError(
            f"{where}: base.height_m = {base.height_m} m leaves no body, which begins {FLOOR_CLEARANCE} wheel radii "
            f"up; above {FLOOR_CLEARANCE * base.wheel_radius_m:g} for base.wheel_radius_m = {base.wheel_radius_m}"
        )
    along = 0.5 * (base.wheelbase_m if base.drive == "skid_steer" else 0.0) + base.wheel_radius_m
    aside = 0.5 * (base.track_m + base.wheel_width_m)
    corners = np.array([(x, y) for x in (-along, along) for y in (-aside, aside)])
    beyond = float(outward_distance(corners, robot.footprint).max())
    if beyond > FIT_M:
        raise ParameterError(
            f"{where}: the wheels stand out of base.footprint_m by {beyond:.3f} m: they reach x = +-{along:.3f} m "
            f"(base.wheelbase_m = {base.wheelbase_m}, base.wheel_radius_m = {base.wheel_radius_m}) and y = "
            f"+-{aside:.3f} m (base.track_m = {base.track_m}, base.wheel_width_m = {base.wheel_width_m}); the outline "
            "must hold them"
        )
    rear, front = robot.supports_x_m
    if not rear < base.com_x_m < front:
        raise ParameterError(
            f"{where}: base.com_x_m = {base.com_x_m} m: the robot would tip over; it must be between {rear:.3f} and "
            f"{front:.3f}, where it stands (axles, or axle and base.caster_x_m)"
        )
    mount = f"lidar.x_m = {lidar.x_m}, lidar.y_m = {lidar.y_m}"
    outside = float(outward_distance(np.array([[lidar.x_m, lidar.y_m]]), robot.footprint)[0])
    if outside > FIT_M:
        raise ParameterError(
            f"{where}: {mount}: the lidar is {outside:.3f} m outside of base.footprint_m, which must hold all parts"
        )
    through = _own_body_m(robot)
    if lidar.z_m < base.height_m and not lidar.in_slot and through > FIT_M:
        raise ParameterError(
            f"{where}: lidar.z_m = {lidar.z_m} m with {mount}: the lidar is inside of the body and would see up to "
            f"{through:.3f} m of it; allowed: at least base.height_m = {base.height_m}, or lidar.in_slot: true where "
            "the body is open in the plane of the scan"
        )
    return robot


def _own_body_m(robot: Robot) -> float:
    """The longest stretch that a beam runs inside of the robot's own outline."""
    lidar = robot.lidar
    normals, offsets = half_planes(robot.footprint)
    bearings = lidar.yaw_rad + lidar.angles_rad
    leaving = np.stack([np.cos(bearings), np.sin(bearings)], axis=1) @ normals.T  # (B, V)
    room = np.maximum(offsets - normals @ [lidar.x_m, lidar.y_m], 0.0)  # (V,)
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = np.where(leaving > 1e-9, room / leaving, np.inf)
    return float(stretch.min(axis=1).max())


def load_robot(name_or_path: str | Path) -> Robot:
    """The robot ``config/robots/NAME.yaml``, or of a file given by path (anything that ends in .yaml).

    Raises ParameterError naming the file and the key that is unknown, missing, out of range or at odds with another.
    """
    text = str(name_or_path)
    if text.endswith(".yaml"):
        path = Path(text)
    else:
        known = sorted(p.stem for p in share_path("config", "robots").glob("*.yaml"))
        if text not in known:
            raise ParameterError(f"unknown robot {text!r}; known: {', '.join(known)}, or the path of a .yaml file")
        path = share_path("config", "robots", f"{text}.yaml")
    return check_parts(check_robot(build(Robot, load_yaml(path), path.name), path.name), path.name)
