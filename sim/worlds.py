"""Worlds: fields of cylinders with a start and a goal. A generator of clutter, and a reader of BARN's layout."""

from __future__ import annotations

import heapq
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsac_robot.core.values import Floats

CELL_M = 0.15  # BARN: cylinders of radius 0.075 m on a grid of this pitch
BARN_START = (-2.0, 3.0, 0.5 * math.pi)
BARN_GOAL_M = (-2.0, 13.0)


class WorldError(ValueError):
    """A world file is absent or not what it should be. The message names the file and what is wrong."""


@dataclass(frozen=True)
class World:
    """Static obstacles, the start pose (x, y, yaw), the goal, and the length of a known feasible path."""

    name: str
    cylinders_m: Floats  # (N, 3): x, y, radius
    start: tuple[float, float, float]
    goal_m: tuple[float, float]
    path_length_m: float


def empty_world(goal_m: tuple[float, float] = (10.0, 0.0), walls: bool = True) -> World:
    """Open floor from the origin to ``goal_m``, with a row of posts 3 m to both sides for the lidar to see."""
    posts = [(x, y, 0.075) for x in np.arange(-2.0, goal_m[0] + 3.0, 0.5) for y in (-3.0, 3.0)] if walls else []
    posts += [(goal_m[0] + 3.0, y, 0.075) for y in np.arange(-3.0, 3.1, 0.5)] if walls else []
    return World("empty", np.array(posts, np.float64).reshape(-1, 3), (0.0, 0.0, 0.0), goal_m, math.hypot(*goal_m))


def load_world(text: str) -> World:
    """The world that ``text`` names: "empty", "clutter:SEED" or "barn:FOLDER:N".

    Raises WorldError naming the text and the forms there are, or the file that cannot be read.
    """
    kind, _, rest = text.partition(":")
    if text == "empty":
        return empty_world()
    if kind == "clutter" and rest.isdecimal():
        return generate_clutter(int(rest))
    folder, _, number = rest.rpartition(":")
    if kind == "barn" and folder and number.isdecimal():
        return read_barn_world(Path(folder), int(number))
    raise WorldError(f"unknown world {text!r}; give empty, clutter:SEED (as clutter:7) or barn:FOLDER:N")


# -- BARN ------------------------------------------------------------------------------------------------------------


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
            try:
                x, y = (float(value) for value in (model.findtext("pose") or "").split()[:2])
                cylinders.append((x, y, float(radius)))
            except ValueError as error:
                raise WorldError(f"{path}: model {model.get('name')!r}: pose or radius: {error}") from error
    if not cylinders:
        raise WorldError(f"{path}: no model is a cylinder; a BARN world has some hundred")
    array = np.array(cylinders, np.float64)
    if not np.all(np.isfinite(array)) or np.any(array[:, 2] <= 0.0):
        raise WorldError(f"{path}: poses must be finite and radii above 0")
    return array


def _read_path(path: Path) -> Floats:
    """The feasible path that BARN gives with a world: grid cells. # (P, 2): column, row"""
    try:
        cells = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise WorldError(f"{path}: cannot be read: {error}") from error
    if cells.ndim != 2 or cells.shape[1] != 2 or not np.all(np.isfinite(cells)):
        raise WorldError(f"{path}: expected finite cells of shape (P, 2), got shape {cells.shape}")
    return cells


# -- generated clutter -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClutterParams:
    """A field of clutter in a corridor, made by a cellular automaton (Perille et al. 2020 describe BARN's so)."""

    columns: int = 29  # inside the walls
    field_rows: int = 30
    lead_rows: int = 34  # free rows before the field, where the robot starts
    fill: tuple[float, float] = (0.10, 0.32)  # range of the initial fill
    smoothing: tuple[int, int] = (1, 4)  # range of automaton steps
    inflation_m: float = 0.32  # a path must exist for a disc of this radius plus a cylinder's


