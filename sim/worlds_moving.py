"""Pedestrians: cylinders that walk about in any world and do not yield."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dsac_robot.core.values import Floats
from sim.worlds_base import Mover, World
from sim.worlds_clutter import generate_clutter
from sim.worlds_plan import Grid, arrival_s, inflated_grid, within_reach
from sim.worlds_rooms import INFLATION_M, generate_corridors, generate_hall, generate_offices


@dataclass(frozen=True)
class PedestrianParams:
    """Who walks, and what a world with them must allow."""

    radius_m: float = 0.25
    count: tuple[int, int] = (1, 6)  # at difficulty 0 and 1
    speed_mps_max: tuple[float, float] = (0.4, 1.2)  # at difficulty 0 and 1; each walks at 0.3 of it or more
    walk_s: float = 40.0  # then back the same way
    start_clear_m: float = 2.0  # nobody sets out nearer to the robot
    robot_mps: float = 1.0  # a disc of this speed that knows all walks reaches the goal …
    arrival_s_max: float = 60.0  # … within this time


def with_pedestrians(
    world: World, seed: int, difficulty: float, params: PedestrianParams = PedestrianParams()
) -> World:
    """``world`` with pedestrians, more and faster ones with ``difficulty`` in [0, 1].

    They walk straight from point to point where they have room and turn where they please. Solvable by construction:
    a search in space and time finds a way for a disc of the robot's size; walks without one are drawn again, after some
    tries with one pedestrian fewer. The same arguments give the same world.
    """
    rng = np.random.default_rng((seed, 4))
    ends = (world.start[:2], world.goal_m)
    walkable = inflated_grid(world.cylinders_m, world.walls_m, ends, params.radius_m + 0.05)
    walkable = within_reach(walkable, world.start[:2])  # nobody walks behind the walls
    passable = inflated_grid(world.cylinders_m, world.walls_m, ends, INFLATION_M - 0.04)
    count = round(params.count[0] + difficulty * (params.count[1] - params.count[0]))
    fastest = params.speed_mps_max[0] + difficulty * (params.speed_mps_max[1] - params.speed_mps_max[0])
    for attempt in range(4 * count):
        walkers = count - attempt // 4
        walks = [_walk(rng, walkable, world, float(rng.uniform(0.3, 1.0)) * fastest, params) for _ in range(walkers)]
        movers = tuple(walk for walk in walks if walk is not None)
        clearance, speed, limit_s = INFLATION_M + 0.1, params.robot_mps, params.arrival_s_max
        if movers and arrival_s(passable, movers, *ends, clearance, speed, limit_s) is not None:
            return replace(world, name=f"{world.name}_pedestrians", movers=movers)
    return world


def _walk(
    rng: np.random.Generator, grid: Grid, world: World, speed_mps: float, params: PedestrianParams
) -> Mover | None:
    """A walk of ``walk_s``, or None where there is no room to set out."""
    low, high = np.minimum(world.start[:2], world.goal_m) - 2.5, np.maximum(world.start[:2], world.goal_m) + 2.5
    candidates = rng.uniform(low, high, (60, 2))
    clear = np.linalg.norm(candidates - world.start[:2], axis=1) > params.start_clear_m
    candidates = candidates[clear & grid.free(candidates)]
    if len(candidates) == 0:
        return None
    points, walked = [candidates[0]], 0.0
    for _ in range(200):
        target = points[-1] + rng.uniform(1.0, 4.0) * _heading(float(rng.uniform(0.0, 2.0 * math.pi)))
        if np.all((low <= target) & (target <= high)) and _sees(grid, points[-1], target):
            walked += float(np.linalg.norm(target - points[-1]))
            points.append(target)
        if walked > speed_mps * params.walk_s:
            break
    return Mover.along(params.radius_m, np.array(points), speed_mps) if len(points) > 1 else None


def _heading(yaw_rad: float) -> Floats:
    return np.array([math.cos(yaw_rad), math.sin(yaw_rad)])


def _sees(grid: Grid, begin: Floats, end: Floats) -> bool:
    """Whether the straight line is free, looked at every half cell."""
    count = int(np.linalg.norm(end - begin) / (0.5 * grid.cell_m)) + 2
    return bool(np.all(grid.free(begin + np.linspace(0.0, 1.0, count)[:, None] * (end - begin))))


def generate_pedestrians(seed: int, difficulty: float | None = None) -> World:
    """Pedestrians in a hall, in thin clutter, in a wide corridor or in an office, by the seed.

    ``difficulty`` in [0, 1] brings more and faster ones (at most 1.2 m/s); None: the seed draws it.
    """
    rng = np.random.default_rng((seed, 5))
    level = float(rng.uniform()) if difficulty is None else difficulty
    kind = int(rng.integers(4))
    if kind == 0:
        base = generate_hall(seed, level)
    elif kind == 1:
        base = generate_clutter(seed, difficulty=0.3 * level)
    elif kind == 2:
        base = generate_corridors(seed, 0.3 * level)
    else:
        base = generate_offices(seed, 0.3 * level)
    return with_pedestrians(base, seed, level)
