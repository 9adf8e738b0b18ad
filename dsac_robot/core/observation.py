"""The observation: a registry of terms, each a pure function of the history and the stamp of a scan.

A tick is a scan. Each term takes the newest samples stamped not after the scan; frame k of a stack is the newest scan
not after ``scan_stamp - k * control_period``. The simulator, the policy node, the monitor node and the bag reader all
build through this module, so that the same samples give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dsac_robot.core.history import History
from dsac_robot.core.kinematics import to_base
from dsac_robot.core.lidar import free_of
from dsac_robot.core.params import ParameterError
from dsac_robot.core.path import path_errors, points_ahead
from dsac_robot.core.robot import Lidar, Robot
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


TermFunction = Callable[[History, int, Robot, ObservationLayout, Floats32], None]  # writes into the last
ShapeFunction = Callable[[ObservationLayout], tuple[int, ...]]


@dataclass(frozen=True)
class Term:
    """An entry of the registry."""

    unit: str
    shape: ShapeFunction
    build: TermFunction
    plan: bool = False  # built from the plan: whoever uses the term follows one


def _scan_sectors(history: History, stamp_ns: int, robot: Robot, layout: ObservationLayout, out: Floats32) -> None:
    """Least free distance of each sector of beams, newest frame first. # (frames, sectors)"""
    period_ns = round(layout.control_period_s * NS)
    for k in range(layout.frames):
        out[k] = _pooled(history.newest(Scan, stamp_ns - k * period_ns), robot.lidar, layout.sectors)


# Each scan serves several ticks. By identity, because hashing a lidar's description takes longer than all the rest.
_POOLED: dict[int, tuple[Scan, Lidar, int, Floats32]] = {}
_POOLED_MAX = 64


def _pooled(scan: Scan, lidar: Lidar, sectors: int) -> Floats32:
    """``pool`` of a scan, kept for the next ticks. # (sectors,)"""
    kept = _POOLED.get(id(scan))
    if kept is not None and kept[0] is scan and kept[1] is lidar and kept[2] == sectors:
        return kept[3]
    pooled = pool(scan, lidar, sectors)
    while len(_POOLED) >= _POOLED_MAX:
        _POOLED.pop(next(iter(_POOLED)), None)
    _POOLED[id(scan)] = (scan, lidar, sectors, pooled)
    return pooled


def pool(scan: Scan, lidar: Lidar, sectors: int) -> Floats32:
    """Least free distance of each sector of beams. A sector with no valid beam is 0: unknown is occupied. # (sectors,)

    Free is what ``free_distance`` says. Where no beam is shorter than the lidar's least range, and none is NaN, that is
    the range up to the greatest; the comparison below is false for NaN.
    """
    first = _first_beams(lidar.beams, sectors)
    nearest = np.minimum.reduceat(np.asarray(scan.ranges_m, np.float32), first)
    if float(nearest[nearest.argmin()]) >= lidar.range_min_m > 0.0:  # argmin finds a NaN before all else
        return np.minimum(nearest, np.float32(lidar.range_max_m), out=nearest)
    free, valid = free_of(scan, lidar)
    nearest = np.minimum.reduceat(np.where(valid, free, np.float32(np.inf)), first)
    return np.where(np.isfinite(nearest), nearest, np.float32(0.0))


@lru_cache(maxsize=8)
def _first_beams(beams: int, sectors: int) -> npt.NDArray[np.intp]:
    """Index of the first beam of each sector. # (sectors,)"""
    return np.linspace(0, beams, sectors, endpoint=False).astype(np.intp)


def _goal_in_base(history: History, stamp_ns: int, robot: Robot, layout: ObservationLayout, out: Floats32) -> None:
    goal, odom = history.newest(Goal, stamp_ns), history.newest(Odom, stamp_ns)
    out[0], out[1] = to_base(odom, goal.x_m, goal.y_m)


def _twist(history: History, stamp_ns: int, robot: Robot, layout: ObservationLayout, out: Floats32) -> None:
    odom = history.newest(Odom, stamp_ns)
    out[0], out[1] = odom.speed_mps, odom.yaw_rate_radps


def _last_command(history: History, stamp_ns: int, robot: Robot, layout: ObservationLayout, out: Floats32) -> None:
    command = history.newest(Command, stamp_ns)
    out[0], out[1] = command.speed_mps, command.yaw_rate_radps


def _path_errors(history: History, stamp_ns: int, robot: Robot, layout: ObservationLayout, out: Floats32) -> None:
    """Lateral, heading and speed error with respect to the plan. # (3,)"""
    plan, odom = history.newest(Plan, stamp_ns), history.newest(Odom, stamp_ns)
    errors = path_errors(odom, plan)
    out[:] = errors.lateral_m, errors.heading_rad, errors.speed_mps


def _path_ahead(history: History, stamp_ns: int, robot: Robot, layout: ObservationLayout, out: Floats32) -> None:
    """Points of the plan at ``PATH_AHEAD_S`` times its speed ahead of the robot, base frame. # (6, 2)"""
    plan, odom = history.newest(Plan, stamp_ns), history.newest(Odom, stamp_ns)
    out[:] = points_ahead(odom, plan, np.array(PATH_AHEAD_S) * plan.speed_mps)


TERMS: Mapping[str, Term] = {
    "scan_sectors": Term("m", lambda layout: (layout.frames, layout.sectors), _scan_sectors),
    "goal_in_base": Term("m", lambda layout: (2,), _goal_in_base),
    "path_errors": Term("m, rad, m/s", lambda layout: (3,), _path_errors, plan=True),
    "path_ahead": Term("m", lambda layout: (len(PATH_AHEAD_S), 2), _path_ahead, plan=True),
    "twist": Term("m/s, rad/s", lambda layout: (2,), _twist),
    "last_command": Term("m/s, rad/s", lambda layout: (2,), _last_command),
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
        self._functions = tuple((name, TERMS[name].build) for name in layout.terms)

    @property
    def follows_plan(self) -> bool:
        """True where a term is built from a plan: then a goal alone gives no observation."""
        return any(TERMS[name].plan for name in self.layout.terms)

    def build(self, history: History, scan_stamp_ns: int) -> Observation:
        """The observation of the tick at ``scan_stamp_ns``: float32 arrays by term, raw SI.

        Raises MissingSampleError while a sample that a term needs is not there.
        """
        observation = {spec.name: np.empty(spec.shape, np.float32) for spec in self.specs}
        self.fill(history, scan_stamp_ns, observation)
        return observation

    def fill(self, history: History, scan_stamp_ns: int, out: Observation) -> None:
        """``build`` into arrays that are there already, such as the buffers of a runtime.

        Where MissingSampleError is raised, some of them may have been written to.
        """
        for name, build in self._functions:
            build(history, scan_stamp_ns, self.robot, self.layout, out[name])


def flatten(observation: Observation) -> Floats32:
    """All terms in order as one vector. # (D,)"""
    return np.concatenate([term.ravel() for term in observation.values()])
