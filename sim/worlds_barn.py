"""A reader of BARN's own directory layout."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from dsac_robot.core.values import Floats
from sim.worlds_base import World, WorldError

CELL_M = 0.15  # BARN: cylinders of radius 0.075 m on a grid of this pitch
BARN_START = (-2.0, 3.0, 0.5 * math.pi)
BARN_GOAL_M = (-2.0, 13.0)


def barn_ids(folder: Path) -> tuple[int, ...]:
    """Numbers of the worlds in a BARN directory, sorted. Raises WorldError if there is none."""
    stems = [path.stem.removeprefix("world_") for path in folder.glob("world_*.world")]
    ids = sorted(int(stem) for stem in stems if stem.isdecimal())
    if not ids:
        raise WorldError(f"{folder}: no world_N.world here; give the folder that holds them (BARN's world_files)")
    return tuple(ids)


def read_barn_world(folder: Path, number: int) -> World:
    """World ``number`` of a BARN directory: ``world_N.world`` (SDF) and ``path_files/path_N.npy`` (grid cells).

    The path's cells (column, row) are at x = col * 0.15 - 4.575, y = row * 0.15 + 5.075; start and goal are put before
    and after it, as the benchmark does. Raises WorldError naming the file.
    """
    cylinders = _read_cylinders(folder / f"world_{number}.world")
    cells = _read_path(folder / "path_files" / f"path_{number}.npy")
    points = np.stack([cells[:, 0] * CELL_M - 4.575, cells[:, 1] * CELL_M + 5.075], axis=1)
    points = np.concatenate([[BARN_START[:2]], points, [BARN_GOAL_M]])
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return World(f"barn_{number}", cylinders, BARN_START, BARN_GOAL_M, length)


def _read_cylinders(path: Path) -> Floats:
    """Every model with a cylinder to collide with: x, y, radius. # (N, 3)"""
    try:
        world = ElementTree.parse(path).getroot().find("world")
    except (OSError, ElementTree.ParseError) as error:
        raise WorldError(f"{path}: cannot be read as SDF: {error}") from error
    if world is None:
        raise WorldError(f"{path}: has no <world>")
    cylinders = []
    for model in world.findall("model"):
        radius = model.findtext(".//collision/geometry/cylinder/radius")
        if radius is not None:
            cylinders.append(_cylinder(f"{path}: model {model.get('name')!r}", model.findtext("pose"), radius))
    if not cylinders:
        raise WorldError(f"{path}: no model is a cylinder; a BARN world has some hundred")
    return np.array(cylinders, np.float64)


def _cylinder(where: str, pose: str | None, radius: str) -> tuple[float, float, float]:
    """x, y and radius of their texts. Raises WorldError naming ``where``, the key, its value and what is allowed."""
    try:
        x, y = (float(value) for value in (pose or "").split()[:2])
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise WorldError(f"{where}: pose = {pose!r} must be 'x y z roll pitch yaw' with finite x and y, in metres")
    try:
        size = float(radius)
    except ValueError:
        size = math.nan
    if not (math.isfinite(size) and size > 0.0):
        raise WorldError(f"{where}: radius = {radius!r} must be a finite number of metres above 0")
    return x, y, size


def _read_path(path: Path) -> Floats:
    """The feasible path that BARN gives with a world: grid cells. # (P, 2): column, row"""
    try:
        cells = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise WorldError(f"{path}: cannot be read: {error}") from error
    if cells.ndim != 2 or cells.shape[1] != 2 or not np.all(np.isfinite(cells)):
        raise WorldError(f"{path}: cells must be finite, of shape (P, 2) (column, row); got shape {cells.shape}")
    return cells
