"""Search for a world and a sequence of commands that bring a guarded robot into contact: the cross-entropy method
(Rubinstein 1999) over both, minimising the least distance to an obstacle while the robot moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dsac_robot.core.geometry import half_planes
from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.navigate import CAUSED_MPS
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Floats, Odom, Scan, ns
from sim.assumptions import Braking, Ledger
from sim.attackers import REST_MPS, force_bound_n
from sim.simulator import Simulator
from sim.worlds_base import World, box_outline

POSTS, KNOTS, KNOT_S = 6, 8, 0.5
ROOM_M = 3.5
START_CLEAR_M = 0.55
ELITE, KEEP, SPREAD_MIN = 0.2, 0.3, 0.05


@dataclass(frozen=True)
class Case:
    """A world and what is done in it; all that a replay needs beside robot and guard parameters."""

    posts_m: tuple[tuple[float, float, float], ...]  # x, y, radius; the robot starts at the origin, heading along x
    commands: tuple[tuple[float, float], ...]  # each asked for KNOT_S
    forces_n: tuple[tuple[float, float], ...]  # on the body, along the base's x and y, with the commands
    seed: int  # of the sensors' noise

    @classmethod
    def of(cls, values: dict[str, Any]) -> Case:
        """From what ``asdict`` gave and JSON kept."""
        rows = {key: tuple(tuple(row) for row in values[key]) for key in ("posts_m", "commands", "forces_n")}
        return cls(**rows, seed=int(values["seed"]))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What a case came to."""

    margin_m: float  # least distance to a post or wall while the robot moved; negative by the speed at a touch
    touched: bool
    touch_speed_mps: float
    violation: bool  # a caused contact while every assumption held
    broken_steps: int
    way_m: float


def size() -> int:
    """Numbers in the unit cube that make a case."""
    return 3 * POSTS + 4 * KNOTS


def case_of(units: Floats, robot: Robot, seed: int, forces: bool = True) -> Case:
    """The case at a point of the unit cube. Posts on the start are moved away from it. # (size(),)"""
    posts = []
    for a, b, c in units[: 3 * POSTS].reshape(POSTS, 3):
        angle, away, radius = math.tau * a, 0.3 + 2.7 * b, 0.03 + 0.25 * c
        away = max(away, START_CLEAR_M + radius)
        posts.append((float(away * math.cos(angle)), float(away * math.sin(angle)), float(radius)))
    limits, rest = robot.limits, units[3 * POSTS :].reshape(KNOTS, 4)
    speeds = limits.speed_mps_min + rest[:, 0] * (limits.speed_mps_max - limits.speed_mps_min)
    turns = limits.yaw_rate_radps_max * (2.0 * rest[:, 1] - 1.0)
    strength = force_bound_n(robot) * rest[:, 2] * float(forces)
    heading = math.tau * rest[:, 3]
    push = np.stack([strength * np.cos(heading), strength * np.sin(heading)], axis=1)
    commands = tuple((float(v), float(w)) for v, w in zip(speeds, turns, strict=True))
    return Case(tuple(posts), commands, tuple((float(x), float(y)) for x, y in push), seed)


def judge(case: Case, robot: Robot, params: GuardParams) -> Verdict:
    """Drive a case behind the guard. The same arguments give the same verdict."""
    walls = np.array(box_outline((-ROOM_M, -ROOM_M), (ROOM_M, ROOM_M), 0.1))
    world = World("case", np.array(case.posts_m).reshape(-1, 3), (0.0, 0.0, 0.0), (3.0, 0.0), 3.0, walls)
    sim, model = Simulator(robot, world, case.seed), GuardModel.of(replace(params, require_verdict=False), robot)
    state, braking, ledger = initial_state(), Braking(robot, params), Ledger(params.period_s)
    clearance = _Clearance(robot, world)
    scan: Scan | None = None
    odom: Odom | None = None
    margin, way_m, last = math.inf, 0.0, sim.pose
    for now_ns in range(0, ns(KNOTS * KNOT_S), ns(params.period_s)):
        for sample in sim.advance(now_ns):
            scan = sample if isinstance(sample, Scan) else scan
            odom = sample if isinstance(sample, Odom) else odom
        here, (speed, turn) = sim.pose, sim.twist
        way_m += math.dist(here[:2], last[:2])
        last = here
        ledger.note(braking.holds(speed), True, True)
        if sim.touched:
            break
        if abs(speed) + abs(turn) * clearance.reach_m > CAUSED_MPS:
            margin = min(margin, clearance(here))
        knot = now_ns // ns(KNOT_S)
        state, decision = step(state, GuardInput(now_ns, scan, odom, Command(now_ns, *case.commands[knot])), model)
        sim.send(Command(now_ns, decision.speed_mps, decision.yaw_rate_radps))
        braking.sent(decision.speed_mps)
        c, s = math.cos(here[2]), math.sin(here[2])
        x_n, y_n = case.forces_n[knot]
        moves = float(abs(speed) > REST_MPS)
        sim.push(moves * (c * x_n - s * y_n), moves * (s * x_n + c * y_n))
    caused = sim.touched and sim.touch_speed_mps > CAUSED_MPS
    if sim.touched:
        margin = -sim.touch_speed_mps if caused else min(margin, 0.0)
    return Verdict(margin, sim.touched, sim.touch_speed_mps, caused and ledger.held_lately, ledger.broken_steps, way_m)


class _Clearance:
    """True distance of the outline to posts and outer walls, at most 30 % too small at corners."""

    def __init__(self, robot: Robot, world: World) -> None:
        self._normals, self._offsets = half_planes(robot.footprint)
        self._outline, self._posts = robot.footprint, world.cylinders_m
        self.reach_m = float(np.hypot(*robot.footprint.T).max())

    def __call__(self, pose: tuple[float, float, float]) -> float:
        c, s = math.cos(pose[2]), math.sin(pose[2])
        corners = self._outline @ np.array([[c, s], [-s, c]]) + np.array(pose[:2])
        to_walls = ROOM_M - float(np.abs(corners).max())
        if len(self._posts) == 0:
            return to_walls
        base = (self._posts[:, :2] - np.array(pose[:2])) @ np.array([[c, -s], [s, c]])
        gaps = (base @ self._normals.T - self._offsets).max(axis=1) - self._posts[:, 2]
        return min(to_walls, float(gaps.min()))


def search(
    robot: Robot, params: GuardParams, seed: int, population: int, generations: int, forces: bool = True
) -> Iterator[tuple[Case, Verdict]]:
    """All cases that are tried, in order. The same arguments give the same cases."""
    rng = np.random.default_rng((seed, 16))
    mean, spread = np.full(size(), 0.5), np.full(size(), 0.4)
    for _ in range(generations):
        points = np.clip(mean + spread * rng.standard_normal((population, size())), 0.0, 1.0)
        verdicts = []
        for units in points:
            case = case_of(units, robot, int(rng.integers(2**31)), forces)
            verdicts.append(judge(case, robot, params))
            yield case, verdicts[-1]
        best = points[np.argsort([v.margin_m for v in verdicts], kind="stable")[: max(2, round(ELITE * population))]]
        mean = KEEP * mean + (1.0 - KEEP) * best.mean(axis=0)
        spread = np.maximum(KEEP * spread + (1.0 - KEEP) * best.std(axis=0), SPREAD_MIN)
