"""Task ``navigate`` as a Gymnasium environment: reach a goal through static clutter with lidar only, no map.

One step is one control period. The action in [-1, 1]^2 asks for a twist; between ticks the commands that are really
sent follow it at the guard's rate within the robot's acceleration limits, as on the machine. Reward, cost and end are
``dsac_robot.core.navigate``'s, computed from the samples that a bag of the same drive would hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from dsac_robot.core.action import ActionMap, slew
from dsac_robot.core.history import History
from dsac_robot.core.navigate import NavigateParams, Step, cost, goal_distance_m, reached, reward
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, flatten
from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Contact, Floats32, Goal, Odom, Scan, ns
from sim.family import load_family
from sim.simulator import SimParams, Simulator
from sim.worlds import World, pooled_clutter

WorldSource = Callable[[int], World]
COMMAND_PERIOD_S = 0.02  # the guard's: commands are sent at this period


@dataclass(frozen=True)
class NavigateEnvParams:
    """What the environment adds to the task."""

    time_limit_s: float = param(40.0, unit="s", low=1.0, high=1000.0, help="an episode is truncated after this time")
    extra_delay_s_max: float = param(0.03, unit="s", low=0.0, high=0.3, help="more actuation delay, drawn per episode")
    noise: bool = param(True, unit="", help="sensor noise")
    family: str = param(
        "", unit="", help="each episode on a robot drawn from this family; empty: always the same robot"
    )
    forward_only: bool = param(False, unit="", help="never reverse: a lidar of less than a full turn cannot see where")


class NavigateEnv(gymnasium.Env[Floats32, Floats32]):
    """Observation: all terms as one vector, raw SI. Action: [-1, 1]^2. ``info["cost"]`` is the safety cost.

    At the end of an episode ``info["outcome"]`` is "success", "contact" or "timeout".
    """

    def __init__(
        self,
        robot: Robot,
        layout: ObservationLayout = ObservationLayout(),
        task: NavigateParams = NavigateParams(),
        params: NavigateEnvParams = NavigateEnvParams(),
        worlds: WorldSource = pooled_clutter,
    ) -> None:
        self.robot, self.layout, self.task, self.params, self.worlds = robot, layout, task, params, worlds
        self.builder = ObservationBuilder(robot, layout)
        self.actions = ActionMap.of(robot.limits)
        size = sum(int(np.prod(spec.shape)) for spec in self.builder.specs)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._family = load_family(params.family) if params.family else None
        if self._family is not None and self._family.nominal != robot:
            raise ParameterError(
                f"family {params.family} is of robot {self._family.nominal.name!r}, the environment is of "
                f"{robot.name!r}: name the same robot file in both"
            )
        self._period_ns = ns(layout.control_period_s)
        self._command_ns = ns(COMMAND_PERIOD_S)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Start in a new world. The world and all noise come from the seeded generator."""
        super().reset(seed=seed)
        self.world = self.worlds(int(self.np_random.integers(2**31)))
        delay = float(self.np_random.uniform(0.0, self.params.extra_delay_s_max))
        plant, sim = self.robot, SimParams()
        if self._family is not None:
            member = self._family.draw(int(self.np_random.integers(2**31)))
            plant, sim, delay = member.robot, member.sim, delay + member.sim.extra_delay_s
        settings = replace(
            sim, noise=self.params.noise, scan_period_s=self.layout.control_period_s, extra_delay_s=delay
        )
        self.sim = Simulator(plant, self.world, int(self.np_random.integers(2**31)), settings, nominal=self.robot)
        self.history = History()
        self._goal = Goal(0, *self.sim.world_to_odom(*self.world.goal_m))
        self.history.add(self._goal)
        self._last_sent = Command(0, 0.0, 0.0)
        self.history.add(self._last_sent)
        self._collect(0)
        self._tick_ns = 0
        warm_ns = (self.layout.frames - 1) * self._period_ns  # standing still until the stack is full
        while self._tick_ns < warm_ns:
            self._run_period(self._last_sent)
        return self._observe(), {}

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """Run one control period. ``action`` outside [-1, 1] is clipped; a NaN raises ValueError."""
        if not np.all(np.isfinite(action)):
            raise ValueError(f"action {action} is not finite")
        tick_ns = self._tick_ns
        speed, yaw_rate = (float(value) for value in self.actions.to_command(np.asarray(action, np.float64)))
        asked = Command(tick_ns, max(speed, 0.0) if self.params.forward_only else speed, yaw_rate)
        odom, last = self.history.newest(Odom, tick_ns), self.history.newest(Command, tick_ns)
        self._run_period(asked)
        done = Step(
            odom,
            self.history.newest(Odom, self._tick_ns),
            self._goal,
            last,
            self.history.newest(Command, self._tick_ns),
            self.history.newest(Scan, self._tick_ns),
            self.sim.touched,
        )
        success = reached(done, self.task) and not done.contact
        truncated = not (success or done.contact) and self._tick_ns >= ns(self.params.time_limit_s)
        info: dict[str, Any] = {"cost": cost(done, self.robot, self.task)}
        if success or done.contact or truncated:
            info["outcome"] = "success" if success else "contact" if done.contact else "timeout"
            info["distance_m"] = goal_distance_m(done.next_odom, self._goal)
        return self._observe(), reward(done, self.robot, self.task), success or done.contact, truncated, info

    def _run_period(self, asked: Command) -> None:
        end_ns = self._tick_ns + self._period_ns
        sent_ns = self._tick_ns
        while sent_ns < end_ns:
            sent_ns = min(sent_ns + self._command_ns, end_ns)
            self._collect(sent_ns)
            if self.sim.touched:
                break
            sent = slew(self._last_sent, asked, self.robot.limits, COMMAND_PERIOD_S)
            self._last_sent = Command(sent_ns, sent.speed_mps, sent.yaw_rate_radps)
            self.history.add(self._last_sent)
            self.sim.send(self._last_sent)
        self._collect(end_ns)
        self._tick_ns = end_ns

    def _collect(self, to_ns: int) -> None:
        for sample in self.sim.advance(to_ns):
            if not isinstance(sample, Contact):
                self.history.add(sample)

    def _observe(self) -> Floats32:
        return flatten(self.builder.build(self.history, self._tick_ns))
