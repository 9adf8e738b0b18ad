"""Worlds by name: generators with a difficulty, their pools for training, and BARN's files.

The parts are in ``worlds_base`` (what a world is), ``worlds_plan`` (whether one can be solved), ``worlds_clutter``,
``worlds_rooms``, ``worlds_moving`` (the generators) and ``worlds_barn`` (the reader).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dsac_robot.core.params import ParameterError
from sim.worlds_barn import BARN_GOAL_M, BARN_START, CELL_M, barn_ids, read_barn_world
from sim.worlds_base import Mover, Route, World, WorldError, empty_world
from sim.worlds_clutter import ClutterParams, generate_clutter
from sim.worlds_moving import PedestrianParams, generate_pedestrians, with_pedestrians
from sim.worlds_rooms import generate_corridors, generate_hall, generate_offices
from sim.worlds_track import TrackWorlds

__all__ = [
    "BARN_GOAL_M",
    "BARN_START",
    "CELL_M",
    "ClutterParams",
    "GENERATORS",
    "Mover",
    "PedestrianParams",
    "WORLD_KINDS",
    "Route",
    "TRACK",
    "TrackWorlds",
    "World",
    "WorldError",
    "WorldMix",
    "barn_ids",
    "empty_world",
    "generate",
    "generate_clutter",
    "generate_corridors",
    "generate_hall",
    "generate_offices",
    "generate_pedestrians",
    "load_world",
    "pooled_clutter",
    "read_barn_world",
    "with_pedestrians",
]

POOL = 4096  # worlds that training draws from: each is made once in a process


def _clutter(seed: int, difficulty: float | None) -> World:
    return generate_clutter(seed, difficulty=difficulty)


GENERATORS: Mapping[str, Callable[[int, float | None], World]] = {
    "clutter": _clutter,
    "corridors": generate_corridors,
    "offices": generate_offices,
    "pedestrians": generate_pedestrians,
}
WORLD_KINDS = (*GENERATORS, "mix")
TRACK = "track"  # the kind of worlds that have a route: those of task ``track``


def generate(kind: str, seed: int, difficulty: float | None = None) -> World:
    """The world of a generator, or with "mix" of one that the seed chooses; solvable by construction.

    ``difficulty`` is in [0, 1]; None: the seed draws it. "track" gives a world with a route (no part of a mix). Raises
    WorldError for an unknown kind, a negative seed or a difficulty out of range.
    """
    if kind not in (*WORLD_KINDS, TRACK):
        raise WorldError(f"unknown kind of world {kind!r}; known: {', '.join((*WORLD_KINDS, TRACK))}")
    if seed < 0 or not (difficulty is None or 0.0 <= difficulty <= 1.0):
        raise WorldError(f"{kind}: seed = {seed} must not be negative, difficulty = {difficulty} must be in [0, 1]")
    if kind == TRACK:
        return TrackWorlds(difficulty=(0.0, 1.0) if difficulty is None else (difficulty, difficulty))(seed)
    if kind == "mix":
        kind = tuple(GENERATORS)[int(np.random.default_rng((seed, 6)).integers(len(GENERATORS)))]
    return GENERATORS[kind](seed, difficulty)


@lru_cache(maxsize=POOL)
def pooled_clutter(seed: int) -> World:
    """``generate_clutter`` from a pool of 4096 worlds, for training: each is made once in a process."""
    return generate_clutter(seed % POOL)


@dataclass(frozen=True)
class WorldMix:
    """A source of worlds: of a kind, with difficulties from a range, out of a pool of 4096.

    Raises ParameterError for an unknown kind and for a range that is not low, high in [0, 1].
    """

    kind: str = "clutter"
    difficulty: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.kind not in WORLD_KINDS:
            raise ParameterError(f"worlds = {self.kind!r} must be one of {', '.join(WORLD_KINDS)}")
        if len(self.difficulty) != 2 or not 0.0 <= self.difficulty[0] <= self.difficulty[1] <= 1.0:
            raise ParameterError(f"difficulty = {list(self.difficulty)} must be [low, high] with 0 <= low <= high <= 1")

    def __call__(self, seed: int) -> World:
        """The world of ``seed``."""
        return _pooled(self.kind, self.difficulty, seed % POOL)


@lru_cache(maxsize=POOL)
def _pooled(kind: str, difficulty: tuple[float, ...], seed: int) -> World:
    if difficulty == (0.0, 1.0):  # the generator's own draw over the whole range
        return generate(kind, seed)
    return generate(kind, seed, float(np.random.default_rng((seed, 7)).uniform(difficulty[0], difficulty[1])))


def load_world(text: str) -> World:
    """The world that ``text`` names: "empty", "KIND:SEED", "KIND:SEED:DIFFICULTY" or "barn:FOLDER:N".

    KIND is one of ``WORLD_KINDS``, or "track" for a world with a route (its reference speed is the seed's too).

    Raises WorldError naming the text and the forms there are, or the file that cannot be read.
    """
    kind, _, rest = text.partition(":")
    if text == "empty":
        return empty_world()
    seed, _, difficulty = rest.partition(":")
    if kind in (*WORLD_KINDS, TRACK) and seed.isdecimal():
        try:
            return generate(kind, int(seed), float(difficulty) if difficulty else None)
        except ValueError as error:
            raise WorldError(f"world {text!r}: difficulty must be a number in [0, 1]: {error}") from error
    folder, _, number = rest.rpartition(":")
    if kind == "barn" and folder and number.isdecimal():
        return read_barn_world(Path(folder), int(number))
    raise WorldError(
        f"unknown world {text!r}; give empty, clutter:SEED (as clutter:7), corridors:SEED, offices:SEED, "
        "pedestrians:SEED, mix:SEED or track:SEED, each also with :DIFFICULTY from 0 to 1 (as "
        "offices:7:0.5), or barn:FOLDER:N"
    )
