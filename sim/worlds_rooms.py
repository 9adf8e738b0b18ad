"""Worlds of walls: corridors with bends, offices with doors, an open hall. Each is redrawn until a disc gets through.

The disc is ``INFLATION_M`` in radius, the Jackal's circumscribed circle: a robot of its size can also turn in place
anywhere on the way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from dsac_robot.core.values import Floats
from sim.worlds_base import Point, Pose, World, box_outline, wall_between
from sim.worlds_plan import Route, inflated_grid, shortest_route

INFLATION_M = 0.34
CELL_M = 0.1  # fine enough for a door of 0.95 m
THICKNESS_M = 0.1
Wall = tuple[float, float, float, float, float]
Disc = tuple[float, float, float]


def _between(difficulty: float, easy: float, hard: float) -> float:
    return easy + difficulty * (hard - easy)


def as_walls(walls: list[Wall]) -> Floats:
    """Rows of ``World.walls_m``. # (M, 5)"""
    return np.array(walls, np.float64).reshape(-1, 5)


def as_discs(discs: list[Disc]) -> Floats:
    """Rows of ``World.cylinders_m``. # (N, 3)"""
    return np.array(discs, np.float64).reshape(-1, 3)


def route_through(walls: list[Wall], discs: list[Disc], start_m: Point, goal_m: Point) -> Route | None:
    """The shortest way of the disc, or None."""
    grid = inflated_grid(as_discs(discs), as_walls(walls), (start_m, goal_m), INFLATION_M, CELL_M)
    return shortest_route(grid, start_m, goal_m)


def _crowd(
    walls: list[Wall], start_m: Point, goal_m: Point, count: int, draw: Callable[[], Wall | Disc]
) -> tuple[list[Wall], list[Disc], Route] | None:
    """Put ``count`` things in, each kept only while there is a way; None if there is none to begin with."""
    discs: list[Disc] = []
    route = route_through(walls, discs, start_m, goal_m)
    for _ in range(count):
        if route is None:
            return None
        thing = draw()
        if min(math.dist(thing[:2], start_m), math.dist(thing[:2], goal_m)) < 1.2:
            continue
        more_walls, more_discs = walls, discs
        if len(thing) == 3:
            more_discs = [*discs, thing]
        else:
            more_walls = [*walls, thing]
        found = route_through(more_walls, more_discs, start_m, goal_m)
        if found is not None:
            walls, discs, route = more_walls, more_discs, found
    return None if route is None else (walls, discs, route)


# -- corridors -------------------------------------------------------------------------------------------------------


def generate_corridors(seed: int, difficulty: float | None = None) -> World:
    """One corridor of three to five straight pieces with bends, closed at both ends, posts standing in it.

    ``difficulty`` in [0, 1] takes the width from 2.4 to 1.0 m, the bends from gentle to sharp, and brings posts; None:
    the seed draws it. The same arguments give the same world.
    """
    rng = np.random.default_rng((seed, 1))
    level = float(rng.uniform()) if difficulty is None else difficulty
    width, bend = _between(level, 2.4, 1.0), _between(level, 0.35, 1.05)
    while True:
        middle = _middle_line(rng, bend)
        walls = _walls_along(middle, width)
        first, last = _unit(middle[1] - middle[0]), _unit(middle[-1] - middle[-2])
        start_m, goal_m = _point(middle[0] + 1.0 * first), _point(middle[-1] - 1.0 * last)
        heading = math.atan2(first[1], first[0]) + float(rng.uniform(-0.4, 0.4))

        def post(middle: Floats = middle) -> Disc:
            leg = int(rng.integers(len(middle) - 1))
            along, aside = rng.uniform(0.1, 0.9), rng.uniform(-0.5, 0.5) * width
            direction = middle[leg + 1] - middle[leg]
            x, y = middle[leg] + along * direction + aside * np.array([-1.0, 1.0]) * _unit(direction)[::-1]
            return float(x), float(y), float(rng.uniform(0.05, 0.15))

        crowded = _crowd(walls, start_m, goal_m, round(_between(level, 0.0, 6.0)), post)
        if crowded is not None:
            walls, discs, route = crowded
            start = (*start_m, heading)
            return World(f"corridors_{seed}", as_discs(discs), start, goal_m, route.length_m, as_walls(walls))


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))


def _point(vector: Floats) -> Point:
    return float(vector[0]), float(vector[1])


