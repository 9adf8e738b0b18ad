"""The robot's MuJoCo model, built from its description with MjSpec.

Each driven wheel is a hinge with a velocity servo: the commanded wheel speed passes a first-order filter (the motor's
lag) and the servo's torque is limited. Wheels touch the ground in one point each, with Coulomb friction: a skid-steer
base turns by really slipping, and its effective track comes out of the physics (Coulomb theory: 1 + (L/W)^2).
Only the body's box can touch obstacles; only wheels and casters touch the ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np

from dsac_robot.core.robot import Robot
from sim.worlds import World

TIME_STEP_S = 0.005
SPARE_OBSTACLES = 8  # cylinders that can be put somewhere while the simulation runs
SPARE_RADIUS_M = 0.15
GROUND, BODY, OBSTACLE = 1, 2, 4  # collision bits
SERVO_DROOP_RADPS = 0.3  # speed error at which a wheel servo gives its whole torque
FRICTION_SOFTNESS = (
    0.06  # impratio: a softer friction cone keeps slipping wheels on the ground (0.15 makes the base rock, 1.0 hop)
)
ARMATURE_KGM2 = 0.02  # motor and gear, seen at the wheel; with less the limited servo hunts at TIME_STEP_S
CONTACT = (0.08, 1.0)  # time constant (s) and damping ratio of the tyre


@dataclass(frozen=True)
class RobotModel:
    """A compiled world with one robot in it, and where its parts are in MuJoCo's arrays."""

    model: mujoco.MjModel
    base_body: int
    body_geom: int
    wheel_dofs_left: tuple[int, ...]
    wheel_dofs_right: tuple[int, ...]
    spare_mocaps: tuple[int, ...]
    spare_geoms: tuple[int, ...]


def floor_model(robot: Robot, world: World) -> mujoco.MjModel:
    """``build`` without the obstacles: the robot's parts have the same indices, and move by the same numbers."""
    return _spec(robot, world).compile()


def build(robot: Robot, world: World, dress: Callable[[mujoco.MjSpec], None] | None = None) -> RobotModel:
    """Compile ``robot`` standing at the start of ``world``. ``dress`` may add to the looks before."""
    spec = _spec(robot, world)
    _add_obstacles(spec, world)
    if dress is not None:
        dress(spec)
    model = spec.compile()

    def dofs(side: str) -> tuple[int, ...]:
        return tuple(
            int(model.joint(i).dofadr[0]) for i in range(model.njnt) if model.joint(i).name.startswith(f"wheel_{side}")
        )

    spares = [model.body(f"spare_{i}") for i in range(SPARE_OBSTACLES)]
    return RobotModel(
        model,
        model.body("base").id,
        model.geom("body").id,
        dofs("left"),
        dofs("right"),
        tuple(int(body.mocapid[0]) for body in spares),
        tuple(int(model.geom(f"spare_{i}").id) for i in range(SPARE_OBSTACLES)),
    )


def _spec(robot: Robot, world: World) -> mujoco.MjSpec:
    """The robot on an empty floor. What comes later changes none of its indices."""
    spec = mujoco.MjSpec()
    spec.option.timestep = TIME_STEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = FRICTION_SOFTNESS
    spec.option.iterations = 20
    spec.worldbody.add_geom(
        name="ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[50, 50, 1],
        contype=GROUND,
        conaffinity=0,
        solref=CONTACT,
        friction=[robot.base.friction, 0, 0],
    )
    _add_robot(spec, robot, world)
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
    for i in range(SPARE_OBSTACLES):
        body = spec.worldbody.add_body(name=f"spare_{i}", pos=[0, 0, -10 - i], mocap=True)
        body.add_geom(
            name=f"spare_{i}",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[SPARE_RADIUS_M, 0.5, 0],
            contype=OBSTACLE,
            conaffinity=0,
        )


def _add_robot(spec: mujoco.MjSpec, robot: Robot, world: World) -> None:
    base, actuation = robot.base, robot.actuation
    outline = robot.footprint
    low, high = outline.min(axis=0), outline.max(axis=0)
    wheels = [
        (f"{side}_{axle}", x, y)
        for side, y in (("left", 0.5 * base.track_m), ("right", -0.5 * base.track_m))
        for axle, x in _axles(robot)
    ]
    body_mass = base.mass_kg - len(wheels) * base.wheel_mass_kg
    x, y, yaw = world.start
    chassis = spec.worldbody.add_body(
        name="base", pos=[x, y, 0.0], quat=[math.cos(0.5 * yaw), 0, 0, math.sin(0.5 * yaw)]
    )
    chassis.add_freejoint(name="base")
    clearance = 0.25 * base.wheel_radius_m
    half = [*(0.5 * (high - low)), 0.5 * (base.height_m - clearance)]
    centre = [*(0.5 * (low + high)), clearance + half[2]]
    chassis.mass = body_mass
    chassis.ipos = [centre[0], centre[1], max(base.wheel_radius_m, 0.35 * base.height_m)]
    sides = 2.0 * np.array(half)
    chassis.inertia = [
        body_mass / 12.0 * (sides[1] ** 2 + sides[2] ** 2),
        body_mass / 12.0 * (sides[0] ** 2 + sides[2] ** 2),
        body_mass / 12.0 * (sides[0] ** 2 + sides[1] ** 2),
    ]
    chassis.explicitinertial = True
    chassis.add_geom(
        name="body",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=half,
        pos=centre,
        contype=BODY,
        conaffinity=OBSTACLE,
        condim=1,
    )
    if base.drive == "differential":
        _add_caster(chassis, robot, float(low[0]))
    gain = actuation.wheel_torque_nm_max / SERVO_DROOP_RADPS
    for name, wheel_x, wheel_y in wheels:
        wheel = chassis.add_body(name=f"wheel_{name}", pos=[wheel_x, wheel_y, base.wheel_radius_m])
        spin = 0.5 * base.wheel_mass_kg * base.wheel_radius_m**2
        wheel.mass, wheel.inertia, wheel.explicitinertial = base.wheel_mass_kg, [0.6 * spin, spin, 0.6 * spin], True
        wheel.ipos = [0.0, 0.0, 0.0]  # the default is the body's own position: a wheel out of balance
        joint = wheel.add_joint(name=f"wheel_{name}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 1, 0])
        joint.armature = ARMATURE_KGM2
        wheel.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[base.wheel_radius_m, 0, 0],
            contype=0,
            conaffinity=GROUND,
            condim=3,
            friction=[base.friction, 0, 0],
            solref=CONTACT,
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


def _add_caster(chassis: mujoco.MjsBody, robot: Robot, rear_x_m: float) -> None:
    radius = 0.5 * robot.base.wheel_radius_m
    chassis.add_geom(
        name="caster",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[radius, 0, 0],
        pos=[0.8 * rear_x_m, 0, radius],
        contype=0,
        conaffinity=GROUND,
        condim=1,
    )
