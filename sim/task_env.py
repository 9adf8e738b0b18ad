"""What all tasks share as Gymnasium environments: robot, simulator, history, and one control period a step.

The action in [-1, 1]^2 asks for a twist; between ticks the commands that are really sent follow it at the guard's rate
within the robot's limits of acceleration and jerk, as on the machine. Observations are built from the samples that a
bag of the same drive would hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import gymnasium
import numpy as np

from dsac_robot.core.action import ActionMap, Ramp
from dsac_robot.core.history import History
from dsac_robot.core.navigate import CAUSED_MPS
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, flatten
from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Contact, Floats32, Goal, Odom, Plan, Scan, Twist, ns
from sim.family import load_family
from sim.simulator import SimParams, Simulator
from sim.worlds import World

COMMAND_PERIOD_S = 0.02  # the guard's: commands are sent at this period

S = TypeVar("S", Scan, Odom, Goal, Plan, Command)


@dataclass(frozen=True)
class TaskEnvParams:
    """What every environment adds to its task."""

    time_limit_s: float = param(40.0, unit="s", low=1.0, high=1000.0, help="an episode is truncated after this time")
    extra_delay_s_max: float = param(0.03, unit="s", low=0.0, high=0.3, help="more actuation delay, drawn per episode")
    noise: bool = param(True, unit="", help="sensor noise")
    family: str = param(
        "", unit="", help="each episode on a robot drawn from this family; empty: always the same robot"
    )
    forward_only: bool = param(False, unit="", help="never reverse: a lidar of less than a full turn cannot see where")


class TaskEnv(gymnasium.Env[Floats32, Floats32]):
    """The common part. A task draws a world, says what it asks for, and judges each step.

    Observation: all terms as one vector, raw SI. Action: [-1, 1]^2. Everything random comes from the seeded generator.
    """

    def __init__(self, robot: Robot, layout: ObservationLayout, params: TaskEnvParams) -> None:
        self.robot, self.layout = robot, layout
        self.builder = ObservationBuilder(robot, layout)
        self.actions = ActionMap.of(robot.limits)
        size = sum(int(np.prod(spec.shape)) for spec in self.builder.specs)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._common = params
        self._family = load_family(params.family) if params.family else None
        if self._family is not None and self._family.nominal != robot:
            raise ParameterError(
                f"family {params.family} is of robot {self._family.nominal.name!r}, the environment is of "
                f"{robot.name!r}: name the same robot file in both"
            )
        self._period_ns = ns(layout.control_period_s)
        self._command_ns = ns(COMMAND_PERIOD_S)

    def _enter(self, world: World) -> None:
        """Put the robot into ``world``, with an empty history."""
        self.world = world
        delay = float(self.np_random.uniform(0.0, self._common.extra_delay_s_max))
        plant, sim = self.robot, SimParams()
        if self._family is not None:
            member = self._family.draw(int(self.np_random.integers(2**31)))
            plant, sim, delay = member.robot, member.sim, delay + member.sim.extra_delay_s
        settings = replace(
            sim, noise=self._common.noise, scan_period_s=self.layout.control_period_s, extra_delay_s=delay
        )
        self.sim = Simulator(plant, world, int(self.np_random.integers(2**31)), settings, nominal=self.robot)
        self.history = History()
        self._tick_ns = 0

    def _begin(self, task: Goal | Plan) -> Floats32:
        """Give the robot its task and let it stand still until the stack is full; the first observation."""
        self.history.add(task)
        self._ramp = Ramp()
        self.history.add(Command(0, *self._ramp.twist))
        self._collect(0)
        warm_ns = (self.layout.frames - 1) * self._period_ns
        while self._tick_ns < warm_ns:
            self._run_period(self._ramp.twist)
        return self._observe()

    def _act(self, action: Floats32) -> None:
        """Run one control period. ``action`` outside [-1, 1] is clipped; a NaN raises ValueError."""
        if not np.all(np.isfinite(action)):
            raise ValueError(f"action {action} is not finite")
        speed, yaw_rate = (float(value) for value in self.actions.to_command(np.asarray(action, np.float64)))
        self._run_period((max(speed, 0.0) if self._common.forward_only else speed, yaw_rate))

    def _newest(self, kind: type[S]) -> S:
        """The newest sample of a kind at this tick."""
        return self.history.newest(kind, self._tick_ns)

    @property
    def _time_is_up(self) -> bool:
        return self._tick_ns >= ns(self._common.time_limit_s)

    @property
    def _caused(self) -> bool:
        return self.sim.touched and self.sim.touch_speed_mps > CAUSED_MPS

    def _run_period(self, asked: Twist) -> None:
        end_ns = self._tick_ns + self._period_ns
        sent_ns = self._tick_ns
        while sent_ns < end_ns:
            sent_ns = min(sent_ns + self._command_ns, end_ns)
            self._collect(sent_ns)
            if self.sim.touched:
                break
            sent = self._to_send(sent_ns, asked)
            self.history.add(sent)
            self.sim.send(sent)
        self._collect(end_ns)
        self._tick_ns = end_ns

    def _to_send(self, sent_ns: int, asked: Twist) -> Command:
        """What the base is told now."""
        self._ramp = self._ramp.toward(asked, self.robot.limits, COMMAND_PERIOD_S)
        return Command(sent_ns, *self._ramp.twist)

    def _collect(self, to_ns: int) -> None:
        for sample in self.sim.advance(to_ns):
            if not isinstance(sample, Contact):
                self.history.add(sample)

    def _observe(self) -> Floats32:
        return flatten(self.builder.build(self.history, self._tick_ns))
