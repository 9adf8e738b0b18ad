"""The robot's MuJoCo model, built from its description with MjSpec.

Each driven wheel is a hinge with a velocity servo: the commanded wheel speed passes a first-order filter (the motor's
lag) and the servo's torque is limited. Wheels touch the ground in one point each, with Coulomb friction: a skid-steer
base turns by really slipping, and its effective track comes out of the physics (Coulomb theory: 1 + (L/W)^2).
Only the body can touch obstacles; only wheels and casters touch the ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from dsac_robot.core.robot import FLOOR_CLEARANCE, Robot
from sim.worlds import World

TIME_STEP_S = 0.005
SPARE_OBSTACLES = 8  # cylinders that can be put somewhere while the simulation runs
SPARE_RADIUS_M = 0.15
GROUND, BODY, OBSTACLE = 1, 2, 4  # collision bits
JACKAL_RADIUS_M = 0.098  # the wheel that the next three were found for
TYRE_TIME_S = 0.08  # time constant of the tyre; shorter ones make a skid-steer base hop when it turns
TYRE_DAMPING = 1.0  # critically damped; more of it takes long to settle
SKID_SOFTNESS = 0.035  # impratio: soft enough that slipping wheels stay on the ground (0.15 rocks the base)


@dataclass(frozen=True)
class RobotModel:
    """A compiled world with one robot in it, and where its parts are in MuJoCo's arrays."""

    model: mujoco.MjModel
    base_body: int
    body_geom: int
    wheel_dofs_left: tuple[int, ...]
    wheel_dofs_right: tuple[int, ...]
    support_geoms: tuple[int, ...]  # wheels, left ones first, and casters
    spare_mocaps: tuple[int, ...]
    mover_mocaps: tuple[int, ...]


@lru_cache(maxsize=8)
def build_floor(robot: Robot) -> RobotModel:
    """``build`` without any obstacle, at the origin: the robot's parts have the same indices, and move by the same
    numbers. One for all of the same robot, not to be changed."""
    return _parts(_spec(robot).compile(), spares=0, movers=0)


def build(robot: Robot, world: World, dress: Callable[[mujoco.MjSpec], None] | None = None) -> RobotModel:
    """Compile ``robot`` standing at the start of ``world``. ``dress`` may add to the looks before."""
    spec = _spec(robot)
    _add_obstacles(spec, world)
    if dress is not None:
        dress(spec)
    model = spec.compile()
    # Compiled at the origin, so that what MuJoCo derives from that pose is the same bits as in the floor model.
    model.qpos0[:7] = base_position(world)
    return _parts(model, SPARE_OBSTACLES, len(world.movers))


def base_position(world: World) -> tuple[float, ...]:
    """The free joint's position and quaternion at the start of ``world``."""
    x, y, yaw = world.start
    return x, y, 0.0, math.cos(0.5 * yaw), 0.0, 0.0, math.sin(0.5 * yaw)


def _parts(model: mujoco.MjModel, spares: int, movers: int) -> RobotModel:
    """Where the parts of a compiled model are."""

    def dofs(side: str) -> tuple[int, ...]:
        return tuple(
            int(model.joint(i).dofadr[0]) for i in range(model.njnt) if model.joint(i).name.startswith(f"wheel_{side}")
        )

    base = int(model.body("base").id)
    supports = [i for i in range(model.ngeom) if model.geom_conaffinity[i] == GROUND]
    return RobotModel(
        model,
        base,
        model.geom("body").id,
        dofs("left"),
        dofs("right"),
        tuple(sorted(supports, key=lambda i: int(model.geom_bodyid[i]) == base)),  # the caster is the base's own
        tuple(int(model.body(f"spare_{i}").mocapid[0]) for i in range(spares)),
        tuple(int(model.body(f"mover_{i}").mocapid[0]) for i in range(movers)),
    )


