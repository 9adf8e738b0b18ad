"""What a report shows of a bag: runs, each with its samples between two instants. Everything comes from the bag."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dsac_robot.apps.report_notes import END, EVENT, RUN, Expect, Note
from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import NS, Command, Contact, Floats, Goal, Odom, Scan
from dsac_robot.data.bag_reader import BagReader, open_bag, read_error
from dsac_robot.data.decode import GuardState

V = TypeVar("V")
DIAGNOSTICS = "/diagnostics"
WALL_CHANNELS = ("half_length", "half_thickness", "yaw")


@dataclass(frozen=True, eq=False)
class Obstacles:
    """The simulator's standing cylinders from ``stamp_ns`` on, in the odom frame."""

    stamp_ns: int
    cylinders_m: Floats  # (N, 3): x, y, radius


@dataclass(frozen=True, eq=False)
class Movers:
    """The simulator's moving cylinders at ``stamp_ns``, in the odom frame."""

    stamp_ns: int
    cylinders_m: Floats  # (N, 3): x, y, radius
    velocities_mps: Floats  # (N, 2)

    def moved(self, stamp_ns: int) -> Floats:
        """The cylinders at another instant near this one. # (N, 3)"""
        elapsed_s = (stamp_ns - self.stamp_ns) / NS
        return self.cylinders_m + np.pad(self.velocities_mps * elapsed_s, ((0, 0), (0, 1)))


@dataclass(frozen=True, eq=False)
class Walls:
    """The simulator's walls from ``stamp_ns`` on, in the odom frame."""

    stamp_ns: int
    walls_m: Floats  # (M, 5): x, y, half length, half thickness, yaw


@dataclass(frozen=True)
class Received:
    """A value with the time at which the recorder got it."""

    log_ns: int
    value: Any


@dataclass(frozen=True, eq=False)
class Run:
    """A part of a recording. Times are header stamps; ``scans`` and ``asked`` keep their time of reception too."""

    title: str
    expect: Expect
    begin_ns: int
    end_ns: int
    goal: Goal | None
    odom: tuple[Odom, ...]
    truth: tuple[Odom, ...]  # true poses, empty outside simulation
    scans: tuple[Received, ...]  # of Scan
    asked: tuple[Received, ...]  # of Command: what the policy asked for
    teleop: tuple[Command, ...]  # what the operator asked for
    sent: tuple[Command, ...]  # what the guard sent
    guard: tuple[GuardState, ...]
    verdicts: tuple[Verdict, ...]
    contacts: tuple[Contact, ...]
    obstacles: tuple[Obstacles, ...]
    walls: tuple[Walls, ...]
    movers: tuple[Movers, ...]
    events: tuple[Note, ...]

    def seconds(self, stamp_ns: int) -> float:
        """Time since the run began."""
        return (stamp_ns - self.begin_ns) / NS

    @property
    def poses(self) -> tuple[Odom, ...]:
        """True poses where there are some, else odometry's."""
        return self.truth or self.odom


@dataclass(frozen=True, eq=False)
class Recording:
    """A whole bag."""

    path: Path
    robot: Robot
    duration_s: float
    messages: int
    context: Mapping[str, Mapping[str, str]]  # of the recorder: bundle, parameters by node
    diagnostics: Mapping[str, Mapping[str, str]]  # the newest of each node
    runs: tuple[Run, ...]


@dataclass
class _Raw:
    """All values of a bag by topic."""

    received: dict[str, list[Received]] = field(default_factory=dict)
    teleop: list[Command] = field(default_factory=list)
    truth: list[Odom] = field(default_factory=list)
    obstacles: list[Obstacles] = field(default_factory=list)
    walls: list[Walls] = field(default_factory=list)
    movers: list[Movers] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    context: dict[str, dict[str, str]] = field(default_factory=dict)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)

    def values(self, topic: str) -> list[Any]:
        return [item.value for item in self.received.get(topic, [])]


