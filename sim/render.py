"""Pictures of a simulated drive, drawn without a screen: on a GPU through EGL, else in software (Mesa, OSMesa)."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from dsac_robot.core.lidar import returns_in_base
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Floats, Scan
from sim.robot_model import build
from sim.simulator import Simulator
from sim.visuals import COLOURS, DRAWN_HEIGHT_M, dress
from sim.worlds import World

Image = npt.NDArray[np.uint8]  # (H, W, 3)
Colour = tuple[float, float, float]
CAMERAS = ("chase", "top")
BACKENDS = ("egl", "osmesa")
SIZE_MAX = (1920, 1080)
RETURN_COLOUR: Colour = (0.86, 0.08, 0.16)
APT = "apt-get install libegl1 libgl1 libgl1-mesa-dri (or libosmesa6)"


class RenderError(RuntimeError):
    """Nothing can be drawn here. The message says why and what to install."""


@dataclass(frozen=True)
class Caption:
    """Text at the top left, one line each, below a badge of one colour."""

    badge: str
    colour: Colour
    lines: tuple[str, ...] = ()


@functools.lru_cache(maxsize=1)
def backend() -> str:
    """The first of EGL and OSMesa that draws on this machine, or what MUJOCO_GL says. Each is tried in a process of its
    own, as a library that fails leaves the process unable to try another. Raises RenderError if none works."""
    asked = os.environ.get("MUJOCO_GL", "").lower()
    names = (asked,) if asked in BACKENDS else BACKENDS
    said = []
    for name in names:
        program = f"import mujoco.{name} as gl; context = gl.GLContext(8, 8); context.make_current(); context.free()"
        environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
        try:
            tried = subprocess.run(
                [sys.executable, "-c", program],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said.append(f"{name}: no answer in 60 s")
            continue
        if tried.returncode == 0:
            return name
        said.append(f"{name}: {(tried.stderr.strip().splitlines() or ['died'])[-1]}")
    raise RenderError(f"cannot draw without a screen ({'; '.join(said)}). Run {APT}, or make")


def _context(width: int, height: int) -> Any:
    name = backend()
    os.environ.setdefault("PYOPENGL_PLATFORM", name)
    try:
        context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
        context.make_current()
    except (ImportError, RuntimeError, AttributeError) as error:
        raise RenderError(f"cannot draw through {name} in this process: {error}. Run {APT}, or make") from error
    return context


class Stage:
    """What is looked at: a dressed model of its own, which shows a simulator's state and cannot disturb it."""

    def __init__(self, robot: Robot, world: World) -> None:
        self.model = build(robot, world, lambda spec: dress(spec, robot, world)).model
        self.data = mujoco.MjData(self.model)

    def follow(self, sim: Simulator) -> None:
        """Take over the simulator's state."""
        state = sim.data
        self.data.qpos[:], self.data.mocap_pos[:] = state.qpos, state.mocap_pos
        self.data.time = sim.time_ns / NS
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)


