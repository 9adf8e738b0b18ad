"""Clutter: a field of cylinders in a corridor, made by a cellular automaton."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsac_robot.core.values import Floats
from sim.worlds_barn import CELL_M
from sim.worlds_base import World
from sim.worlds_plan import inflated_grid, shortest_route

NO_WALLS = np.zeros((0, 5))


@dataclass(frozen=True)
class ClutterParams:
    """A field of clutter in a corridor, made by a cellular automaton (Perille et al. 2020 describe BARN's so)."""

    columns: int = 29  # inside the walls
    field_rows: int = 30
    lead_rows: int = 34  # free rows before the field, where the robot starts
    fill: tuple[float, float] = (0.10, 0.32)  # range of the initial fill
    smoothing: tuple[int, int] = (1, 4)  # range of automaton steps
    inflation_m: float = 0.32  # a path must exist for a disc of this radius plus a cylinder's


def generate_clutter(seed: int, params: ClutterParams = ClutterParams(), difficulty: float | None = None) -> World:
    """A solvable world: walls left, right and behind, clutter ahead, the goal 10 m in front of the start.

    Solvable by construction: a path of a disc of ``inflation_m`` is searched on the grid, and worlds without one are
    drawn again. The same seed gives the same world. ``difficulty`` in [0, 1] goes through the range of the initial fill
    (each world without a path makes the next one thinner by 3 %); None: the seed draws it.
    """
    rng = np.random.default_rng(seed)
    low, high = params.fill
    fill = None if difficulty is None else low + difficulty * (high - low)
    while True:
        field = _automaton(rng, params, fill)
        cylinders = _with_walls(field, params)
        start_x = float(rng.uniform(-0.8, 0.8))
        goal_x = float(rng.uniform(-0.8, 0.8))
        start = (start_x, 0.0, 0.5 * math.pi + float(rng.uniform(-0.4, 0.4)))
        goal_m = (goal_x, 10.0)
        grid = inflated_grid(cylinders, NO_WALLS, (start[:2], goal_m), params.inflation_m)
        route = shortest_route(grid, start[:2], goal_m)
        if route is not None:
            mirror = rng.random() < 0.5
            if mirror:
                cylinders = cylinders * np.array([-1.0, 1.0, 1.0])
                start, goal_x = (-start_x, 0.0, math.pi - start[2]), -goal_x
            return World(f"clutter_{seed}", cylinders, start, (goal_x, 10.0), route.length_m)
        fill = None if fill is None else 0.97 * fill


def _automaton(rng: np.random.Generator, params: ClutterParams, fill: float | None) -> npt.NDArray[np.bool_]:
    start = rng.random((params.field_rows, params.columns))
    field = start < (rng.uniform(*params.fill) if fill is None else fill)
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
