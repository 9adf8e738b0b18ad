"""The way to the goal through what is known: the cost of the cheapest path from every cell of the rolling map.

As the global planner of ROS's navigation stack (navfn on an inflated costmap, unknown space free) it gives its peers
their direction; it is planned anew from the lidar's own map, as there is no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsac_robot.core.params import param
from dsac_robot.core.values import Floats
from sim.peers.rolling_map import CELL_M, DistanceMap

COARSE = 2  # the way is planned on every second cell
STEP_M = COARSE * CELL_M
SWEEPS_MAX = 40
CONVERGED_M = 1e-3  # of cost
DIAGONAL = np.sqrt(2.0)
NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


@dataclass(frozen=True)
class InflationParams:
    """How much dearer a path is near obstacles (costmap_2d's inflation layer: an exponential beyond the footprint)."""

    padding_m: float = param(0.03, unit="m", low=0.0, high=0.5, help="blocked: inscribed radius and so much more")
    weight: float = param(6.0, unit="", low=0.0, high=100.0, help="a path at the padding costs 1 + this per metre")
    decay_m: float = param(0.10, unit="m", low=0.01, high=2.0, help="the surcharge falls to 1/e within this distance")
    blocked: float = param(60.0, unit="", low=1.0, high=1e4, help="cost per metre of blocked cells; finite, to get out")


@dataclass(frozen=True, eq=False)
class CostToGo:
    """Cost of the cheapest path from the centres of coarse cells to the goal."""

    costs: Floats  # (I, J)
    low_m: Floats  # (2,) centre of the first cell, odom frame

    def at(self, points_m: Floats) -> Floats:
        """Bilinear between cell centres; beyond the border as at it. # (..., 2) -> (...)"""
        place = (points_m - self.low_m) / STEP_M
        limit = np.array(self.costs.shape) - 1.001
        place = np.clip(place, 0.0, limit)
        cell = place.astype(np.int64)
        i, j = cell[..., 0], cell[..., 1]
        u, v = place[..., 0] - i, place[..., 1] - j
        below = (1.0 - v) * self.costs[i, j] + v * self.costs[i, j + 1]
        above = (1.0 - v) * self.costs[i + 1, j] + v * self.costs[i + 1, j + 1]
        return np.asarray((1.0 - u) * below + u * above)

    def path(self, start_m: tuple[float, float], length_m: float) -> Floats:
        """Cell centres of the cheapest path from ``start_m``, at most so long. # (P, 2), P at least 1"""
        rows, columns = self.costs.shape
        here = tuple(
            int(n) for n in np.clip(np.rint((np.array(start_m) - self.low_m) / STEP_M), 0, (rows - 1, columns - 1))
        )
        cells = [here]
        for _ in range(int(length_m / STEP_M)):
            near = [(here[0] + i, here[1] + j) for i, j in NEIGHBOURS]
            near = [cell for cell in near if 0 <= cell[0] < rows and 0 <= cell[1] < columns]
            steepest = min(
                near, key=lambda c: (self.costs[c] - self.costs[here]) / np.hypot(c[0] - here[0], c[1] - here[1])
            )
            if self.costs[steepest] >= self.costs[here]:
                break
            here = steepest
            cells.append(here)
        return self.low_m + np.array(cells) * STEP_M


def plan(
    distance_m: DistanceMap, low_m: Floats, goal_m: tuple[float, float], inscribed_m: float, params: InflationParams
) -> CostToGo:
    """Cost to go on the distance map whose first cell's centre is ``low_m``. A goal outside the window is reached over
    the window's border, with the straight line from there."""
    distance = distance_m[::COARSE, ::COARSE].astype(np.float64)
    gap = distance - (inscribed_m + params.padding_m)
    price = 1.0 + params.weight * np.exp(-np.maximum(gap, 0.0) / params.decay_m)
    price = np.where(gap < 0.0, params.blocked, price) * STEP_M
    seeds = np.full(price.shape, np.inf)
    cell = np.rint((np.array(goal_m) - low_m) / STEP_M).astype(np.int64)
    if np.all((cell >= 0) & (cell < price.shape)):
        seeds[tuple(cell)] = 0.0
    else:
        border = np.ones(price.shape, bool)
        border[1:-1, 1:-1] = False
        centres = low_m + np.argwhere(border) * STEP_M
        seeds[border] = np.hypot(*(centres - np.array(goal_m)).T) + price[border]
    return CostToGo(_sweep(price, seeds), low_m)


def _sweep(price: Floats, seeds: Floats) -> Floats:
    """Least cost of an 8-connected path to a seed: row after row, forwards and backwards, until no step is a gain.

    Entering and leaving a cell cost half its price each. Within a row a path is a difference of running sums, so that
    the whole row is done at once. # (I, J) both
    """
    rows, columns = price.shape
    padded = np.full((rows, columns + 2), np.inf)
    costs = padded[:, 1:-1]
    costs[:] = seeds
    sides = np.lib.stride_tricks.sliding_window_view(padded, columns, axis=1)  # (I, 3, J): before, at and after a cell
    prices = np.lib.stride_tricks.sliding_window_view(np.pad(price, ((0, 0), (1, 1))), columns, axis=1)
    half = 0.5 * np.array([[DIAGONAL], [1.0], [DIAGONAL]])
    down = half * (price[1:, None] + prices[:-1])  # (I - 1, 3, J) from row i to i + 1
    up = half * (price[:-1, None] + prices[1:])
    running = np.zeros_like(price)
    np.cumsum(0.5 * (price[:, 1:] + price[:, :-1]), axis=1, out=running[:, 1:])
    line = list(zip(costs, running, strict=True))
    forwards = list(zip(line[1:], sides[:-1], down, strict=True))
    backwards = list(zip(line[:-1], sides[1:], up, strict=True))[::-1]
    row, across = np.empty(columns), np.empty((3, columns))

    def along(costs: Floats, sums: Floats) -> None:
        np.subtract(costs, sums, out=row)
        np.minimum.accumulate(row, out=row)
        np.add(row, sums, out=row)
        np.minimum(costs, row, out=costs)
        np.add(costs, sums, out=row)
        np.minimum.accumulate(row[::-1], out=row[::-1])
        np.subtract(row, sums, out=row)
        np.minimum(costs, row, out=costs)

    def sweep(first: tuple[Floats, Floats], steps: list[tuple[tuple[Floats, Floats], Floats, Floats]]) -> None:
        along(*first)
        for (mine, sums), beside, lengths in steps:
            np.add(beside, lengths, out=across)
            for one in across:
                np.minimum(mine, one, out=mine)
            along(mine, sums)

    def gains(part: Floats, beside: Floats, lengths: Floats) -> bool:
        return bool(np.any((beside + lengths).min(axis=1) < part - CONVERGED_M))

    for _ in range(SWEEPS_MAX):
        sweep(line[-1], backwards)
        if not gains(costs[1:], sides[:-1], down):
            break
        sweep(line[0], forwards)
        if not gains(costs[:-1], sides[1:], up):
            break
    return np.ascontiguousarray(costs)