def _spec(robot: Robot) -> mujoco.MjSpec:
    """The robot at the origin of an empty floor. What comes later changes none of its indices."""
    spec = mujoco.MjSpec()
    spec.option.timestep = TIME_STEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    tyre, spec.option.impratio = _tyre(robot)
    spec.option.iterations = 20
    spec.worldbody.add_geom(
        name="ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[50, 50, 1],
        contype=GROUND,
        conaffinity=0,
        solref=tyre,
        friction=[robot.base.friction, 0, 0],
    )
    _add_robot(spec, robot, tyre)
    return spec


def _add_obstacles(spec: mujoco.MjSpec, world: World) -> None:
    # A body of their own: wheels and obstacles are then told apart before any geometry is looked at.
    field = spec.worldbody.add_body(name="obstacles")
    for x, y, radius in world.cylinders_m:
        field.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[radius, 0.5, 0],
            pos=[x, y, 0.5],
            contype=OBSTACLE,
            conaffinity=0,
        )
    for x, y, half_length, half_thickness, yaw in world.walls_m:
        field.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[half_length, half_thickness, 0.5],
            pos=[x, y, 0.5],
            quat=[math.cos(0.5 * yaw), 0, 0, math.sin(0.5 * yaw)],
            contype=OBSTACLE,
            conaffinity=0,
        )
    for i, mover in enumerate(world.movers):
        body = spec.worldbody.add_body(name=f"mover_{i}", pos=[*mover.position_m(0.0), 0.5], mocap=True)
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[mover.radius_m, 0.5, 0],
            contype=OBSTACLE,
            conaffinity=0,
        )
    for i in range(SPARE_OBSTACLES):
        body = spec.worldbody.add_body(name=f"spare_{i}", pos=[0, 0, -10 - i], mocap=True)
        body.add_geom(
            name=f"spare_{i}",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[SPARE_RADIUS_M, 0.5, 0],
            contype=OBSTACLE,
            conaffinity=0,
        )


def _tyre(robot: Robot) -> tuple[tuple[float, float], float]:
    """Time constant and damping ratio of the tyres, and MuJoCo's impratio (how stiff friction is beside the normal).

    Both shrink with the wheel, so that a small one sinks in, and slips, in proportion. Wheels that never slip sideways
    can have stiff friction.
    """
    size = robot.base.wheel_radius_m / JACKAL_RADIUS_M
    softness = SKID_SOFTNESS * size if robot.base.drive == "skid_steer" else 1.0
    return (TYRE_TIME_S * math.sqrt(size), TYRE_DAMPING), softness


