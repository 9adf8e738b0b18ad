"""The observation: a registry of terms, each a pure function of the history and the stamp of a scan.

A tick is a scan. Each term takes the newest samples stamped not after the scan; frame k of a stack is the newest scan
not after ``scan_stamp - k * control_period``. The simulator, the policy node, the monitor node and the bag reader all
build through this module, so that the same samples give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dsac_robot.core.history import History
from dsac_robot.core.kinematics import to_base
from dsac_robot.core.lidar import Sectors
from dsac_robot.core.params import ParameterError
from dsac_robot.core.path import path_errors, points_ahead
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Floats32, Goal, Odom, Plan, Scan

Observation = dict[str, Floats32]
PATH_AHEAD_S = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # the plan is shown where its speed would bring the robot in so long


@dataclass(frozen=True)
class TermSpec:
    """One named input of the policy: its name, shape, unit and the integers that define it."""

    name: str
    shape: tuple[int, ...]
    unit: str


@dataclass(frozen=True)
class ObservationLayout:
    """What the observation is made of. Recorded in the card; the card's layout must be one that this code can build."""

    terms: tuple[str, ...] = ("scan_sectors", "goal_in_base", "twist", "last_command")
    control_period_s: float = 0.1
    frames: int = 3
    sectors: int = 36


# By task. In ``track`` the obstacle is seen by the lidar, in several frames, and not given as a state (as the paper's
# simulation has it): on a robot nothing but the lidar tells of it, and no bag holds more.
LAYOUTS: Mapping[str, ObservationLayout] = {
    "navigate": ObservationLayout(),
    "attack": ObservationLayout(("scan_sectors", "twist", "last_command"), frames=2),
    "track": ObservationLayout(("scan_sectors", "path_errors", "path_ahead", "twist", "last_command")),
}


def layout_for(task: str, robot: Robot) -> ObservationLayout:
    """The layout of a task (a key of ``LAYOUTS``), its control period stretched to that of a slower lidar.

    The period is rounded up to a multiple of the 0.02 s at which commands are sent.
    """
    layout = LAYOUTS[task]
    periods = math.ceil(max(layout.control_period_s, 1.0 / robot.lidar.rate_hz) / 0.02 - 1e-6)
    return replace(layout, control_period_s=round(0.02 * periods, 2))


Fill = Callable[[History, int, Floats32], None]  # (history, stamp_ns, where to write to)
ShapeFunction = Callable[[ObservationLayout], tuple[int, ...]]


@dataclass(frozen=True)
class Term:
    """An entry of the registry. ``bind`` gives the function that builds the term for one robot and layout."""

    unit: str
    shape: ShapeFunction
    bind: Callable[[Robot, ObservationLayout], Fill]
    plan: bool = False  # built from the plan: whoever uses the term follows one


class _ScanSectors:
    """Least free distance of each sector of beams, newest frame first. # (frames, sectors)"""

    def __init__(self, robot: Robot, layout: ObservationLayout) -> None:
        self._sectors = Sectors(robot.lidar, layout.sectors, layout.frames)
        self._ages_ns = [k * round(layout.control_period_s * NS) for k in range(layout.frames)]

    def __call__(self, history: History, stamp_ns: int, out: Floats32) -> None:
        newest = history.newest
        self._sectors([newest(Scan, stamp_ns - age_ns) for age_ns in self._ages_ns], out)


def _goal_in_base(history: History, stamp_ns: int, out: Floats32) -> None:
    goal = history.newest(Goal, stamp_ns)
    out[0], out[1] = to_base(history.newest(Odom, stamp_ns), goal.x_m, goal.y_m)


def _twist(history: History, stamp_ns: int, out: Floats32) -> None:
    odom = history.newest(Odom, stamp_ns)
    out[0], out[1] = odom.speed_mps, odom.yaw_rate_radps


