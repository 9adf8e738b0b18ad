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
from dsac_robot.core.lidar import as_sent, bounds_m, fill_sectors, free_of
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


class ScanSectors:
    """Least free distance of each sector of beams, newest frame first. # (frames, sectors)

    A sector with no valid beam is 0: unknown is occupied. What was read from the last scans is kept: each serves
    several ticks.
    """

    def __init__(self, robot: Robot, layout: ObservationLayout) -> None:
        lidar, shape = robot.lidar, (layout.frames, layout.sectors)
        self._lidar = lidar
        self._ages_ns = [k * round(layout.control_period_s * NS) for k in range(layout.frames)]
        self._starts = np.linspace(0, lidar.beams, layout.sectors + 1).astype(np.intp)
        least_m, self._most_m = bounds_m(lidar)
        self._least_m = least_m if least_m > 0.0 else np.float32(np.inf)  # a range of 0 is not read as such
        self._kept: dict[int, tuple[Scan, int]] = {}  # by identity: the scan and its row, the last used one last
        self._table = np.empty((2 * layout.frames + 2, layout.sectors), np.float32)
        self._rows = np.zeros(layout.frames, np.intp)
        ranges = np.ones(lidar.beams, np.float32)
        ranges[0] = np.nan
        for sent in (as_sent(ranges), ranges):  # compile before the robot drives; simulated scans can be written to
            self._read(Scan(0, sent), 0, np.empty(shape, np.float32))

    def __call__(self, history: History, stamp_ns: int, out: Floats32) -> None:
        scans = [history.newest(Scan, stamp_ns - age_ns) for age_ns in self._ages_ns]  # before anything is kept
        kept, rows, table, unread = self._kept, self._rows, self._table, None
        for k, scan in enumerate(scans):
            found = kept.pop(id(scan), None)
            if found is None:
                if unread is not None:
                    self._read(*unread, out)
                row = len(kept) if len(kept) < len(table) else kept.pop(next(iter(kept)))[1]
                found = unread = scan, row
            kept[id(scan)] = found
            rows[k] = found[1]
        if unread is None:
            table.take(rows, 0, out)
        else:
            self._read(*unread, out)

    def _read(self, scan: Scan, row: int, out: Floats32) -> None:
        """Read a new scan, and write all rows. Free is what ``free_distance`` says: where no beam is shorter than the
        lidar's least range, and none is NaN, that is the range up to the greatest."""
        table, rows = self._table, self._rows
        if fill_sectors(scan.ranges_m, self._starts, self._least_m, self._most_m, table, row, rows, out) > 0:
            free, valid = free_of(scan, self._lidar)
            nearest = np.minimum.reduceat(np.where(valid, free, np.float32(np.inf)), self._starts[:-1])
            table[row] = np.where(np.isfinite(nearest), nearest, np.float32(0.0))
            table.take(rows, 0, out)


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
    "scan_sectors": Term("m", lambda layout: (layout.frames, layout.sectors), ScanSectors),
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