class SceneRenderer:
    """Draws one robot in one world. ``camera``: "chase" follows from behind, "top" looks down, north up.

    Raises RenderError where nothing can be drawn, ValueError for an unknown camera or a size out of range.
    """

    def __init__(
        self,
        robot: Robot,
        world: World,
        size: tuple[int, int] = (1280, 720),
        camera: str = "chase",
        goal_radius_m: float = 1.0,
    ) -> None:
        if camera not in CAMERAS:
            raise ValueError(f"camera {camera!r} is unknown; one of {', '.join(CAMERAS)}")
        if not all(16 <= got <= most for got, most in zip(size, SIZE_MAX, strict=True)):
            raise ValueError(f"size {size[0]}x{size[1]} is outside [16x16, {SIZE_MAX[0]}x{SIZE_MAX[1]}]")
        self.robot, self.size, self.camera_name = robot, size, camera
        self._gl = _context(*size)
        self._stage = Stage(robot, world)
        self._goal_m, self._goal_radius_m = world.goal_m, goal_radius_m
        self._model, self._data = self._stage.model, self._stage.data
        self._scene = mujoco.MjvScene(self._model, maxgeom=10_000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._azimuth_deg: float | None = None
        self._heading_rad = 0.0

    def frame(
        self,
        sim: Simulator,
        points_m: Floats | None = None,
        trail: Sequence[tuple[float, float, Colour]] = (),
        caption: Caption | None = None,
    ) -> Image:
        """The simulator now, with lidar returns (world frame), the way driven so far and a caption.

        # points (N, 2); trail: x, y, colour
        """
        self._stage.follow(sim)
        self._look(sim.pose)
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        disc = self._goal_radius_m, 0.002, 0.0
        self._draw(mujoco.mjtGeom.mjGEOM_CYLINDER, disc, (*self._goal_m, 0.003), (*COLOURS["goal"], 0.3))
        self._draw_trail(trail)
        if points_m is not None:
            self._draw_points(points_m)
        view = mujoco.MjrRect(0, 0, *self.size)
        mujoco.mjr_render(view, self._scene, self._context)
        if caption is not None:
            self._write(view, caption)
        image = np.empty((self.size[1], self.size[0], 3), np.uint8)
        mujoco.mjr_readPixels(image, None, view, self._context)
        return np.ascontiguousarray(image[::-1])

    def close(self) -> None:
        """Give the graphics memory back."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def _look(self, pose: tuple[float, float, float]) -> None:
        x, y, yaw = pose
        camera = self._camera
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE.value
        reach_m = float(np.hypot(*self.robot.footprint.T).max())
        if self.camera_name == "top":
            camera.lookat[:], camera.distance, camera.azimuth, camera.elevation = (
                (x, y, 0.0),
                24.0 * reach_m,
                90.0,
                -90.0,
            )
            return
        if self._azimuth_deg is None:
            self._azimuth_deg = math.degrees(yaw)
        else:  # the camera turns gently after the robot
            self._azimuth_deg += 0.08 * math.remainder(math.degrees(yaw) - self._azimuth_deg, 360.0)
        ahead = 2.5 * reach_m
        towards = math.radians(self._azimuth_deg)
        camera.lookat[:] = x + ahead * math.cos(towards), y + ahead * math.sin(towards), 0.0
        camera.distance, camera.azimuth, camera.elevation = 8.5 * reach_m, self._azimuth_deg, -29.0

    def _draw(self, shape: mujoco.mjtGeom, size: Sequence[float], at: Sequence[float], rgba: Sequence[float]) -> Any:
        if self._scene.ngeom >= self._scene.maxgeom:
            return None
        geom = self._scene.geoms[self._scene.ngeom]
        self._scene.ngeom += 1
        mujoco.mjv_initGeom(
            geom,
            shape.value,
            np.array(size, np.float64),
            np.array(at, np.float64),
            np.eye(3).ravel(),
            np.array(rgba, np.float32),
        )
        geom.emission, geom.specular = 0.6, 0.0
        geom.category = mujoco.mjtCatBit.mjCAT_DECOR.value  # throws no shadow
        return geom

    def _draw_points(self, points_m: Floats) -> None:
        height_m = DRAWN_HEIGHT_M + 0.02 if self.camera_name == "top" else 0.5 * DRAWN_HEIGHT_M
        for x, y in points_m.tolist():
            self._draw(mujoco.mjtGeom.mjGEOM_BOX, (0.013,) * 3, (x, y, height_m), (*RETURN_COLOUR, 1.0))

    def _draw_trail(self, trail: Sequence[tuple[float, float, Colour]]) -> None:
        for (x0, y0, _), (x1, y1, colour) in itertools.pairwise(trail):
            geom = self._draw(mujoco.mjtGeom.mjGEOM_CAPSULE, (0.02, 0.02, 0.02), (0.0, 0.0, 0.0), (*colour, 1.0))
            if geom is not None:
                mujoco.mjv_connector(
                    geom, mujoco.mjtGeom.mjGEOM_CAPSULE.value, 0.014, np.array([x0, y0, 0.0]), np.array([x1, y1, 0.0])
                )

    def _write(self, view: mujoco.MjrRect, caption: Caption) -> None:
        width, height = self.size
        top_left = mujoco.mjtGridPos.mjGRID_TOPLEFT.value
        strip, top, line = 12, 64, 34  # pixels: of the colour, of the badge, of a line below it
        high = top + line * len(caption.lines)
        mujoco.mjr_rectangle(mujoco.MjrRect(0, height - high, strip, high), *caption.colour, 1.0)
        for below, text, font in (
            (0, caption.badge, mujoco.mjtFont.mjFONT_BIG),
            (top - 6, "\n".join(caption.lines), mujoco.mjtFont.mjFONT_NORMAL),
        ):
            room = mujoco.MjrRect(strip, 0, width - strip, height - below)
            mujoco.mjr_overlay(font.value, top_left, room, text, "", self._context)


def scan_points(scan: Scan, robot: Robot, pose: tuple[float, float, float]) -> Floats:
    """Where the lidar met something, in the world, for a scan taken at ``pose``. # (N, 2)"""
    x, y, yaw = pose
    points = returns_in_base(scan.ranges_m, robot.lidar)
    c, s = math.cos(yaw), math.sin(yaw)
    return np.stack([x + c * points[:, 0] - s * points[:, 1], y + s * points[:, 0] + c * points[:, 1]], axis=1)