def generate_clutter(seed: int, params: ClutterParams = ClutterParams()) -> World:
    """A solvable world: walls left, right and behind, clutter ahead, the goal 10 m in front of the start.

    Solvable by construction: a path of a disc of ``inflation_m`` is searched on the grid, and worlds without one are
    drawn again. The same seed gives the same world.
    """
    rng = np.random.default_rng(seed)
    while True:
        field = _automaton(rng, params)
        cylinders = _with_walls(field, params)
        start_x = float(rng.uniform(-0.8, 0.8))
        goal_x = float(rng.uniform(-0.8, 0.8))
        start = (start_x, 0.0, 0.5 * math.pi + float(rng.uniform(-0.4, 0.4)))
        length = _path_length_m(cylinders, start[:2], (goal_x, 10.0), params.inflation_m)
        if length is not None:
            mirror = rng.random() < 0.5
            if mirror:
                cylinders = cylinders * np.array([-1.0, 1.0, 1.0])
                start, goal_x = (-start_x, 0.0, math.pi - start[2]), -goal_x
            return World(f"clutter_{seed}", cylinders, start, (goal_x, 10.0), length)


@lru_cache(maxsize=4096)
def pooled_clutter(seed: int) -> World:
    """``generate_clutter`` from a pool of 4096 worlds, for training: each is made once in a process."""
    return generate_clutter(seed % 4096)


def _automaton(rng: np.random.Generator, params: ClutterParams) -> npt.NDArray[np.bool_]:
    field = rng.random((params.field_rows, params.columns)) < rng.uniform(*params.fill)
    for _ in range(int(rng.integers(params.smoothing[0], params.smoothing[1] + 1))):
        padded = np.pad(field, 1).astype(np.int64)
        neighbours = sum(
            padded[1 + dy : 1 + dy + field.shape[0], 1 + dx : 1 + dx + field.shape[1]]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dx, dy) != (0, 0)
        )
        field = (neighbours >= 5) | (field & (neighbours >= 2))
    return field


def _with_walls(field: npt.NDArray[np.bool_], params: ClutterParams) -> Floats:
    rows, columns = np.nonzero(field)
    cells = [(int(c), params.lead_rows + int(r)) for r, c in zip(rows, columns, strict=True)]
    cells += [(c, r) for r in range(params.lead_rows + params.field_rows) for c in (-1, params.columns)]
    cells += [(c, -1) for c in range(-1, params.columns + 1)]
    x = (np.array([c for c, _ in cells]) - 0.5 * (params.columns - 1)) * CELL_M
    y = np.array([r for _, r in cells]) * CELL_M - 3.0  # the robot starts 3 m from the wall behind it
    return np.stack([x, y, np.full(len(cells), 0.5 * CELL_M)], axis=1)


def _path_length_m(
    cylinders_m: Floats, start_m: tuple[float, float], goal_m: tuple[float, float], inflation_m: float
) -> float | None:
    """Length of the shortest 8-connected path of a disc between two points, or None. Dijkstra on a 0.15 m grid."""
    low = np.minimum(np.minimum(cylinders_m[:, :2].min(axis=0), start_m), goal_m) - 0.5
    high = np.maximum(np.maximum(cylinders_m[:, :2].max(axis=0), start_m), goal_m) + 0.5
    shape = tuple(int(n) for n in np.ceil((high - low) / CELL_M) + 1)
    xs, ys = (low[axis] + CELL_M * np.arange(shape[axis]) for axis in (0, 1))
    blocked = np.zeros(shape, bool)
    for x, y, radius in cylinders_m:
        reach = radius + inflation_m
        i0, i1 = np.searchsorted(xs, (x - reach, x + reach))
        j0, j1 = np.searchsorted(ys, (y - reach, y + reach))
        gap = (xs[i0:i1, None] - x) ** 2 + (ys[None, j0:j1] - y) ** 2
        blocked[i0:i1, j0:j1] |= gap < reach**2

    def cell(point: tuple[float, float]) -> tuple[int, int]:
        return round((point[0] - low[0]) / CELL_M), round((point[1] - low[1]) / CELL_M)

    begin, end = cell(start_m), cell(goal_m)
    best = {begin: 0.0}
    queue = [(0.0, begin)]
    while queue:
        length, here = heapq.heappop(queue)
        if here == end:
            return length * CELL_M
        if length > best[here]:
            continue
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            there = (here[0] + dx, here[1] + dy)
            if not (0 <= there[0] < shape[0] and 0 <= there[1] < shape[1]) or blocked[there]:
                continue
            total = length + math.hypot(dx, dy)
            if total < best.get(there, math.inf):
                best[there] = total
                heapq.heappush(queue, (total, there))
    return None