def read_recording(path: Path, namespace: str | None = None) -> Recording:
    """The recording of a bag. Raises BagError where it cannot be read."""
    raw = _Raw()
    with BagReader(path, namespace) as reader:
        info = reader.info
        for item in reader.values():
            raw.received.setdefault(item.topic, []).append(Received(item.log_time_ns, item.value))
    _read_extra(path, info.namespace, raw)
    return Recording(
        path,
        _robot_of(raw.context),
        info.duration_s,
        info.messages,
        raw.context,
        raw.diagnostics,
        tuple(_runs(raw, info.start_ns)),
    )


def _read_extra(path: Path, namespace: str, raw: _Raw) -> None:
    """The topics that only reports read."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.LATEST)
    prefix = f"/{namespace}/" if namespace else "/"
    take: dict[str, Callable[[Any], None]] = {
        f"{prefix}sim/truth": lambda m: raw.truth.append(_truth(m)),
        f"{prefix}teleop/cmd_vel": lambda m: raw.teleop.append(_command(m)),
        f"{prefix}sim/obstacles": lambda m: raw.obstacles.append(_obstacles(m)),
        f"{prefix}sim/walls": lambda m: raw.walls.append(Walls(_stamp_ns(m), _cloud(m, *WALL_CHANNELS))),
        f"{prefix}sim/movers": lambda m: raw.movers.append(_movers(m)),
        f"{prefix}notes": lambda m: raw.notes.append(_note(m)),
        f"{prefix}recorder/context": lambda m: raw.context.update(_statuses(m)),
        DIAGNOSTICS: lambda m: raw.diagnostics.update(_statuses(m)),
    }
    reader = open_bag(path)
    try:
        connections = [c for c in reader.connections if c.topic in take and c.msgtype in store.fielddefs]
        if connections:
            for connection, _, data in reader.messages(connections):
                take[connection.topic](store.deserialize_cdr(data, connection.msgtype))
    except (KeyError, ValueError, AttributeError) as error:
        raise read_error(path, error) from error
    finally:
        reader.close()


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * NS + int(message.header.stamp.nanosec)


def _truth(message: Any) -> Odom:
    pose, twist = message.pose.pose, message.twist.twist
    z, w = float(pose.orientation.z), float(pose.orientation.w)
    position = (float(pose.position.x), float(pose.position.y))
    return Odom(_stamp_ns(message), *position, z, w, float(twist.linear.x), float(twist.angular.z))


def _command(message: Any) -> Command:
    return Command(_stamp_ns(message), float(message.twist.linear.x), float(message.twist.angular.z))


def _obstacles(message: Any) -> Obstacles:
    return Obstacles(_stamp_ns(message), _cloud(message, "radius"))


def _movers(message: Any) -> Movers:
    rows = _cloud(message, "radius", "vx", "vy")
    return Movers(_stamp_ns(message), rows[:, :3], rows[:, 3:])


def _cloud(message: Any, *names: str) -> Floats:
    """Points of a PointCloud with these channels; 0 for a channel that it lacks. # (N, 2 + channels)"""
    channels = {c.name: c.values for c in message.channels}
    places = np.array([(p.x, p.y) for p in message.points], np.float64).reshape(-1, 2)
    zeros = np.zeros(len(places))
    return np.column_stack([places, *(np.asarray(channels.get(name, zeros), np.float64) for name in names)])


def _note(message: Any) -> Note:
    status = message.status[0]
    values = {pair.key: pair.value for pair in status.values}
    return Note(_stamp_ns(message), str(status.name), str(status.message), Expect(values.get("expect", "")))


def _statuses(message: Any) -> dict[str, dict[str, str]]:
    return {
        str(status.name): {"message": str(status.message), **{str(p.key): str(p.value) for p in status.values}}
        for status in message.status
    }


def _robot_of(context: Mapping[str, Mapping[str, str]]) -> Robot:
    """The robot that the recorded parameters name, as this installation describes it."""
    for name, values in context.items():
        if name.endswith("/safety_guard") and "robot" in values:
            return load_robot(str(ast.literal_eval(values["robot"])))
    return load_robot("jackal")


