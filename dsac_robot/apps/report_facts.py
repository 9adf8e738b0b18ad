"""What happened in a run: outcome, times, clearance, stops, reasons, latency; whether it shows what it must. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dsac_robot.apps.report_data import Movers, Obstacles, Recording, Run, Walls, pose_at
from dsac_robot.apps.report_notes import Expect
from dsac_robot.core.geometry import box_corners, outward_distance
from dsac_robot.core.navigate import NavigateParams, clearance_m, goal_distance_m
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Floats, Odom, ns

MOVING_MPS = 0.05
AT_REST_MPS = 0.02
JUMP_M = 0.5  # between two poses: the robot was put elsewhere
STOP_S_MAX, STOP_M_MAX = 1.0, 1.2  # from 2 m/s, after any fault upstream
REACTS_S = 2.0  # within which guard and monitor must have acted
FAST_MPS = 0.5  # below this at the event, a stop shows nothing
SAMPLE_NS = ns(0.05)  # of clearance over time
REACH_M = 3.0  # obstacles farther from the robot are not looked at
DEATH = (Reason.COMMAND_STALE, Reason.COMMAND_MISSING, Reason.VERDICT_MISSING)
GUARDED = (Reason.CLEARANCE, Reason.NO_SAFE_COMMAND, Reason.UNSEEN_SPACE)
MONITORED = (Reason.OOD_CAUTION, Reason.OOD_ALARM)


@dataclass(frozen=True, eq=False)
class Stop:
    """How the robot came to rest after an event."""

    event: str
    speed_mps: float  # at the event
    time_s: float | None  # None: it did not come to rest
    distance_m: float | None


@dataclass(frozen=True, eq=False)
class Facts:
    """A run in numbers."""

    outcome: str
    arrived: bool
    touched: bool
    drive_s: float  # from the first motion to arrival, contact or the end
    path_m: float
    speed_max_mps: float
    clearance: Floats  # (N, 2): seconds since the run began, metres
    stop: Stop | None
    reasons: Mapping[str, float]  # "LEVEL REASON": seconds, longest first; full drive left out
    in_command: Mapping[Level, float]  # fraction of the time in motion or wanting to be

    @property
    def clearance_min_m(self) -> float:
        """Least clearance; NaN where it is not known."""
        return float(np.min(self.clearance[:, 1])) if len(self.clearance) else math.nan


@dataclass(frozen=True)
class Shown:
    """Whether a run shows what it must, in a sentence."""

    ok: bool
    text: str


def facts_of(run: Run, robot: Robot, goal_tolerance_m: float = NavigateParams.goal_tolerance_m) -> Facts:
    """The facts of a run."""
    poses = run.poses
    begin_ns = next((o.stamp_ns for o in poses if abs(o.speed_mps) > MOVING_MPS), run.begin_ns)
    touch_ns = next((c.stamp_ns for c in run.contacts if c.touching), None)
    near = (o.stamp_ns for o in poses if run.goal and goal_distance_m(o, run.goal) < goal_tolerance_m)
    arrival_ns = next(near, None)
    last_ns = poses[-1].stamp_ns if poses else run.end_ns
    until_ns = min(t for t in (touch_ns, arrival_ns, last_ns) if t is not None)
    driven = [o for o in poses if begin_ns <= o.stamp_ns <= until_ns]
    return Facts(
        _outcome(run, touch_ns is not None, arrival_ns is not None),
        arrival_ns is not None,
        touch_ns is not None,
        max(0.0, (until_ns - begin_ns) / NS),
        path_length_m(driven),
        max((abs(o.speed_mps) for o in poses), default=0.0),
        _clearances(run, robot),
        _stop(run),
        _reasons(run),
        _shares(run, begin_ns, until_ns),
    )


def _outcome(run: Run, touched: bool, arrived: bool) -> str:
    if touched:
        return "contact"
    if arrived:
        return "goal reached"
    if run.guard and run.guard[-1].level >= Level.STOP:
        return f"stopped: {run.guard[-1].reason.name}"
    return "under way at the end"


def path_length_m(poses: list[Odom]) -> float:
    """Length of the way through the poses, jumps left out."""
    if len(poses) < 2:
        return 0.0
    points = np.array([(o.x_m, o.y_m) for o in poses])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return float(steps[steps < JUMP_M].sum())


def _stop(run: Run) -> Stop | None:
    """How the robot came to rest after the run's first event."""
    if not run.events or not run.poses:
        return None
    event = run.events[0]
    struck = pose_at(run, event.stamp_ns)
    assert struck is not None
    after = [o for o in run.poses if o.stamp_ns >= struck.stamp_ns]
    rest = next((o for o in after if abs(o.speed_mps) < AT_REST_MPS), None)
    if rest is None:
        return Stop(event.text, struck.speed_mps, None, None)
    distance = path_length_m([o for o in after if o.stamp_ns <= rest.stamp_ns])
    return Stop(event.text, struck.speed_mps, (rest.stamp_ns - struck.stamp_ns) / NS, distance)


