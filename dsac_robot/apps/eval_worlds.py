"""The worlds that ``eval`` drives: generated, of a BARN folder or single ones; how well a route was followed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsac_robot.apps.figures import Figure
from dsac_robot.core.observation import ObservationBuilder
from dsac_robot.core.params import ParameterError
from dsac_robot.core.path import path_errors
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Odom, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsac_robot.apps.closed_loop import Drive
    from dsac_robot.apps.eval_cmd import Episode
    from dsac_robot.bundle.card import Card
    from sim.worlds import World

FIRST_WORLD = 1_000_000  # seeds of generated worlds that no training draws
SETTLED_S = 3.0  # robots start beside the route: how well they follow it is told from then on
HELP = (
    "comma-separated: clutter, corridors, offices, pedestrians, mix, track (a new world each episode), barn:FOLDER "
    "(its worlds in turn), or single ones as clutter:7:0.5, barn:FOLDER:N, empty (default: clutter; track for its "
    "bundles)"
)


@dataclass(frozen=True)
class EvalWorlds:
    """Where episode k drives: a world of spec k modulo their number. Raises ParameterError naming a bad spec."""

    specs: tuple[str, ...]
    difficulty: tuple[float, float] | None = None  # of generated worlds; None: each seed draws its own

    def __post_init__(self) -> None:
        if not self.specs or not all(self.specs):
            raise ParameterError(f"--worlds {','.join(self.specs)!r} names no world; give {HELP}")
        if self.difficulty is not None and not 0.0 <= self.difficulty[0] <= self.difficulty[1] <= 1.0:
            low, high = self.difficulty
            raise ParameterError(f"--difficulty {low:g} {high:g} must be LOW HIGH with 0 <= LOW <= HIGH <= 1")

    def spec(self, episode: int) -> str:
        """The spec that an episode's world is of."""
        return self.specs[episode % len(self.specs)]

    def world(self, episode: int, robot: Robot) -> World:
        """The world of an episode; of ``track`` none that is too fast for ``robot``. Raises WorldError."""
        from sim.track import TrackEnvParams
        from sim.worlds import TRACK, WORLD_KINDS, barn_ids, generate, load_world, read_barn_world

        spec, seed = self.spec(episode), FIRST_WORLD + episode
        if spec == TRACK:
            params = TrackEnvParams(difficulty=self.difficulty) if self.difficulty else TrackEnvParams()
            return params.source(robot)(seed)
        if spec in WORLD_KINDS:
            level = float(np.random.default_rng((seed, 7)).uniform(*self.difficulty)) if self.difficulty else None
            return generate(spec, seed, level)
        folder = _barn_folder(spec)
        if folder is not None:
            ids = barn_ids(folder)
            return read_barn_world(folder, ids[episode // len(self.specs) % len(ids)])
        return load_world(spec)


def choose(specs: str | None, difficulty: Sequence[float] | None, card: Card, robot: Robot) -> tuple[EvalWorlds, bool]:
    """The worlds asked for, each spec tried once, and whether anything moves there. Raises ParameterError."""
    follows = ObservationBuilder(robot, card.layout).follows_plan
    named = tuple(specs.split(",")) if specs is not None else ("track" if follows else "clutter",)
    worlds = EvalWorlds(named, (difficulty[0], difficulty[1]) if difficulty else None)
    tried = [worlds.world(k, robot) for k in range(len(named))]
    for world, spec in zip(tried, named, strict=True):
        if follows and world.route is None:
            raise ParameterError(f"--worlds {spec}: has no route, and bundle {card.name!r} follows one: give track")
    return worlds, any(world.movers for world in tried) or "mix" in named


def _barn_folder(spec: str) -> Path | None:
    """The folder of ``barn:FOLDER``; None for anything else, ``barn:FOLDER:N`` too."""
    kind, _, rest = spec.partition(":")
    return Path(rest) if kind == "barn" and rest and not rest.rpartition(":")[2].isdecimal() else None


def reference_s(world: World, robot: Robot) -> float:
    """OT: what the route takes at its speed; without one, the known path at the robot's highest speed."""
    if world.route is None:
        return world.path_length_m / robot.limits.speed_mps_max
    length_m = float(np.linalg.norm(np.diff(world.route.points_m, axis=0), axis=1).sum())
    return length_m / world.route.speed_mps


def following(world: World, done: Drive) -> tuple[float, float] | tuple[None, None]:
    """Root mean square of lateral (m) and speed error (m/s) of a drive; None, None without a route."""
    settled = done.trace[done.trace[:, 0] > SETTLED_S]
    if world.route is None or not len(settled):
        return None, None
    plan = Plan(0, world.route.points_m, world.route.speed_mps)
    rows = (path_errors(Odom.from_yaw(0, x, y, yaw, speed, 0.0), plan) for _, x, y, yaw, speed, *_ in settled.tolist())
    errors = np.array([(row.lateral_m, row.speed_mps) for row in rows])
    lateral, speed = np.sqrt((errors**2).mean(axis=0)).tolist()
    return lateral, speed


def route_figures(episodes: Sequence[Episode]) -> list[Figure]:
    """Figures of the episodes that had a route to follow; none where no episode had."""
    rows = [
        (episode.lateral_rms_m, episode.speed_rms_mps)
        for episode in episodes
        if episode.lateral_rms_m is not None and episode.speed_rms_mps is not None
    ]
    if not rows:
        return []
    lateral, speed = np.mean(rows, axis=0).tolist()
    left = sum(episode.outcome == "off_path" for episode in episodes) / len(episodes)
    return [
        Figure("lateral_rms_m", lateral, "m"),
        Figure("speed_error_rms_mps", speed, "m/s"),
        Figure("off_path_rate", left),
    ]


def by_spec(episodes: Sequence[Episode], worlds: EvalWorlds) -> list[dict[str, float | str]]:
    """What the episodes of each spec came to."""
    rows: list[dict[str, float | str]] = []
    for spec in dict.fromkeys(worlds.specs):
        of_it = [episode for episode in episodes if worlds.spec(episode.episode) == spec]
        if of_it:
            rates = {
                "success_rate": float(np.mean([episode.outcome == "success" for episode in of_it])),
                "collision_rate": float(np.mean([episode.outcome == "contact" for episode in of_it])),
                "pace_mean": float(np.mean([episode.pace for episode in of_it])),
            }
            rows.append({"worlds": spec, "episodes": float(len(of_it)), **rates})
    return rows


def say_by_spec(rows: Sequence[dict[str, float | str]]) -> None:
    """One line for each spec, where there are several."""
    for row in rows if len(rows) > 1 else ():
        print(
            f"{row['worlds']:>24}  pace {row['pace_mean']:.3f}  success {row['success_rate']:.0%}  "
            f"contacts {row['collision_rate']:.0%}"
        )
