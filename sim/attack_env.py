"""Task ``attack`` as a Gymnasium environment: an adversary learns to drive into things, with and without the guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsac_robot.core.attack import AttackParams, AttackStep, cost, reward
from dsac_robot.core.guard import GuardModel, GuardState, initial_state, step
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.observation import LAYOUTS, ObservationLayout
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Floats32, Goal, Odom, Scan, Twist
from sim.attack_world import arena
from sim.task_env import TaskEnv, TaskEnvParams

STATIC = GuardParams(
    obstacle_speed_mps_max=0.0,
    margin_m=0.02,
    blank_is_fault=False,
    require_verdict=False,
    command_timeout_s=0.3,
)


@dataclass(frozen=True)
class AttackEnvParams(TaskEnvParams):
    """What the environment adds to the task."""

    guarded: float = param(0.5, unit="", low=0.0, high=1.0, help="part of the episodes behind the guard")


class AttackEnv(TaskEnv):
    """Observation: all terms as one vector, raw SI. Action: [-1, 1]^2. ``info["cost"]`` is 1 at a contact.

    Worlds are ``sim.attack_world``'s arenas. ``info["outcome"]`` at the end is "contact" or "timeout".
    """

    def __init__(
        self,
        robot: Robot,
        layout: ObservationLayout = LAYOUTS["attack"],
        task: AttackParams = AttackParams(),
        params: AttackEnvParams = AttackEnvParams(),
    ) -> None:
        super().__init__(robot, layout, params)
        self.task, self.params = task, params
        self._model = GuardModel.of(STATIC, robot)
        self._state: GuardState | None = None  # None: this episode is driven without the guard

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Start in a new arena. The arena and all noise come from the seeded generator."""
        super().reset(seed=seed)
        guarded = bool(self.np_random.random() < self.params.guarded)
        self._state = initial_state() if guarded else None
        self._enter(arena(int(self.np_random.integers(2**31))))
        return self._begin(Goal(0, 0.0, 0.0)), {}

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """Run one control period. ``action`` outside [-1, 1] is clipped; a NaN raises ValueError."""
        scan = self._newest(Scan)
        self._act(action)
        done = AttackStep(scan, self._newest(Scan), self._newest(Odom), self.sim.touched)
        truncated = not done.contact and self._time_is_up
        info: dict[str, Any] = {"cost": cost(done)}
        if done.contact or truncated:
            info["outcome"] = "contact" if done.contact else "timeout"
            info["caused"] = self._caused
        return self._observe(), reward(done, self.robot, self.task), done.contact, truncated, info

    def _to_send(self, sent_ns: int, asked: Twist) -> Command:
        """What the base is told: the guard's decision, or the asked command within the rate limits."""
        if self._state is None:
            return super()._to_send(sent_ns, asked)
        newest = self.history.newest
        given = GuardInput(sent_ns, newest(Scan, sent_ns), newest(Odom, sent_ns), Command(sent_ns, *asked))
        self._state, decision = step(self._state, given, self._model)
        return Command(sent_ns, decision.speed_mps, decision.yaw_rate_radps)