def _reasons(run: Run) -> dict[str, float]:
    times: dict[str, float] = {}
    for state, following in zip(run.guard, run.guard[1:], strict=False):
        if state.level != Level.DRIVE:
            key = f"{state.level.name} {state.reason.name}"
            times[key] = times.get(key, 0.0) + (following.stamp_ns - state.stamp_ns) / NS
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def _shares(run: Run, begin_ns: int, until_ns: int) -> dict[Level, float]:
    states = [s for s in run.guard if begin_ns <= s.stamp_ns <= until_ns]
    return {level: sum(s.level == level for s in states) / len(states) for level in Level} if states else {}


# -- clearance ---------------------------------------------------------------------------------------------------------


H = TypeVar("H", Obstacles, Walls, Movers)


def _at(shown: Sequence[H], stamp_ns: int) -> H | None:
    """What the simulator had said at an instant."""
    return next((item for item in reversed(shown) if item.stamp_ns <= stamp_ns), None)


def _clearances(run: Run, robot: Robot) -> Floats:
    """Clearance over time: true where the simulator says what stands where, else as the lidar sees it. # (N, 2)"""
    rows, next_ns = [], 0
    if run.truth and run.obstacles:
        for pose in run.truth:
            here = _at(run.obstacles, pose.stamp_ns)
            if pose.stamp_ns >= next_ns and here is not None:
                next_ns = pose.stamp_ns + SAMPLE_NS
                movers, walls = _at(run.movers, pose.stamp_ns), _at(run.walls, pose.stamp_ns)
                moving = movers.moved(pose.stamp_ns) if movers else np.zeros((0, 3))
                clearance = true_clearance_m(pose, np.concatenate([here.cylinders_m, moving]), robot)
                if walls is not None and len(walls.walls_m):
                    clearance = min(clearance, wall_clearance_m(pose, walls.walls_m, robot))
                rows.append((run.seconds(pose.stamp_ns), clearance))
    else:
        for item in run.scans:
            scan = item.value
            if scan.stamp_ns >= next_ns and len(scan.ranges_m) == robot.lidar.beams:
                next_ns = scan.stamp_ns + SAMPLE_NS
                rows.append((run.seconds(scan.stamp_ns), clearance_m(scan, robot)))
    return np.array(rows, np.float64).reshape(-1, 2)


def true_clearance_m(pose: Odom, cylinders_m: Floats, robot: Robot) -> float:
    """Distance of the footprint to the nearest cylinder, at least 0; ``REACH_M`` where all are farther."""
    away = np.hypot(cylinders_m[:, 0] - pose.x_m, cylinders_m[:, 1] - pose.y_m)
    near = cylinders_m[away < REACH_M]
    if not len(near):
        return REACH_M
    return max(0.0, float(np.min(outward_distance(_in_base(near[:, :2], pose), robot.footprint) - near[:, 2])))


def wall_clearance_m(pose: Odom, walls_m: Floats, robot: Robot) -> float:
    """Distance of the footprint to the nearest wall, at least 0: it is that of a corner of the one or of the other
    (as long as they do not cross, which walls prevent).

    # walls (M, 5): x, y, half length, half thickness, yaw; at least one
    """
    corners = _in_base(box_corners(walls_m).reshape(-1, 2), pose)
    of_walls = float(outward_distance(corners, robot.footprint).min())
    cos, sin = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
    outline = robot.footprint @ np.array([[cos, sin], [-sin, cos]]) + (pose.x_m, pose.y_m)  # (V, 2)
    away = outline[None] - walls_m[:, None, :2]  # (M, V, 2)
    c, s = np.cos(walls_m[:, 4:]), np.sin(walls_m[:, 4:])
    along, across = away[..., 0] * c + away[..., 1] * s, away[..., 1] * c - away[..., 0] * s
    beyond = [np.maximum(np.abs(a) - half, 0.0) for a, half in ((along, walls_m[:, 2:3]), (across, walls_m[:, 3:4]))]
    return max(0.0, min(of_walls, float(np.hypot(*beyond).min())))


def _in_base(points_m: Floats, pose: Odom) -> Floats:
    """Points of the odom frame seen from the robot. # (N, 2) -> (N, 2)"""
    cos, sin = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
    return np.asarray((points_m - (pose.x_m, pose.y_m)) @ np.array([[cos, -sin], [sin, cos]]))