# -- runs --------------------------------------------------------------------------------------------------------------


def _runs(raw: _Raw, start_ns: int) -> list[Run]:
    """By the notes where there are some, else from goal to goal."""
    stamps = [v.stamp_ns for topic in ("odom", "scan", "safety/state") for v in raw.values(topic)]
    last_ns = max(stamps, default=start_ns)
    spans = [(note, note.stamp_ns) for note in raw.notes if note.kind == RUN]
    if not spans:
        goals = _distinct(raw.values("goal_pose") + raw.values("plan"))
        spans = [
            (Note(goal.stamp_ns, RUN, f"Goal {i} at ({goal.x_m:.1f}, {goal.y_m:.1f}) m"), goal.stamp_ns)
            for i, goal in enumerate(goals, 1)
        ]
    if not spans:
        first_ns = min(stamps, default=start_ns)
        spans = [(Note(first_ns, RUN, "Recording"), first_ns)]
    begins = [begin_ns for _, begin_ns in spans]
    made = []
    for (note, begin_ns), following_ns in zip(spans, [*begins[1:], last_ns + 1], strict=True):
        ends = [n.stamp_ns for n in raw.notes if n.kind == END and begin_ns < n.stamp_ns < following_ns]
        made.append(_run(raw, note, begin_ns, ends[0] + 1 if ends else following_ns))
    return made


def _distinct(goals: list[Goal]) -> list[Goal]:
    """Goals that differ from the one before: planners send the same one again and again."""
    made: list[Goal] = []
    for goal in sorted(goals, key=lambda g: g.stamp_ns):
        if not made or (goal.x_m, goal.y_m) != (made[-1].x_m, made[-1].y_m):
            made.append(goal)
    return made


def _run(raw: _Raw, note: Note, begin_ns: int, end_ns: int) -> Run:
    def within(values: Iterable[V]) -> tuple[V, ...]:
        kept = [v for v in values if begin_ns <= v.stamp_ns < end_ns]  # type: ignore[attr-defined]  # all are stamped
        return tuple(sorted(kept, key=lambda v: v.stamp_ns))  # type: ignore[attr-defined]

    def received(topic: str) -> tuple[Received, ...]:
        return tuple(r for r in raw.received.get(topic, []) if begin_ns <= r.value.stamp_ns < end_ns)

    def standing(values: Iterable[V]) -> tuple[V, ...]:
        """The newest from before the run, which still holds, and those within it."""
        before = [v for v in values if v.stamp_ns < begin_ns]  # type: ignore[attr-defined]
        newest = sorted(before, key=lambda v: v.stamp_ns)[-1:]  # type: ignore[attr-defined]
        return (*newest, *within(values))

    goals = standing(raw.values("goal_pose") + raw.values("plan"))
    return Run(
        note.text,
        note.expect,
        begin_ns,
        end_ns,
        goals[-1] if goals else None,
        within(raw.values("odom")),
        within(raw.truth),
        received("scan"),
        received("policy/cmd_vel"),
        within(raw.teleop),
        within(raw.values("cmd_vel")),
        within(raw.values("safety/state")),
        within(raw.values("ood/state")),
        within(raw.values("contact")),
        standing(raw.obstacles),
        standing(raw.walls),
        standing(raw.movers),
        within(n for n in raw.notes if n.kind == EVENT),
    )


def scan_near(run: Run, stamp_ns: int) -> Scan | None:
    """The run's scan nearest to an instant."""
    nearest = min(run.scans, key=lambda r: abs(r.value.stamp_ns - stamp_ns), default=None)
    return None if nearest is None else nearest.value


def pose_at(run: Run, stamp_ns: int) -> Odom | None:
    """The run's pose nearest to an instant."""
    return min(run.poses, key=lambda o: abs(o.stamp_ns - stamp_ns), default=None)