def _last_command(history: History, stamp_ns: int, out: Floats32) -> None:
    command = history.newest(Command, stamp_ns)
    out[0], out[1] = command.speed_mps, command.yaw_rate_radps


def _path_errors(history: History, stamp_ns: int, out: Floats32) -> None:
    """Lateral, heading and speed error with respect to the plan. # (3,)"""
    plan, odom = history.newest(Plan, stamp_ns), history.newest(Odom, stamp_ns)
    errors = path_errors(odom, plan)
    out[:] = errors.lateral_m, errors.heading_rad, errors.speed_mps


def _path_ahead(history: History, stamp_ns: int, out: Floats32) -> None:
    """Points of the plan at ``PATH_AHEAD_S`` times its speed ahead of the robot, base frame. # (6, 2)"""
    plan, odom = history.newest(Plan, stamp_ns), history.newest(Odom, stamp_ns)
    out[:] = points_ahead(odom, plan, np.array(PATH_AHEAD_S) * plan.speed_mps)


TERMS: Mapping[str, Term] = {
    "scan_sectors": Term("m", lambda layout: (layout.frames, layout.sectors), _ScanSectors),
    "goal_in_base": Term("m", lambda layout: (2,), lambda robot, layout: _goal_in_base),
    "path_errors": Term("m, rad, m/s", lambda layout: (3,), lambda robot, layout: _path_errors, plan=True),
    "path_ahead": Term("m", lambda layout: (len(PATH_AHEAD_S), 2), lambda robot, layout: _path_ahead, plan=True),
    "twist": Term("m/s, rad/s", lambda layout: (2,), lambda robot, layout: _twist),
    "last_command": Term("m/s, rad/s", lambda layout: (2,), lambda robot, layout: _last_command),
}


class ObservationBuilder:
    """Builds the observation of one robot and layout.

    Raises ParameterError for an unknown term (naming the known ones), for a control period below the lidar's period,
    and for a number of sectors that the beams cannot fill.
    """

    def __init__(self, robot: Robot, layout: ObservationLayout) -> None:
        for name in layout.terms:
            if name not in TERMS:
                raise ParameterError(f"unknown observation term {name!r}; known: {', '.join(TERMS)}")
        if layout.control_period_s < 1.0 / robot.lidar.rate_hz:
            raise ParameterError(
                f"control_period_s = {layout.control_period_s} is below the lidar's period {1.0 / robot.lidar.rate_hz}"
            )
        if not 1 <= layout.sectors <= robot.lidar.beams:
            raise ParameterError(f"sectors = {layout.sectors} is outside [1, {robot.lidar.beams}] (the lidar's beams)")
        self.robot = robot
        self.layout = layout
        self.specs = tuple(TermSpec(name, TERMS[name].shape(layout), TERMS[name].unit) for name in layout.terms)
        self._fills = tuple((name, TERMS[name].bind(robot, layout)) for name in layout.terms)

    @property
    def follows_plan(self) -> bool:
        """True where a term is built from a plan: then a goal alone gives no observation."""
        return any(TERMS[name].plan for name in self.layout.terms)

    def build(self, history: History, scan_stamp_ns: int) -> Observation:
        """The observation of the tick at ``scan_stamp_ns``: float32 arrays by term, raw SI.

        Raises MissingSampleError while a sample that a term needs is not there.
        """
        observation = {spec.name: np.empty(spec.shape, np.float32) for spec in self.specs}
        for fill, out in self.bind(observation):
            fill(history, scan_stamp_ns, out)
        return observation

    def bind(self, out: Observation) -> tuple[tuple[Fill, Floats32], ...]:
        """``build`` in parts, into arrays that are there already, such as the buffers of a runtime: call each function
        with the history, the stamp and its array. Where one raises MissingSampleError, some have been written to."""
        return tuple((fill, out[name]) for name, fill in self._fills)


def flatten(observation: Observation) -> Floats32:
    """All terms in order as one vector. # (D,)"""
    return np.concatenate([term.ravel() for term in observation.values()])