def _add_robot(spec: mujoco.MjSpec, robot: Robot, tyre: tuple[float, float]) -> None:
    base, actuation = robot.base, robot.actuation
    outline = robot.footprint
    low, high = outline.min(axis=0), outline.max(axis=0)
    wheels = [
        (f"{side}_{axle}", x, y)
        for side, y in (("left", 0.5 * base.track_m), ("right", -0.5 * base.track_m))
        for axle, x in _axles(robot)
    ]
    body_mass = base.mass_kg - len(wheels) * base.wheel_mass_kg
    chassis = spec.worldbody.add_body(name="base")
    chassis.add_freejoint(name="base")
    clearance = FLOOR_CLEARANCE * base.wheel_radius_m
    half = [*(0.5 * (high - low)), 0.5 * (base.height_m - clearance)]
    centre = [*(0.5 * (low + high)), clearance + half[2]]
    chassis.mass = body_mass
    com_z_m = base.com_z_m or max(base.wheel_radius_m, 0.35 * base.height_m)
    chassis.ipos = [base.com_x_m, centre[1], com_z_m]
    if base.payload_kg > 0.0:  # on the deck, above the middle of the body
        deck = chassis.add_body(name="payload", pos=[centre[0], centre[1], base.height_m])
        side = 0.5 * float(min(high - low))  # of a cube
        deck.mass, deck.inertia, deck.explicitinertial = base.payload_kg, [base.payload_kg / 6.0 * side**2] * 3, True
        deck.ipos = [0.0, 0.0, 0.5 * side]
    sides = 2.0 * np.array(half)
    chassis.inertia = [
        body_mass / 12.0 * (sides[1] ** 2 + sides[2] ** 2),
        body_mass / 12.0 * (sides[0] ** 2 + sides[2] ** 2),
        body_mass / 12.0 * (sides[0] ** 2 + sides[1] ** 2),
    ]
    chassis.explicitinertial = True
    _add_hull(spec, chassis, robot, half, centre)
    lidar = robot.lidar
    heading = [math.cos(0.5 * lidar.yaw_rad), 0, 0, math.sin(0.5 * lidar.yaw_rad)]
    chassis.add_site(name="lidar", pos=[lidar.x_m, lidar.y_m, lidar.z_m], quat=heading)
    if base.drive == "differential":
        _add_caster(chassis, robot, tyre)
    gain = actuation.wheel_torque_nm_max / actuation.servo_droop_radps
    for name, wheel_x, wheel_y in wheels:
        wheel = chassis.add_body(name=f"wheel_{name}", pos=[wheel_x, wheel_y, base.wheel_radius_m])
        spin = 0.5 * base.wheel_mass_kg * base.wheel_radius_m**2
        wheel.mass, wheel.inertia, wheel.explicitinertial = base.wheel_mass_kg, [0.6 * spin, spin, 0.6 * spin], True
        wheel.ipos = [0.0, 0.0, 0.0]  # the default is the body's own position: a wheel out of balance
        joint = wheel.add_joint(name=f"wheel_{name}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 1, 0])
        joint.armature = actuation.armature_kgm2
        wheel.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[base.wheel_radius_m, 0, 0],
            contype=0,
            conaffinity=GROUND,
            condim=3,
            friction=[base.friction, 0, 0],
            solref=tyre,
        )
        actuator = spec.add_actuator(name=f"wheel_{name}", target=f"wheel_{name}", trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.gaintype, actuator.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
        actuator.gainprm[0], actuator.biasprm[2] = gain, -gain
        actuator.forcelimited, actuator.forcerange = 1, [-actuation.wheel_torque_nm_max, actuation.wheel_torque_nm_max]
        if actuation.motor_time_constant_s > 0.0:
            actuator.dyntype = mujoco.mjtDyn.mjDYN_FILTEREXACT
            actuator.dynprm[0] = actuation.motor_time_constant_s


def _axles(robot: Robot) -> tuple[tuple[str, float], ...]:
    half = 0.5 * robot.base.wheelbase_m
    return (("front", half), ("rear", -half)) if robot.base.drive == "skid_steer" else (("drive", 0.0),)


def _add_hull(
    spec: mujoco.MjSpec, chassis: mujoco.MjsBody, robot: Robot, half: list[float], centre: list[float]
) -> None:
    """What obstacles touch: a box where the outline is one, else the outline's prism."""
    outline = robot.footprint
    box = len(outline) == 4 and all(
        np.isin(outline[:, i], (outline[:, i].min(), outline[:, i].max())).all() for i in (0, 1)
    )
    body = chassis.add_geom(name="body", pos=centre, contype=BODY, conaffinity=OBSTACLE, condim=1)
    if box:
        body.type, body.size = mujoco.mjtGeom.mjGEOM_BOX, half
        return
    corners = [(x - centre[0], y - centre[1], z) for z in (-half[2], half[2]) for x, y in outline]
    spec.add_mesh(name="outline", uservert=np.array(corners).ravel())
    body.type, body.meshname = mujoco.mjtGeom.mjGEOM_MESH, "outline"


def _add_caster(chassis: mujoco.MjsBody, robot: Robot, tyre: tuple[float, float]) -> None:
    radius = 0.5 * robot.base.wheel_radius_m
    chassis.add_geom(
        name="caster",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[radius, 0, 0],
        pos=[sum(robot.supports_x_m), 0, radius],
        contype=0,
        conaffinity=GROUND,
        condim=1,
        priority=1,  # without it the ground's friction would win: a caster that is dragged
        solref=tyre,
    )
