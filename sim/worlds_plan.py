"""Whether a disc gets from start to goal: on a grid among what stands still, and in space and time among what moves."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dsac_robot.core.values import Floats
from sim.worlds_base import Mover, Point, wall_corners

CELL_M = 0.15
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """Where the centre of a disc may be: cell (i, j) is centred at ``xs_m[i], ys_m[j]``."""

    xs_m: Floats  # (I,)
    ys_m: Floats  # (J,)
    blocked: Mask  # (I, J)
    cell_m: float

    def cell(self, point_m: Point) -> tuple[int, int]:
        """The cell that holds a point."""
        return round((point_m[0] - self.xs_m[0]) / self.cell_m), round((point_m[1] - self.ys_m[0]) / self.cell_m)

    def free(self, points_m: Floats) -> Mask:
        """Whether each point is in a cell that is inside the grid and not blocked. # (N, 2) -> (N,)"""
        i, j = np.rint((points_m - (self.xs_m[0], self.ys_m[0])) / self.cell_m).astype(np.int64).T
        inside = (i >= 0) & (i < len(self.xs_m)) & (j >= 0) & (j < len(self.ys_m))
        return np.asarray(inside & ~self.blocked[np.where(inside, i, 0), np.where(inside, j, 0)])


@dataclass(frozen=True)
class Route:
    """A feasible path and its length."""

    points_m: Floats  # (P, 2)
    length_m: float


def inflated_grid(
    cylinders_m: Floats, walls_m: Floats, ends_m: Sequence[Point], inflation_m: float, cell_m: float = CELL_M
) -> Grid:
    """The map of a disc of radius ``inflation_m``, from all obstacles and ``ends_m`` with 0.5 m around."""
    corners = wall_corners(walls_m).reshape(-1, 2)
    marks = np.concatenate([cylinders_m[:, :2], corners, np.array(ends_m, np.float64).reshape(-1, 2)])
    low, high = marks.min(axis=0) - 0.5, marks.max(axis=0) + 0.5
    shape = tuple(int(n) for n in np.ceil((high - low) / cell_m) + 1)
    xs, ys = (low[axis] + cell_m * np.arange(shape[axis]) for axis in (0, 1))
    blocked = np.zeros(shape, bool)
    _block_discs(blocked, xs, ys, cylinders_m, inflation_m)
    for x, y, length, thickness, yaw in walls_m:
        _block_wall(blocked, xs, ys, (x, y, length, thickness, yaw), inflation_m)
    return Grid(xs, ys, blocked, cell_m)


def within_reach(grid: Grid, start_m: Point) -> Grid:
    """The same map with all blocked that cannot be reached from ``start_m``."""
    reached = np.zeros_like(grid.blocked)
    reached[grid.cell(start_m)] = True
    while True:
        grown = _grown(reached) & ~grid.blocked
        if np.array_equal(grown, reached):
            return replace(grid, blocked=~reached)
        reached = grown


def _grown(cells: Mask) -> Mask:
    """The cells and their four neighbours."""
    grown = cells.copy()
    grown[1:] |= cells[:-1]
    grown[:-1] |= cells[1:]
    grown[:, 1:] |= cells[:, :-1]
    grown[:, :-1] |= cells[:, 1:]
    return grown


def _block_discs(blocked: Mask, xs: Floats, ys: Floats, cylinders_m: Floats, inflation_m: float) -> None:
    """``_block_disc`` for all cylinders, in one go for those of one radius."""
    cell_m = float(xs[1] - xs[0])
    for radius in np.unique(cylinders_m[:, 2]):
        centres, reach = cylinders_m[cylinders_m[:, 2] == radius, :2], float(radius) + inflation_m
        around = np.arange(math.ceil(2.0 * reach / cell_m) + 2)
        i, j = (
            np.ceil((centres[:, axis, None] - reach - cells[0]) / cell_m).astype(np.int64) - 1 + around
            for axis, cells in enumerate((xs, ys))
        )  # (N, K) each
        away = [
            np.where((k >= 0) & (k < len(cells)), cells[np.clip(k, 0, len(cells) - 1)] - centres[:, axis, None], np.inf)
            for axis, (k, cells) in enumerate(((i, xs), (j, ys)))
        ]
        disc, row, column = np.nonzero(away[0][:, :, None] ** 2 + away[1][:, None, :] ** 2 < reach**2)
        blocked[i[disc, row], j[disc, column]] = True


def _block_disc(blocked: Mask, xs: Floats, ys: Floats, centre: Point, reach: float) -> None:
    x, y = centre
    i0, i1 = np.searchsorted(xs, (x - reach, x + reach))
    j0, j1 = np.searchsorted(ys, (y - reach, y + reach))
    gap = (xs[i0:i1, None] - x) ** 2 + (ys[None, j0:j1] - y) ** 2
    blocked[i0:i1, j0:j1] |= gap < reach**2


