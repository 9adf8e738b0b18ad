"""Task ``track`` as a Gymnasium environment: follow a path at a speed, and let pass what crosses it.

DSAC-T's real-robot task on the robots of this project (``dsac_robot.core.track`` says from where its numbers come).
One step is one control period (``sim.task_env``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsac_robot.core.observation import LAYOUTS, ObservationLayout
from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.path import path_errors
from dsac_robot.core.robot import Robot
from dsac_robot.core.track import TrackParams, TrackStep, cost, off_path, reward
from dsac_robot.core.values import Command, Floats32, Odom, Plan, Scan
from sim.task_env import TaskEnv, TaskEnvParams
from sim.worlds_track import TrackScene, generate_track

SceneSource = Callable[[int], TrackScene]
SPEED_SHARE_MAX = 0.9  # the reference is never faster than this share of what the robot can
SCENE_S_MIN = 20.0  # in less there is no room for an encounter


@dataclass(frozen=True)
class TrackEnvParams(TaskEnvParams):
    """What the environment adds to the task."""

    reference_mps: tuple[float, ...] = param(
        (0.2, 0.4), unit="m/s", low=0.1, high=10.0, help="lowest and highest reference speed; the paper's is 0.3"
    )
    difficulty: tuple[float, ...] = param(
        (0.0, 1.0), unit="", low=0.0, high=1.0, help="lowest and highest difficulty of the scenes"
    )

    def __post_init__(self) -> None:
        for name in ("reference_mps", "difficulty"):
            values = getattr(self, name)
            if len(values) != 2 or values[0] > values[1]:
                raise ParameterError(f"{name} = {list(values)} must be [low, high] with low <= high")


class TrackEnv(TaskEnv):
    """Observation: all terms as one vector, raw SI. Action: [-1, 1]^2. ``info["cost"]`` is the safety cost.

    At the end of an episode ``info["outcome"]`` is "success" (the time is up, on the path), "contact" or "off_path",
    and ``info["caused"]`` tells whether the robot moved into what it touched. ``scenes`` gives a scene for a seed,
    instead of the generator that ``params`` sets.
    """

    def __init__(
        self,
        robot: Robot,
        layout: ObservationLayout = LAYOUTS["track"],
        task: TrackParams = TrackParams(),
        params: TrackEnvParams = TrackEnvParams(),
        scenes: SceneSource | None = None,
    ) -> None:
        super().__init__(robot, layout, params)
        self.task, self.params, self.scenes = task, params, scenes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Start in a new scene. The scene and all noise come from the seeded generator."""
        super().reset(seed=seed)
        draw = int(self.np_random.integers(2**31))
        self.scene = self.scenes(draw) if self.scenes else self._generate(draw)
        self._enter(self.scene.world)
        points = np.array([self.sim.world_to_odom(x, y) for x, y in self.scene.path_m.tolist()])
        self._plan = Plan(0, points, self.scene.speed_mps)
        return self._begin(self._plan), {}

    def _generate(self, seed: int) -> TrackScene:
        fastest = SPEED_SHARE_MAX * self.robot.limits.speed_mps_max
        low, high = (min(speed, fastest) for speed in self.params.reference_mps)
        speed, level = self.np_random.uniform(low, high), self.np_random.uniform(*self.params.difficulty)
        return generate_track(seed, float(speed), max(self.params.time_limit_s, SCENE_S_MIN), float(level))

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
        return self._observe(), reward(done, self.task), terminated, truncated, info
