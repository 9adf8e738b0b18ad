"""How the simulated world looks: light, floor, colours and a body for the robot. Nothing here touches the physics: the
dressed model has the same bodies and joints as the plain one, and shows that one's state.

Obstacles are drawn lower than they are, so that a camera behind the robot sees over them.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from dsac_robot.core.robot import Robot
from sim.robot_model import GROUND, OBSTACLE
from sim.worlds import World

DRAWN_HEIGHT_M = 0.34
HIDDEN_GROUP = 3  # MuJoCo's viewers leave groups above 2 out until they are asked for
SKY = (0.93, 0.95, 0.97), (0.66, 0.74, 0.83)
FLOOR = (0.66, 0.69, 0.72), (0.60, 0.63, 0.67)
COLOURS = {
    "obstacle": (0.78, 0.42, 0.28),
    "placed": (0.56, 0.32, 0.62),
    "chassis": (0.13, 0.15, 0.18),
    "shell": (0.98, 0.74, 0.12),
    "rubber": (0.06, 0.06, 0.07),
    "rim": (0.55, 0.57, 0.60),
    "lens": (0.03, 0.25, 0.32),
    "goal": (0.10, 0.62, 0.32),
}


def dress(spec: mujoco.MjSpec, robot: Robot, world: World) -> None:
    """Give an uncompiled world its looks."""
    for name, rgb in COLOURS.items():
        spec.add_material(name=name, rgba=[*rgb, 1.0], specular=0.25, shininess=0.4)
    _light(spec)
    for geom in spec.geoms:
        if geom.contype == OBSTACLE:
            _lower(geom)
        elif geom.contype == GROUND:
            _floor(spec, geom)
        else:
            geom.group = HIDDEN_GROUP  # what touches and rolls: the robot gets a body of its own below
    _goal(spec, world)
    _robot(spec, robot)


def _light(spec: mujoco.MjSpec) -> None:
    visual = spec.visual
    visual.headlight.ambient, visual.headlight.diffuse, visual.headlight.specular = [0.42] * 3, [0.30] * 3, [0.0] * 3
    visual.global_.offwidth, visual.global_.offheight = 1920, 1080
    visual.quality.shadowsize, visual.quality.offsamples = 2048, 4
    visual.map.znear, visual.map.zfar = 0.02, 40.0
    visual.map.shadowclip, spec.stat.extent = 2.0, 5.0  # shadows reach 10 m around the robot
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=SKY[0],
        rgb2=SKY[1],
        width=128,
        height=128,
    )
    light = spec.body("base").add_light(name="sun", pos=[-1.5, 2.0, 6.0], dir=[0.25, -0.33, -1.0])
    light.mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACK  # over the robot, not turning with it
    light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    light.diffuse, light.specular, light.castshadow = [0.55] * 3, [0.2] * 3, True


def _floor(spec: mujoco.MjSpec, geom: mujoco.MjsGeom) -> None:
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=FLOOR[0],
        rgb2=FLOOR[1],
        width=256,
        height=256,
    )
    material = spec.add_material(name="floor", texrepeat=[1.0, 1.0], texuniform=True, specular=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    geom.material = "floor"


def _lower(geom: mujoco.MjsGeom) -> None:
    axis = 2 if geom.type == mujoco.mjtGeom.mjGEOM_BOX else 1
    full_m = float(geom.size[axis])
    geom.size[axis] = 0.5 * DRAWN_HEIGHT_M
    geom.pos[2] += 0.5 * DRAWN_HEIGHT_M - full_m
    geom.material = "placed" if geom.name.startswith("spare") or geom.parent.mocap else "obstacle"


def _goal(spec: mujoco.MjSpec, world: World) -> None:
    x, y = world.goal_m
    cylinder, sphere = mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_SPHERE
    _add(spec.worldbody, cylinder, [0.018, 0.35, 0], [x, y, 0.35], "goal")
    _add(spec.worldbody, sphere, [0.07, 0, 0], [x, y, 0.72], "goal")


def _robot(spec: mujoco.MjSpec, robot: Robot) -> None:
    base, lidar = robot.base, robot.lidar
    outline = robot.footprint
    low, high = outline.min(axis=0), outline.max(axis=0)
    chassis, box = spec.body("base"), mujoco.mjtGeom.mjGEOM_BOX
    cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
    wheel_half_m = max(0.1 * base.wheel_radius_m, 0.5 * (float(high[1] - low[1]) - base.track_m))
    inner_m = 0.5 * base.track_m - wheel_half_m - 0.004  # half the room between the wheels
    centre, half = 0.5 * (low + high), 0.5 * (high - low)
    deck_m = max(2.0 * base.wheel_radius_m + 0.004, 0.6 * base.height_m)
    belly_m = 0.35 * base.wheel_radius_m
    _add(chassis, box, [half[0], inner_m, 0.5 * (deck_m - belly_m)], [*centre, 0.5 * (deck_m + belly_m)], "chassis")
    top_m = max(base.height_m, deck_m + 0.02)
    shell = [half[0] * 0.96, inner_m + wheel_half_m, 0.5 * (top_m - deck_m)]  # over half of each wheel
    _add(chassis, box, shell, [*centre, 0.5 * (deck_m + top_m)], "shell")
    _add(chassis, box, [0.05 * half[0], 0.6 * inner_m, 0.004], [centre[0] + 0.8 * half[0], centre[1], top_m], "chassis")
    puck_m = 0.09 * (half[0] + half[1])
    at_m = max(lidar.z_m, top_m + 0.6 * puck_m)
    _add(chassis, cylinder, [puck_m, 0.6 * puck_m, 0], [lidar.x_m, lidar.y_m, at_m], "chassis")
    _add(chassis, cylinder, [1.02 * puck_m, 0.25 * puck_m, 0], [lidar.x_m, lidar.y_m, at_m + 0.1 * puck_m], "lens")
    side = [math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0]  # a cylinder's axis along the wheel's
    for wheel in spec.bodies:
        if wheel.name.startswith("wheel_"):
            radius = base.wheel_radius_m
            _add(wheel, cylinder, [radius, wheel_half_m, 0], [0, 0, 0], "rubber").quat = side
            _add(wheel, cylinder, [0.55 * radius, wheel_half_m + 0.002, 0], [0, 0, 0], "rim").quat = side
            _add(wheel, box, [0.5 * radius, 0.1 * radius, wheel_half_m + 0.004], [0, 0, 0], "chassis").quat = side


def _add(
    body: mujoco.MjsBody,
    shape: mujoco.mjtGeom,
    size: list[float],
    pos: list[float],
    material: str,
) -> mujoco.MjsGeom:
    """A thing that is only seen."""
    geom = body.add_geom(type=shape, size=np.array(size, np.float64), pos=np.array(pos, np.float64))
    geom.contype = geom.conaffinity = 0
    geom.mass = 0.0
    geom.group = 1
    geom.material = material
    return geom
