"""The peers' way to the goal: the cheapest one, by another algorithm too, and the distances it is priced by."""

import heapq
from dataclasses import replace

import numpy as np

from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Floats, Scan
from sim.peers.cost_to_go import COARSE, NEIGHBOURS, STEP_M, InflationParams, plan
from sim.peers.rolling_map import CELL_M, REACH_CELLS, RollingMap

INSCRIBED_M = 0.2


def dijkstra(price: Floats, goal: tuple[int, int]) -> Floats:
    costs = np.full(price.shape, np.inf)
    costs[goal] = 0.0
    queue = [(0.0, *goal)]
    while queue:
        cost, i, j = heapq.heappop(queue)
        if cost > costs[i, j]:
            continue
        for di, dj in NEIGHBOURS:
            a, b = i + di, j + dj
            if 0 <= a < price.shape[0] and 0 <= b < price.shape[1]:
                through = cost + np.hypot(di, dj) * 0.5 * (price[i, j] + price[a, b])
                if through < costs[a, b]:
                    costs[a, b] = through
                    heapq.heappush(queue, (through, a, b))
    return costs


def test_the_cost_to_go_is_that_of_dijkstra_in_a_maze() -> None:
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.0, 0.6, (60, 80)).astype(np.float32)
    params = InflationParams()
    low, goal = np.array([1.0, -2.0]), (12, 31)
    goal_m = tuple(low + np.array(goal) * STEP_M)
    found = plan(distance, low, (goal_m[0], goal_m[1]), INSCRIBED_M, params)
    gap = distance[::COARSE, ::COARSE].astype(float) - INSCRIBED_M - params.padding_m
    price = np.where(gap < 0, params.blocked, 1 + params.weight * np.exp(-np.maximum(gap, 0) / params.decay_m)) * STEP_M
    assert np.allclose(found.costs, dijkstra(price, goal), atol=1e-6)


def test_a_goal_beyond_the_window_pulls_straight_to_it() -> None:
    free = np.full((100, 100), 0.6, np.float32)
    way = plan(free, np.zeros(2), (10.0, 1.25), INSCRIBED_M, InflationParams(weight=0.0))
    path = way.path((0.5, 1.25), 1.5)
    assert np.ptp(path[:, 1]) <= STEP_M
    assert path[-1, 0] - path[0, 0] > 1.4


def test_distances_are_those_to_the_nearest_occupied_cell() -> None:
    grid = RollingMap(load_robot("jackal").lidar)
    rng = np.random.default_rng(1)
    grid.occupied[tuple(rng.integers(100, 190, (2, 40)))] = True
    occupied = np.argwhere(grid.occupied)
    cells = rng.integers(80, 210, (300, 2))
    gaps = np.hypot(*(cells[:, None] - occupied).transpose(2, 0, 1)).min(axis=1)
    assert np.allclose(grid.distances()[tuple(cells.T)], np.minimum(gaps, REACH_CELLS) * CELL_M, atol=1e-5)


def test_the_map_marks_what_a_beam_meets_forgets_what_a_beam_goes_through_and_moves_with_the_robot() -> None:
    lidar = replace(load_robot("jackal").lidar, noise_std_m=0.0)
    grid = RollingMap(lidar)
    wall = np.full(lidar.beams, 2.0, np.float32)

    def occupied(x: float, y: float) -> bool:
        (cell,), (inside,) = grid.cells(np.array([[x, y]]))
        return bool(inside and grid.occupied[tuple(cell)])

    def scan(stamp: int, ranges: Floats) -> Scan:
        return Scan(stamp, np.asarray(ranges, np.float32))

    grid.update(scan(0, wall), (0.0, 0.0, 0.0))
    meets = 2.0 * np.cos(lidar.angle_min_rad + 360 * lidar.angle_increment_rad) + lidar.x_m
    assert occupied(meets, 0.0)
    assert not occupied(1.0, 0.0)
    grid.update(scan(1, wall), (1.0, 0.0, 0.0))  # the ring is 1 m farther on: the old one was passed
    assert not occupied(meets, 0.0)
    assert occupied(meets + 1.0, 0.0)
    assert occupied(1.0 + lidar.x_m, 1.99)
    grid.update(scan(2, wall), (9.0, 0.0, 0.0))
    assert not grid.cells(np.array([[1.0 + lidar.x_m, 1.99]]))[1].any()
