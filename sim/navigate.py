"""Task ``navigate`` as a Gymnasium environment: reach a goal through a world with lidar only, no map.

One step is one control period (``sim.task_env``). Reward, cost and end are ``dsac_robot.core.navigate``'s, computed
from the samples that a bag of the same drive would hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsac_robot.core.navigate import NavigateParams, Step, cost, goal_distance_m, reached, reward
from dsac_robot.core.observation import ObservationLayout
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Floats32, Goal, Odom, Scan
from sim.task_env import COMMAND_PERIOD_S, TaskEnv, TaskEnvParams
from sim.worlds import WORLD_KINDS, World, WorldMix

__all__ = ["COMMAND_PERIOD_S", "NavigateEnv", "NavigateEnvParams", "WorldSource"]

WorldSource = Callable[[int], World]


@dataclass(frozen=True)
class NavigateEnvParams(TaskEnvParams):
    """What the environment adds to the task."""

    worlds: str = param("clutter", unit="", choices=WORLD_KINDS, help="what the worlds are; mix: all kinds")
    difficulty: tuple[float, ...] = param(
        (0.0, 1.0), unit="", low=0.0, high=1.0, help="lowest and highest difficulty of the worlds"
    )

    def __post_init__(self) -> None:
        self.source()

    def source(self) -> WorldMix:
        """The generators that these parameters name; ParameterError where the difficulty is no range."""
        return WorldMix(self.worlds, self.difficulty)


class NavigateEnv(TaskEnv):
    """Observation: all terms as one vector, raw SI. Action: [-1, 1]^2. ``info["cost"]`` is the safety cost.

    At the end of an episode ``info["outcome"]`` is "success", "contact" or "timeout", and ``info["caused"]`` tells
    whether the robot moved into what it touched. ``worlds`` gives a world for a
    seed, instead of the generators that ``params`` names.
    """

    def __init__(
        self,
        robot: Robot,
        layout: ObservationLayout = ObservationLayout(),
        task: NavigateParams = NavigateParams(),
        params: NavigateEnvParams = NavigateEnvParams(),
        worlds: WorldSource | None = None,
    ) -> None:
        super().__init__(robot, layout, params)
        self.task, self.params = task, params
        self.worlds = worlds or params.source()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Start in a new world. The world and all noise come from the seeded generator."""
        super().reset(seed=seed)
        self._enter(self.worlds(int(self.np_random.integers(2**31))))
        self._goal = Goal(0, *self.sim.world_to_odom(*self.world.goal_m))
        return self._begin(self._goal), {}

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """Run one control period. ``action`` outside [-1, 1] is clipped; a NaN raises ValueError."""
        odom, last = self._newest(Odom), self._newest(Command)
        self._act(action)
        newest = self._newest(Odom), self._goal, last, self._newest(Command), self._newest(Scan)
        done = Step(odom, *newest, self.sim.touched)
        success = reached(done, self.task) and not done.contact
        truncated = not (success or done.contact) and self._time_is_up
        info: dict[str, Any] = {"cost": cost(done, self.robot, self.task)}
        if success or done.contact or truncated:
            info["outcome"] = "success" if success else "contact" if done.contact else "timeout"
            info["caused"] = self._caused
            info["distance_m"] = goal_distance_m(done.next_odom, self._goal)
        return self._observe(), reward(done, self.robot, self.task), success or done.contact, truncated, info
