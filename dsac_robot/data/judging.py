"""What a task says of recorded steps: reward, cost, how an episode ends, and where none can begin.

Both judges work on an episode's raw signals alone, through the functions that the simulator uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dsac_robot.core import navigate, track
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.path import way_left_m
from dsac_robot.core.robot import Robot
from dsac_robot.core.track import TrackParams, TrackStep
from dsac_robot.core.values import Floats, Goal, Odom, Plan
from dsac_robot.data.episodes import EpisodeError, Raw, command_at, odom_at, scan_at, step_of

TaskParams = NavigateParams | TrackParams


@dataclass(frozen=True)
class Target:
    """What the robot is asked for: where to go, and the plan that leads there, if there is one."""

    goal: Goal
    plan: Plan | None

    def same(self, other: Target, follows_plan: bool) -> bool:
        """True where ``other`` asks for the same, whenever it was sent."""
        if not follows_plan:
            return (self.goal.x_m, self.goal.y_m) == (other.goal.x_m, other.goal.y_m)
        if self.plan is None or other.plan is None:
            return self.plan is other.plan
        return self.plan.speed_mps == other.plan.speed_mps and np.array_equal(self.plan.points_m, other.plan.points_m)


class Judge(Protocol):
    """One task. ``version`` is that of its functions; ``terminal`` are the endings after which nothing could follow,
    others cut an episode short."""

    @property
    def version(self) -> int: ...
    @property
    def terminal(self) -> tuple[str, ...]: ...
    @property
    def follows_plan(self) -> bool: ...

    def at_end(self, odom: Odom, target: Target) -> str | None:
        """Why no episode can begin there, or None."""

    def ending(self, raw: Raw, plan: Plan | None) -> str | None:
        """How the episode ends with its newest step, or None."""

    def label(self, raw: Raw, plan: Plan | None) -> tuple[Floats, Floats]:
        """Reward and cost of each step. # (T,), (T,)"""


@dataclass(frozen=True)
class NavigateJudge:
    """Task ``navigate``."""

    robot: Robot
    task: NavigateParams
    version: int = navigate.VERSION
    terminal: tuple[str, ...] = ("success", "contact", "emergency")
    follows_plan: bool = False

    def at_end(self, odom: Odom, target: Target) -> str | None:
        near = navigate.goal_distance_m(odom, target.goal) < self.task.goal_tolerance_m
        return "at the goal" if near else None

    def ending(self, raw: Raw, plan: Plan | None) -> str | None:
        step = step_of(raw, len(raw.stamps_ns) - 2)
        if step.contact:
            return "contact"
        return "success" if navigate.reached(step, self.task) else None

    def label(self, raw: Raw, plan: Plan | None) -> tuple[Floats, Floats]:
        steps = [step_of(raw, index) for index in range(len(raw.stamps_ns) - 1)]
        rewards = [navigate.reward(step, self.robot, self.task) for step in steps]
        costs = [navigate.cost(step, self.robot, self.task) for step in steps]
        return np.array(rewards, np.float64), np.array(costs, np.float64)


@dataclass(frozen=True)
class TrackJudge:
    """Task ``track``. Its end is no terminal one: whoever follows a path would go on where it goes on."""

    robot: Robot
    task: TrackParams
    plan_end_m: float  # so near to the plan's end along it, the policy stops
    version: int = track.VERSION
    terminal: tuple[str, ...] = ("contact", "off_path", "emergency")
    follows_plan: bool = True

    def at_end(self, odom: Odom, target: Target) -> str | None:
        done = target.plan is not None and way_left_m(odom, target.plan) < self.plan_end_m
        return "at the plan's end" if done else None

    def ending(self, raw: Raw, plan: Plan | None) -> str | None:
        step = track_step_of(raw, plan, len(raw.stamps_ns) - 2)
        if step.contact:
            return "contact"
        if track.off_path(step, self.task):
            return "off_path"
        return "success" if way_left_m(step.next_odom, step.plan) < self.plan_end_m else None

    def label(self, raw: Raw, plan: Plan | None) -> tuple[Floats, Floats]:
        steps = [track_step_of(raw, plan, index) for index in range(len(raw.stamps_ns) - 1)]
        rewards = [track.reward(step, self.robot, self.task) for step in steps]
        costs = [track.cost(step, self.robot, self.task) for step in steps]
        return np.array(rewards, np.float64), np.array(costs, np.float64)


def judge_of(task: TaskParams, robot: Robot, plan_end_m: float) -> Judge:
    """The judge of a task's parameters."""
    return TrackJudge(robot, task, plan_end_m) if isinstance(task, TrackParams) else NavigateJudge(robot, task)


def track_step_of(raw: Raw, plan: Plan | None, index: int) -> TrackStep:
    """Step ``index`` of raw signals, as task track takes it. Raises EpisodeError without a plan."""
    if plan is None:
        raise EpisodeError("the episode has no plan: it was not cut for task track")
    after = index + 1
    return TrackStep(odom_at(raw, after), plan, command_at(raw, after), scan_at(raw, after), bool(raw.contact[after]))
