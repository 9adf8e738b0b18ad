"""Arenas in which the guard is attacked: a closed room with posts and pieces of wall, small enough that a robot which
drives anyhow soon runs into something."""

from __future__ import annotations

import math

import numpy as np

from sim.worlds_base import World, box_outline, wall_between

START_CLEAR_M = 0.6  # from the start to the nearest obstacle; more than the disc that the guard assumes free
WALL_M = 0.1  # thickness


def arena(seed: int, roomy: bool = False) -> World:
    """The arena of a seed. ``roomy``: larger and emptier, for drives among obstacles that move. Never raises."""
    rng = np.random.default_rng((seed, 11))
    low, high = (3.5, 5.0) if roomy else (2.2, 4.0)
    half_x, half_y = (float(value) for value in rng.uniform(low, high, 2))
    start = float(rng.uniform(-0.5, 0.5)) * half_x, float(rng.uniform(-0.5, 0.5)) * half_y
    count = int(rng.integers(2, 7) if roomy else rng.integers(3, 15))
    posts = np.column_stack(
        [rng.uniform(-half_x, half_x, count), rng.uniform(-half_y, half_y, count), rng.uniform(0.04, 0.3, count)]
    )
    gap = np.hypot(posts[:, 0] - start[0], posts[:, 1] - start[1]) - posts[:, 2]
    walls = box_outline((-half_x, -half_y), (half_x, half_y), WALL_M)
    for _ in range(int(rng.integers(0, 2) if roomy else rng.integers(0, 3))):
        x, y, turn = rng.uniform(-half_x, half_x), rng.uniform(-half_y, half_y), rng.uniform(0.0, math.pi)
        reach = float(rng.uniform(0.2, 0.7))
        if math.hypot(x - start[0], y - start[1]) > reach + START_CLEAR_M + WALL_M:
            dx, dy = reach * math.cos(turn), reach * math.sin(turn)
            walls.append(wall_between((x - dx, y - dy), (x + dx, y + dy), WALL_M))
    yaw = float(rng.uniform(-math.pi, math.pi))
    goal = start[0] + math.cos(yaw), start[1] + math.sin(yaw)  # nobody looks for it
    return World(f"arena_{seed}", posts[gap > START_CLEAR_M], (*start, yaw), goal, 1.0, np.array(walls))