# -- latency -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Latency:
    """Seconds from sensor to command, one value a command of the policy."""

    received_s: Floats  # from the reception of a scan to that of the command made of it
    sent_s: Floats  # from the scan's stamp to the first cmd_vel that obeys it


def latency_of(recording: Recording) -> Latency:
    """Latency over all runs, as the recorder saw it (in simulation: in steps of its clock)."""
    received, sent = [], []
    for run in recording.runs:
        scans = {item.value.stamp_ns: item.log_ns for item in run.scans}
        first: dict[int, int] = {}
        for state in run.guard:
            first.setdefault(state.judged_stamp_ns, state.stamp_ns)
        for item in run.asked:
            stamp_ns = item.value.stamp_ns
            if stamp_ns in scans:
                received.append((item.log_ns - scans[stamp_ns]) / NS)
            if stamp_ns in first:
                sent.append((first[stamp_ns] - stamp_ns) / NS)
    return Latency(np.array(received), np.array(sent))


# -- what a run must show ----------------------------------------------------------------------------------------------


def shown(run: Run, facts: Facts) -> Shown:
    """Whether the run shows what it must, by the recording alone."""
    if facts.touched:
        return Shown(False, "something was touched")
    if run.expect == Expect.GOAL:
        text = f"{facts.path_m:.1f} m in {facts.drive_s:.1f} s, never closer than {facts.clearance_min_m:.2f} m"
        return Shown(facts.arrived, f"goal reached, {text}" if facts.arrived else f"no goal: {facts.outcome}, {text}")
    if run.expect == Expect.NOTHING:
        return Shown(True, facts.outcome)
    if not run.events or facts.stop is None:
        return Shown(False, "nothing was done to the robot")
    if facts.stop.speed_mps < FAST_MPS:
        return Shown(False, f"the robot moved at {facts.stop.speed_mps:.2f} m/s only: it shows nothing")
    if run.expect == Expect.REST:
        return _shown_rest(run, facts.stop)
    return _shown_guard(run, facts) if run.expect == Expect.GUARD else _shown_monitor(run)


def _after(run: Run, wanted: tuple[Reason, ...], until_s: float) -> tuple[Reason, float] | None:
    """The first of the wanted reasons that the guard gives after the event, and how many seconds after."""
    event_ns = run.events[0].stamp_ns
    for state in run.guard:
        delay_s = (state.stamp_ns - event_ns) / NS
        if 0.0 <= delay_s <= until_s and state.reason in wanted and state.level != Level.DRIVE:
            return state.reason, delay_s
    return None


def _shown_rest(run: Run, stop: Stop) -> Shown:
    named = _after(run, DEATH, REACTS_S)
    if stop.time_s is None or stop.distance_m is None:
        return Shown(False, f"not at rest after {stop.event}")
    text = f"at rest {stop.time_s:.2f} s and {stop.distance_m:.2f} m after it, from {stop.speed_mps:.1f} m/s"
    ok = stop.time_s <= STOP_S_MAX and stop.distance_m <= STOP_M_MAX
    return Shown(ok and named is not None, f"{text}; the guard says {named[0].name if named else 'nothing of it'}")


def _shown_guard(run: Run, facts: Facts) -> Shown:
    acted = _after(run, GUARDED, REACTS_S)
    if acted is None:
        return Shown(False, f"the guard did not act within {REACTS_S:.0f} s")
    after = facts.clearance[facts.clearance[:, 0] >= run.seconds(run.events[0].stamp_ns), 1]
    nearest = f", never closer than {after.min():.2f} m" if len(after) else ""
    return Shown(True, f"the guard acts {acted[1]:.2f} s after it ({acted[0].name}), nothing is touched{nearest}")


def _shown_monitor(run: Run) -> Shown:
    event_ns = run.events[0].stamp_ns
    raised = [v for v in run.verdicts if v.stamp_ns >= event_ns and v.level != OodLevel.OK]
    before = [v for v in run.verdicts if event_ns - NS <= v.stamp_ns < event_ns and v.level == OodLevel.ALARM]
    heeded = _after(run, MONITORED, math.inf)  # its own reasons may come first: noise looks like obstacles
    if before:
        return Shown(False, "the monitor alarmed before anything was wrong")
    if not raised or (raised[0].stamp_ns - event_ns) / NS > REACTS_S:
        return Shown(False, f"the monitor stayed calm for {REACTS_S:.0f} s")
    text = f"the monitor raises {raised[0].level.name} {(raised[0].stamp_ns - event_ns) / NS:.2f} s after it"
    if heeded is None:
        return Shown(False, f"{text}, and the guard does not heed it")
    return Shown(True, f"{text}; the guard heeds it after {heeded[1]:.2f} s ({heeded[0].name})")
