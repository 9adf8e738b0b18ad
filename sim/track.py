"""Task ``track`` as a Gymnasium environment: follow a path at a speed, and let pass what crosses it.

DSAC-T's real-robot task on the robots of this project (``dsac_robot.core.track`` says from where its numbers come).
One step is one control period (``sim.task_env``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsac_robot.core.observation import LAYOUTS, ObservationLayout
from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.path import path_errors
from dsac_robot.core.robot import Robot
from dsac_robot.core.track import TrackParams, TrackStep, cost, off_path, reward
from dsac_robot.core.values import Command, Floats32, Odom, Scan
from sim.task_env import TaskEnv, TaskEnvParams
from sim.worlds import World, WorldError
from sim.worlds_track import REFERENCE_MPS, TrackWorlds

WorldSource = Callable[[int], World]
SPEED_SHARE_MAX = 0.9  # the reference is never faster than this share of what the robot can
SCENE_S_MIN = 20.0  # in less there is no room for an encounter


@dataclass(frozen=True)
class TrackEnvParams(TaskEnvParams):
    """What the environment adds to the task."""

    reference_mps: tuple[float, ...] = param(
        REFERENCE_MPS, unit="m/s", low=0.1, high=10.0, help="lowest and highest reference speed; the paper's is 0.3"
    )
    difficulty: tuple[float, ...] = param(
        (0.0, 1.0), unit="", low=0.0, high=1.0, help="lowest and highest difficulty of the scenes"
    )

    def __post_init__(self) -> None:
        for name in ("reference_mps", "difficulty"):
            values = getattr(self, name)
            if len(values) != 2 or values[0] > values[1]:
                raise ParameterError(f"{name} = {list(values)} must be [low, high] with low <= high")

    def source(self, robot: Robot) -> TrackWorlds:
        """The generator that these parameters set, no reference faster than the robot can follow."""
        fastest = SPEED_SHARE_MAX * robot.limits.speed_mps_max
        low, high = (min(speed, fastest) for speed in self.reference_mps)
        easiest, hardest = self.difficulty
        return TrackWorlds((low, high), (easiest, hardest), max(self.time_limit_s, SCENE_S_MIN))


class TrackEnv(TaskEnv):
    """Observation: all terms as one vector, raw SI. Action: [-1, 1]^2. ``info["cost"]`` is the safety cost.

    At the end of an episode ``info["outcome"]`` is "success" (the time is up, on the path), "contact" or "off_path",
    and ``info["caused"]`` tells whether the robot moved into what it touched. ``worlds`` gives a world with a route
    for a seed, instead of the generator that ``params`` sets.
    """

    def __init__(
        self,
        robot: Robot,
        layout: ObservationLayout = LAYOUTS["track"],
        task: TrackParams = TrackParams(),
        params: TrackEnvParams = TrackEnvParams(),
        worlds: WorldSource | None = None,
    ) -> None:
        super().__init__(robot, layout, params)
        self.task, self.params = task, params
        self.worlds = worlds or params.source(robot)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Start in a new world. The world and all noise come from the seeded generator."""
        super().reset(seed=seed)
        world = self.worlds(int(self.np_random.integers(2**31)))
        if world.route is None:
            raise WorldError(f"{world.name} has no route: task track is to follow one")
        self._enter(world)
        self._plan = world.route.plan(self.sim.world_to_odom)
        return self._begin(self._plan), {}

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """Run one control period. ``action`` outside [-1, 1] is clipped; a NaN raises ValueError."""
        self._act(action)
        done = TrackStep(self._newest(Odom), self._plan, self._newest(Command), self._newest(Scan), self.sim.touched)
        terminated = done.contact or off_path(done, self.task)
        truncated = not terminated and self._time_is_up
        info: dict[str, Any] = {"cost": cost(done, self.robot, self.task)}
        if terminated or truncated:
            info["outcome"] = "contact" if done.contact else "off_path" if terminated else "success"
            info["caused"] = self._caused
            info["lateral_m"] = path_errors(done.next_odom, self._plan).lateral_m
        return self._observe(), reward(done, self.robot, self.task), terminated, truncated, info
