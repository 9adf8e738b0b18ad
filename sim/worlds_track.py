"""Worlds of task ``track``: a path in a hall, and a cylinder that crosses it when the robot would be there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsac_robot.core.values import Floats
from sim.worlds_base import Mover, Pose, Route, World, WorldError, box_outline
from sim.worlds_plan import arrival_s, inflated_grid
from sim.worlds_rooms import THICKNESS_M, as_discs, as_walls

HALF_WIDTH_M = 4.0  # of the hall
SPACING_M = 0.1  # of the path's points
BEYOND_M = 3.0  # the path goes on after the way that the episode's time is enough for
ROBOT_DISC_M = 0.37
SEARCH_MARGIN_M = 0.1
DURATION_S = 40.0  # of an episode, where nothing else is said
REFERENCE_MPS = (0.2, 0.4)  # lowest and highest reference speed, where nothing else is said; the paper's is 0.3


@dataclass(frozen=True)
class TrackSceneParams:
    """What is drawn. Obstacle and offsets as in GOPS's ``pyth_mobilerobot``."""

    radius_m: float = 0.37  # the obstacle's
    obstacle_mps: tuple[float, float] = (0.2, 0.5)  # its highest speed at difficulty 0 and 1
    skew_rad: float = 0.3  # it crosses at a right angle, give or take
    sway_m: tuple[float, float] = (0.0, 0.8)  # the path's highest amplitude at difficulty 0 and 1
    offset_m: float = 0.3  # of the start from the path
    offset_rad: float = 0.3
    posts: int = 8


@dataclass(frozen=True)
class TrackWorlds:
    """A source of worlds: speed and difficulty of each are the seed's, from these ranges."""

    reference_mps: tuple[float, float] = REFERENCE_MPS
    difficulty: tuple[float, float] = (0.0, 1.0)
    duration_s: float = DURATION_S

    def __call__(self, seed: int) -> World:
        """The world of ``seed``. Raises WorldError as ``generate_track`` does."""
        rng = np.random.default_rng((seed, 9))
        speed, level = (float(rng.uniform(*bounds)) for bounds in (self.reference_mps, self.difficulty))
        return generate_track(seed, speed, self.duration_s, level)


def generate_track(
    seed: int,
    speed_mps: float,
    duration_s: float,
    difficulty: float | None = None,
    params: TrackSceneParams = TrackSceneParams(),
) -> World:
    """A world, with its route, for an episode of ``duration_s``. Same arguments, same world.

    ``difficulty`` in [0, 1] makes the path sway and the obstacle fast; None: the seed draws it. Solvable by
    construction: a disc that knows the obstacle's way keeps clear of it for the whole time and then gets to where the
    reference is at the end, at 1.5 times the reference speed at most; scenes without such a way are drawn again.
    Raises WorldError where no scene of 100 has one: the way, speed times duration, is too short.
    """
    rng = np.random.default_rng((seed, 8))
    level = float(rng.uniform()) if difficulty is None else difficulty
    way_m = speed_mps * duration_s
    for _ in range(100):
        path = _path(rng, way_m + BEYOND_M, params.sway_m[0] + level * (params.sway_m[1] - params.sway_m[0]))
        walls = as_walls(box_outline((-3.0, -HALF_WIDTH_M), (path[-1, 0] + 3.0, HALF_WIDTH_M), THICKNESS_M))
        posts = _posts(rng, path, params)
        fastest = params.obstacle_mps[0] + level * (params.obstacle_mps[1] - params.obstacle_mps[0])
        mover = _crossing(rng, path, speed_mps, duration_s, float(rng.uniform(0.3, 1.0)) * fastest, params)
        heading = math.atan2(*(path[1] - path[0])[::-1])
        aside = float(rng.uniform(-params.offset_m, params.offset_m))
        yaw = heading + float(rng.uniform(-params.offset_rad, params.offset_rad))
        start: Pose = (
            float(path[0, 0] - aside * math.sin(heading)),
            float(path[0, 1] + aside * math.cos(heading)),
            yaw,
        )
        x, y = path[min(round(way_m / SPACING_M), len(path) - 1)]
        goal = float(x), float(y)
        clearance = ROBOT_DISC_M + SEARCH_MARGIN_M
        grid = inflated_grid(posts, walls, (start[:2], goal), clearance)
        limits = 1.5 * speed_mps, 1.5 * duration_s, duration_s
        if arrival_s(grid, (mover,), start[:2], goal, clearance, *limits) is not None:
            route = Route(path, speed_mps)
            return World(f"track_{seed}", posts, start, goal, way_m, walls, (mover,), route)
    raise WorldError(f"track: no scene of {speed_mps:.3g} m/s for {duration_s:.3g} s can be solved: its way is short")


def _path(rng: np.random.Generator, length_m: float, sway_m: float) -> Floats:
    """A sine along x with points every ``SPACING_M`` of its length, from x = 0. # (P, 2)"""
    amplitude, wave, phase = rng.uniform(0.0, sway_m), rng.uniform(5.0, 9.0), rng.uniform(0.0, 2.0 * math.pi)
    x = np.arange(0.0, length_m + 0.01, 0.02)
    fine = np.stack([x, amplitude * np.sin(2.0 * math.pi * x / wave + phase)], axis=1)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    ways = np.arange(0.0, min(length_m, way[-1]), SPACING_M)
    return np.stack([np.interp(ways, way, fine[:, axis]) for axis in (0, 1)], axis=1)


def _posts(rng: np.random.Generator, path: Floats, params: TrackSceneParams) -> Floats:
    """Posts beside the path, for the lidar to see: none within 1.5 m of it. # (N, 3)"""
    points = np.stack(
        [rng.uniform(-2.5, path[-1, 0] + 2.5, params.posts), rng.uniform(-3.5, 3.5, params.posts)], axis=1
    )
    away = np.linalg.norm(points[:, None] - path[None], axis=2).min(axis=1)
    return as_discs([(float(x), float(y), 0.1) for x, y in points[away > 1.5]])


def _crossing(
    rng: np.random.Generator,
    path: Floats,
    speed_mps: float,
    duration_s: float,
    obstacle_mps: float,
    params: TrackSceneParams,
) -> Mover:
    """A cylinder that is on the path when the reference is there, and goes to and fro across the hall."""
    meet_s = float(rng.uniform(0.25, 0.7)) * duration_s
    at = min(round(meet_s * speed_mps / SPACING_M), len(path) - 2)
    step = path[at + 1] - path[at]
    angle = math.atan2(step[1], step[0]) + 0.5 * math.pi + float(rng.uniform(-params.skew_rad, params.skew_rad))
    direction = np.array([math.cos(angle), math.sin(angle)])
    reach = HALF_WIDTH_M - params.radius_m - 0.05
    low, high = sorted((edge - path[at, 1]) / direction[1] for edge in (-reach, reach))  # along, from where it crosses
    width = high - low
    # Unfold its going to and fro: at ``meet_s`` it is -low from one end, going up or down.
    way = (-low if rng.uniform() < 0.5 else 2.0 * width + low) - obstacle_mps * meet_s * float(rng.uniform(0.95, 1.05))
    turns = np.arange(math.floor(way / width) + 1, math.ceil((way + obstacle_mps * duration_s) / width) + 2)
    ways = np.concatenate([[way], turns * width])
    folded = low + width - np.abs(np.mod(ways, 2.0 * width) - width)
    return Mover.along(params.radius_m, path[at] + folded[:, None] * direction, obstacle_mps)