def _block_wall(blocked: Mask, xs: Floats, ys: Floats, wall: tuple[float, ...], inflation: float) -> None:
    x, y, length, thickness, yaw = wall
    c, s = math.cos(yaw), math.sin(yaw)
    reach_x = abs(c) * length + abs(s) * thickness + inflation
    reach_y = abs(s) * length + abs(c) * thickness + inflation
    i0, i1 = np.searchsorted(xs, (x - reach_x, x + reach_x))
    j0, j1 = np.searchsorted(ys, (y - reach_y, y + reach_y))
    dx, dy = xs[i0:i1, None] - x, ys[None, j0:j1] - y
    along, across = np.abs(c * dx + s * dy) - length, np.abs(c * dy - s * dx) - thickness
    gap = np.maximum(along, 0.0) ** 2 + np.maximum(across, 0.0) ** 2
    blocked[i0:i1, j0:j1] |= gap < inflation**2


def shortest_route(grid: Grid, start_m: Point, goal_m: Point) -> Route | None:
    """The shortest 8-connected path between two points, or None. A* with the octile distance (Hart et al. 1968)."""
    begin, end = grid.cell(start_m), grid.cell(goal_m)
    if grid.blocked[begin] or grid.blocked[end]:
        return None
    blocked = np.pad(grid.blocked, 1, constant_values=True)  # no step leaves the map
    width = blocked.shape[1]
    first, last = ((i + 1) * width + j + 1 for i, j in (begin, end))
    to_go = _octile(blocked.shape, (end[0] + 1, end[1] + 1)).ravel().tolist()
    closed = blocked.ravel().tolist()
    moves = [(di * width + dj, math.hypot(di, dj)) for di in (-1, 0, 1) for dj in (-1, 0, 1) if di or dj]
    best, came_from = {first: 0.0}, {first: first}
    queue = [(to_go[first], first)]
    while queue:
        here = heapq.heappop(queue)[1]
        if here == last:
            return Route(_points(grid, came_from, last, width), best[last] * grid.cell_m)
        if closed[here]:
            continue
        closed[here] = True
        length = best[here]
        for move, more in moves:
            there = here + move
            if not closed[there] and length + more < best.get(there, math.inf):
                best[there], came_from[there] = length + more, here
                heapq.heappush(queue, (length + more + to_go[there], there))
    return None


def _octile(shape: tuple[int, ...], goal: tuple[int, int]) -> Floats:
    """Length in cells of the shortest 8-connected way to ``goal`` on a free map, less what rounding may add."""
    dx, dy = np.abs(np.arange(shape[0]) - goal[0])[:, None], np.abs(np.arange(shape[1]) - goal[1])[None, :]
    return (np.maximum(dx, dy) + (math.sqrt(2.0) - 1.0) * np.minimum(dx, dy)) * (1.0 - 1e-9)


def _points(grid: Grid, came_from: dict[int, int], end: int, width: int) -> Floats:
    """The cells from the first to ``end``, numbered row by row on the map with a border of one. # (P, 2)"""
    cells = [end]
    while came_from[cells[-1]] != cells[-1]:
        cells.append(came_from[cells[-1]])
    rows, columns = np.divmod(np.array(cells[::-1]), width)
    return np.stack([grid.xs_m[rows - 1], grid.ys_m[columns - 1]], axis=1)


def arrival_s(
    grid: Grid,
    movers: Sequence[Mover],
    start_m: Point,
    goal_m: Point,
    clearance_m: float,
    speed_mps: float,
    limit_s: float,
    earliest_s: float = 0.0,
) -> float | None:
    """When a disc that knows where the movers will be can be at the goal at the earliest; None if not in ``limit_s``.
    Before ``earliest_s`` it does not count: so long it has to keep clear.

    All cells that it can be in are carried from time step to time step: it may wait or go to one of four neighbours,
    and is lost where a mover comes nearer than ``clearance_m`` to its centre (the disc's radius, without the mover's).
    """
    can_be = np.zeros_like(grid.blocked)
    can_be[grid.cell(start_m)] = True
    goal = grid.cell(goal_m)
    step_s = grid.cell_m / speed_mps
    for step in range(int(limit_s / step_s) + 1):
        taken = grid.blocked.copy()
        for mover in movers:
            looks = 1 + math.ceil(mover.speed_mps_max * step_s / grid.cell_m)  # it passes no cell unseen
            for time_s in np.linspace(max(step - 1, 0), step, looks) * step_s:
                reach = mover.radius_m + clearance_m
                _block_disc(taken, grid.xs_m, grid.ys_m, mover.position_m(float(time_s)), reach)
        can_be = _grown(can_be & ~taken) & ~taken
        if can_be[goal] and step * step_s >= earliest_s:
            return step * step_s
        if not can_be.any():
            return None
    return None