def _middle_line(rng: np.random.Generator, bend_rad: float) -> Floats:
    """Vertices of the corridor's middle line: it always goes forward in y, so that it never meets itself. # (V, 2)"""
    count = int(rng.integers(3, 6))
    headings = 0.5 * math.pi + rng.uniform(0.5 * bend_rad, bend_rad, count) * rng.choice([-1.0, 1.0]) * (-1.0) ** (
        np.arange(count)
    )
    lengths = rng.uniform(2.5, 4.0, count)
    steps = lengths[:, None] * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def _walls_along(middle: Floats, width_m: float) -> list[Wall]:
    """Both sides of a corridor with mitred corners, and its two ends."""
    directions = np.diff(middle, axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    normals = np.stack([-directions[:, 1], directions[:, 0]], axis=1)
    before, after = np.concatenate([normals[:1], normals]), np.concatenate([normals, normals[-1:]])
    mitre = (before + after) / (1.0 + np.sum(before * after, axis=1, keepdims=True))
    aside = 0.5 * (width_m + THICKNESS_M)
    sides = [middle + sign * aside * mitre for sign in (1.0, -1.0)]
    walls = [
        wall_between(
            _point(a - 0.5 * THICKNESS_M * _unit(b - a)), _point(b + 0.5 * THICKNESS_M * _unit(b - a)), THICKNESS_M
        )
        for side in sides
        for a, b in itertools.pairwise(side)
    ]
    return [*walls, *(wall_between(_point(sides[0][end]), _point(sides[1][end]), THICKNESS_M) for end in (0, -1))]


# -- offices ---------------------------------------------------------------------------------------------------------


def generate_offices(seed: int, difficulty: float | None = None) -> World:
    """A floor of rooms behind each other, a door in every wall between two, desks standing in them.

    A rectangle is split in two again and again; each wall that splits has a door, so that all rooms are connected.
    ``difficulty`` in [0, 1] takes the doors from 1.6 to 0.95 m, makes rooms smaller and brings desks; None: the seed
    draws it. The same arguments give the same world.
    """
    rng = np.random.default_rng((seed, 2))
    level = float(rng.uniform()) if difficulty is None else difficulty
    door_m, room_m = _between(level, 1.6, 0.95), _between(level, 4.0, 2.2)
    while True:
        half, depth = float(rng.uniform(3.0, 4.5)), float(rng.uniform(11.6, 13.0))
        walls: list[Wall] = box_outline((-half, -0.8), (half, depth), THICKNESS_M)
        _split(rng, walls, [], (-half, -0.8, half, depth), door_m, room_m)
        start_m = (float(rng.uniform(0.8 - half, half - 0.8)), 0.0)
        goal_m = (float(rng.uniform(0.8 - half, half - 0.8)), float(rng.uniform(10.0, depth - 0.8)))

        def desk(half: float = half, depth: float = depth) -> Wall:
            x, y, yaw = rng.uniform(-half, half), rng.uniform(0.0, depth), rng.uniform(0.0, math.pi)
            return float(x), float(y), float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.2, 0.4)), float(yaw)

        crowded = _crowd(walls, start_m, goal_m, round(_between(level, 0.0, 8.0)), desk)
        if crowded is not None:
            walls, _, route = crowded
            start: Pose = (*start_m, 0.5 * math.pi + float(rng.uniform(-0.4, 0.4)))
            return World(f"offices_{seed}", as_discs([]), start, goal_m, route.length_m, as_walls(walls))


def _split(
    rng: np.random.Generator,
    walls: list[Wall],
    doors: list[Point],
    room: tuple[float, float, float, float],
    door_m: float,
    room_m: float,
) -> None:
    """Split ``room`` (x0, y0, x1, y1) by a wall with a door, then both halves, until they are too small to split."""
    x0, y0, x1, y1 = room
    across = y1 - y0 > x1 - x0  # the wall runs along x
    (low, high), (begin, end) = ((y0, y1), (x0, x1)) if across else ((x0, x1), (y0, y1))
    if high - low < 2.0 * room_m or end - begin < door_m + 0.8:
        return

    def at(along: float, position: float) -> Point:
        return (along, position) if across else (position, along)

    for _ in range(20):
        position = float(rng.uniform(low + room_m, high - room_m)) if high - low > 2.0 * room_m else 0.5 * (low + high)
        gap = min((math.dist(at(side, position), door) for side in (begin, end) for door in doors), default=9.0)
        if gap > 0.5 * door_m + 0.5:  # the new wall ends beside the doors that are there
            break
    else:
        return
    door = float(rng.uniform(begin + 0.5 * door_m + 0.3, end - 0.5 * door_m - 0.3))
    doors.append(at(door, position))
    walls.append(wall_between(at(begin, position), at(door - 0.5 * door_m, position), THICKNESS_M))
    walls.append(wall_between(at(door + 0.5 * door_m, position), at(end, position), THICKNESS_M))
    for half in ((low, position), (position, high)):
        part = (x0, half[0], x1, half[1]) if across else (half[0], y0, half[1], y1)
        _split(rng, walls, doors, part, door_m, room_m)


# -- an open hall ----------------------------------------------------------------------------------------------------


def generate_hall(seed: int, difficulty: float | None = None) -> World:
    """An open hall with pillars: room for what moves. ``difficulty`` in [0, 1] brings pillars; None: the seed draws."""
    rng = np.random.default_rng((seed, 3))
    level = float(rng.uniform()) if difficulty is None else difficulty
    half = float(rng.uniform(2.5, 5.0))
    walls: list[Wall] = box_outline((-half, -1.0), (half, 11.0), THICKNESS_M)
    start_m, goal_m = (float(rng.uniform(-1.5, 1.5)), 0.0), (float(rng.uniform(-1.5, 1.5)), 10.0)

    def pillar() -> Disc:
        return float(rng.uniform(-half, half)), float(rng.uniform(1.0, 9.0)), float(rng.uniform(0.1, 0.3))

    crowded = _crowd(walls, start_m, goal_m, round(_between(level, 1.0, 8.0)), pillar)
    if crowded is None:
        raise AssertionError("an empty hall has a way through")
    walls, discs, route = crowded
    start = (*start_m, 0.5 * math.pi + float(rng.uniform(-0.4, 0.4)))
    return World(f"hall_{seed}", as_discs(discs), start, goal_m, route.length_m, as_walls(walls))
