"""How hard a robot brakes, and how late its commands act: what ``brake_mps2`` and ``reaction_s`` must cover.

The way of a stop from speed v, from its first falling command to rest, is  v L + v^2 / 2 B  with L the base's delay and
lag and B its brake. A straight line through way / v over v gives both, so that a lag that was fitted to the same drive
does not hide a weak brake. Only stops are used whose commands fall as hard as the robot file says, for a base that is
asked gently shows nothing. Odometry does not see wheels that slide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsac_robot.core.robot import Limits
from dsac_robot.core.values import NS, Command, Floats, Odom
from dsac_robot.data.identify_motion import Estimate, NotExcitedError

SPEED_MIN_MPS = 0.4  # slower stops say little
STEADY_S, STEADY_PART = 0.4, 0.05  # so long before it the speed asked for changed by no more than this part
TURN_MAX_RADPS = 0.2
HARD_PART = 0.85  # of the file's brake_mps2: stops asked for more gently are left out
REST_MPS = 0.02
STOPS_MIN, SPREAD_MIN = 5, 1.5  # so many, the fastest from so many times the speed of the slowest
WITHIN_S = 5.0  # at rest after so long, or it is no stop
WIDEST = 0.3  # an interval that goes farther below the value than by this part of it says too little
FLOOR = 0.05  # no brake is known better: the period of the commands and the exact shape of the answer are not modelled
HOW = "hold a steady speed straight on and call ~/stop, or let go of teleop: five times or more, at several speeds"


@dataclass(frozen=True)
class Stop:
    """One stop: the speed before it, and the way from its first falling command to rest."""

    speed_mps: float
    way_m: float


def reaction_s(sent: tuple[Command, ...], delay_s: float) -> float:
    """What ``reaction_s`` must cover by this recording: p99 of the time between two commands, and the whole delay."""
    gaps_s = np.diff([command.stamp_ns for command in sent]) / NS
    return float(np.percentile(gaps_s, 99)) + delay_s


def stops_of(sent: tuple[Command, ...], odoms: tuple[Odom, ...], limits: Limits) -> list[Stop]:
    """The hard stops of a recording."""
    times = np.array([c.stamp_ns for c in sent]) / NS
    speeds, turns = np.array([c.speed_mps for c in sent]), np.array([c.yaw_rate_radps for c in sent])
    odom_s, way_m = np.array([o.stamp_ns for o in odoms]) / NS, _way_m(odoms)
    odom_mps = np.array([abs(o.speed_mps) for o in odoms])
    found = []
    for first in np.flatnonzero((speeds[1:] < speeds[:-1]) & (speeds[:-1] >= SPEED_MIN_MPS)) + 1:
        last = _zero_after(speeds, int(first))
        if last is None or not _steady(times, speeds, turns, int(first)):
            continue
        speed, began = float(speeds[first - 1]), float(0.5 * (times[first - 1] + times[first]))
        took = float(times[last]) - began
        if speed < HARD_PART * limits.brake_mps2 * took:
            continue
        at_rest = np.flatnonzero((odom_s > times[last]) & (odom_mps < REST_MPS))
        if len(at_rest) == 0 or odom_s[at_rest[0]] > began + WITHIN_S or odom_s[0] > began:
            continue
        rest = int(at_rest[0])
        if np.any(speeds[last : np.searchsorted(times, odom_s[rest])] != 0.0):
            continue
        found.append(Stop(speed, float(way_m[rest] - np.interp(began, odom_s, way_m))))
    return found


def brake(stops: list[Stop], limits: Limits) -> tuple[Estimate, str]:
    """The brake with a 95 % interval, and a note. ``low`` is at most the file's value: braking better is no finding.

    Raises NotExcitedError where there are too few stops, or too much alike, or where they do not agree.
    """
    stated = limits.brake_mps2
    if len(stops) < STOPS_MIN:
        raise NotExcitedError(f"{len(stops)} straight stops as hard as {stated:g} m/s^2, it takes {STOPS_MIN}: {HOW}")
    speeds = np.array([stop.speed_mps for stop in stops])
    note = f"from {len(stops)} stops from {speeds.min():.1f} to {speeds.max():.1f} m/s, by odometry"
    if speeds.max() < SPREAD_MIN * speeds.min():
        raise NotExcitedError(f"{note}: too much alike; {HOW}")
    over = np.array([stop.way_m for stop in stops]) / speeds
    off = speeds - speeds.mean()
    slope = float(off @ over / (off @ off))
    rest = over - over.mean() - slope * off
    freedom = len(stops) - 2
    spread = (1.96 + 3.7 / freedom) * float(np.sqrt(rest @ rest / freedom / (off @ off)))  # a little above Student's t
    if slope <= 0.0 or slope + spread > slope / (1.0 - WIDEST):
        raise NotExcitedError(f"{note}: they do not agree on a brake; {HOW}")
    low, high = (1.0 - FLOOR) * 0.5 / (slope + spread), (1.0 + FLOOR) * 0.5 / (slope - spread)
    return Estimate(0.5 / slope, min(low, stated), high), note


def _zero_after(speeds: Floats, first: int) -> int | None:
    """The first zero command of a fall that begins at ``first``; None where it does not go down to zero."""
    k = first
    while k < len(speeds) and speeds[k] > 0.0:
        if speeds[k] > speeds[k - 1]:
            return None
        k += 1
    return k if k < len(speeds) and speeds[k] == 0.0 else None


def _steady(times: Floats, speeds: Floats, turns: Floats, first: int) -> bool:
    """Whether the robot was asked to go straight on at one speed before."""
    before = slice(int(np.searchsorted(times, times[first - 1] - STEADY_S)), first)
    if times[first - 1] - times[0] < STEADY_S or np.any(np.abs(turns[before]) > TURN_MAX_RADPS):
        return False
    return bool(np.all(np.abs(speeds[before] - speeds[first - 1]) <= STEADY_PART * speeds[first - 1]))


def _way_m(odoms: tuple[Odom, ...]) -> Floats:
    """The odometer at each sample. # (N,)"""
    x, y = np.array([o.x_m for o in odoms]), np.array([o.y_m for o in odoms])
    return np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
