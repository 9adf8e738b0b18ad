"""Reads a rosbag2 bag (MCAP or sqlite3) as core values, sorted by the time of logging.

Topics that the stack does not know, or whose type is not defined anywhere, are skipped and reported; they never stop
a reader. Whatever is wrong with a file, BagError is what is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.history import History, MissingSampleError
from dsac_robot.core.kinematics import to_odom
from dsac_robot.core.values import Command, Contact, Goal, Imu, Odom, Plan, Scan
from dsac_robot.data.decode import DECODERS, DecodeError, Decoder, GoalPoint, GuardState, PlanPoints

Value = Scan | Odom | Imu | Goal | Plan | Command | Contact | GuardState | Verdict
Place = Callable[[float, float], tuple[float, float]]
GOAL_HORIZON_S = 30.0  # odometry kept for goals that were sent in the base frame


class BagError(RuntimeError):
    """A bag cannot be read. The message names the bag and what to do."""


class SeveralRobotsError(BagError):
    """A bag holds the topics of several namespaces and none was named."""


@dataclass(frozen=True)
class Logged:
    """One value from a bag: its topic relative to the robot's namespace, and when it was logged."""

    topic: str  # "scan", "policy/cmd_vel", …
    log_time_ns: int
    value: Value


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a bag."""

    name: str
    type: str
    messages: int
    readable: bool  # has a place in the stack, and a type that can be decoded


@dataclass(frozen=True)
class BagInfo:
    """What a bag holds."""

    path: Path
    start_ns: int
    duration_s: float
    messages: int
    namespace: str
    topics: tuple[TopicInfo, ...]


@dataclass
class ReadReport:
    """What a reader met: values by topic, and what it left out and why, with counts."""

    values: dict[str, int] = field(default_factory=dict)
    skipped_topics: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)  # sentence: number of messages

    def refuse(self, why: str) -> None:
        """Count one message that could not be used."""
        self.refused[why] = self.refused.get(why, 0) + 1


class BagReader:
    """An open bag. ``namespace`` None: the one namespace whose topics the bag holds.

    A path on ``plan`` gives two values, its last pose as a Goal and, where it has two different positions, a Plan.
    ``plan_speed_mps`` is the speed of those whose poses are no schedule.

    Raises BagError where the bag cannot be opened, and where it holds several robots and none was named.
    """

    def __init__(self, path: Path, namespace: str | None = None, plan_speed_mps: float = 0.3) -> None:
        self.path = path
        self._plan_speed_mps = plan_speed_mps
        self.report = ReadReport()
        self._reader = open_bag(path)
        try:
            self.namespace = self._find_namespace() if namespace is None else namespace.strip("/")
            self._types = get_typestore(Stores.EMPTY)
            self._decoders = self._find_decoders()
        except BagError:
            self._reader.close()
            raise
        except Exception as error:  # see _decoded
            self._reader.close()
            raise read_error(path, error) from error

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def info(self) -> BagInfo:
        """The bag's topics and times."""
        decodable = set(self._decoders)
        topics = [(c.topic, c.msgtype, c.msgcount) for c in self._reader.connections]
        merged = {(name, kind): 0 for name, kind, _ in topics}
        for name, kind, count in topics:
            merged[(name, kind)] += count
        empty = self._reader.message_count == 0
        return BagInfo(
            self.path,
            0 if empty else self._reader.start_time,
            0.0 if empty else self._reader.duration / 1e9,
            self._reader.message_count,
            self.namespace,
            tuple(TopicInfo(n, k, count, n in decodable) for (n, k), count in sorted(merged.items())),
        )

    def values(self) -> Iterator[Logged]:
        """Every value, sorted by log time (a goal in the base frame comes once its odometry is there).

        Raises BagError where the file is damaged.
        """
        odometry = History(GOAL_HORIZON_S)
        frames = _Frames()
        waiting: list[tuple[str, int, GoalPoint | PlanPoints]] = []
        for topic, log_time_ns, decoded in self._decoded(frames):
            if isinstance(decoded, Odom):
                odometry.add(decoded)
            if isinstance(decoded, GoalPoint | PlanPoints):
                waiting.append((topic, log_time_ns, decoded))
            else:
                self._count(topic)
                yield Logged(topic, log_time_ns, decoded)
            if waiting and isinstance(decoded, Odom | GoalPoint | PlanPoints):
                waiting_still = []
                for name, time_ns, asked in waiting:
                    point = asked.goal if isinstance(asked, PlanPoints) else asked
                    place = self._place(point, odometry, frames)
                    if place is not None:
                        self._count(name)
                        yield from (Logged(name, time_ns, value) for value in self._placed(asked, place))
                    elif point.frame_id == frames.base or not frames.known:
                        waiting_still.append((name, time_ns, asked))
                waiting = waiting_still
        for _ in waiting:
            self.report.refuse("goal without any odometry before it")

    def _count(self, topic: str) -> None:
        self.report.values[topic] = self.report.values.get(topic, 0) + 1

    def _place(self, point: GoalPoint, odometry: History, frames: _Frames) -> Place | None:
        """What moves points of a goal's frame into the odom frame, as the policy node does; None where it must wait or
        is refused."""
        if point.frame_id == frames.odom:
            return lambda x, y: (x, y)
        if point.frame_id == frames.base:
            try:
                odom = odometry.newest(Odom, point.stamp_ns)
            except MissingSampleError:
                return None
            return lambda x, y: to_odom(odom, x, y)
        if frames.known:
            self.report.refuse(f"goal in frame {point.frame_id!r}; odometry is in {frames.odom!r} and {frames.base!r}")
        return None

    def _placed(self, asked: GoalPoint | PlanPoints, place: Place) -> Iterator[Goal | Plan]:
        """The goal in the odom frame, and the plan that leads there."""
        point = asked.goal if isinstance(asked, PlanPoints) else asked
        yield Goal(point.stamp_ns, *place(point.x_m, point.y_m))
        if isinstance(asked, PlanPoints) and len(asked.points_m) > 1:
            points = np.array([place(x, y) for x, y in asked.points_m.tolist()])
            yield Plan(point.stamp_ns, points, asked.speed_mps or self._plan_speed_mps)

    def _decoded(self, frames: _Frames) -> Iterator[tuple[str, int, Any]]:
        connections = [c for c in self._reader.connections if c.topic in self._decoders]
        if not connections:
            return
        try:
            for connection, log_time_ns, raw in self._reader.messages(connections):
                topic, decoder = self._decoders[connection.topic]
                message = self._types.deserialize_cdr(raw, connection.msgtype)
                if topic == "odom":
                    frames.learn(message)
                try:
                    decoded = decoder(message, log_time_ns)
                except DecodeError as error:
                    self.report.refuse(f"{connection.topic}: {error}")
                    continue
                yield topic, log_time_ns, decoded
        except Exception as error:  # rosbags lets many kinds through from damaged bytes; all mean the same here
            raise read_error(self.path, error) from error

    def _find_namespace(self) -> str:
        for names in (("scan", "odom"), ("goal_pose", "safety/state")):
            spaces = {
                c.topic.removesuffix(f"/{name}").strip("/")
                for c in self._reader.connections
                for name in names
                if c.topic.endswith(f"/{name}")
            }
            if len(spaces) > 1 and "" not in spaces:
                robots = ", ".join(sorted(spaces))
                raise SeveralRobotsError(f"{self.path} holds several robots ({robots}): name one by its namespace")
            if spaces:
                return "" if "" in spaces else spaces.pop()
        return ""

    def _find_decoders(self) -> dict[str, tuple[str, Decoder]]:
        found: dict[str, tuple[str, Decoder]] = {}
        prefix = f"/{self.namespace}/" if self.namespace else "/"
        for connection in self._reader.connections:
            relative = connection.topic.removeprefix(prefix)
            if not connection.topic.startswith(prefix) or relative not in DECODERS:
                self.report.skipped_topics[connection.topic] = f"{connection.msgtype}: not a topic that is learned from"
                continue
            decoder = DECODERS[relative].get(connection.msgtype)
            if decoder is None:
                allowed = ", ".join(DECODERS[relative])
                self.report.skipped_topics[connection.topic] = f"{connection.msgtype}: expected {allowed}"
            elif why_not := _learn_type(self._types, connection):
                self.report.skipped_topics[connection.topic] = f"{connection.msgtype}: {why_not}"
            else:
                found[connection.topic] = (relative, decoder)
        return found


@dataclass
class _Frames:
    """The frames of the bag's odometry, from its first message."""

    odom: str = "odom"
    base: str = "base_link"
    known: bool = False

    def learn(self, message: Any) -> None:
        if not self.known:
            self.odom = str(message.header.frame_id).removeprefix("/") or self.odom
            self.base = str(message.child_frame_id).removeprefix("/") or self.base
            self.known = True


def open_bag(path: Path) -> Reader:
    """rosbags' reader, opened. Raises BagError."""
    if not path.exists():
        raise BagError(f"{path} does not exist: give a bag folder (with metadata.yaml) or an .mcap file")
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:  # see _decoded
        raise read_error(path, error) from error
    return reader


def _learn_type(store: Typestore, connection: Connection) -> str | None:
    """Make a connection's type known from the bag's own definition, else from rosbags'; None, or why it cannot be.

    Only types that are used are looked at, so that an odd one elsewhere in the bag stops nobody.
    """
    text, kind = connection.msgdef.data, connection.msgdef.format
    try:
        if kind == MessageDefinitionFormat.MSG:
            store.register(get_types_from_msg(text, connection.msgtype))
        elif kind == MessageDefinitionFormat.IDL:
            for part in text.split("=" * 80 + "\n"):
                store.register(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
        else:
            known = get_typestore(Stores.LATEST).fielddefs
            store.register({name: known[name] for name in _needed(connection.msgtype, known)})
    except (TypesysError, KeyError) as error:
        return f"its definition cannot be used ({error})"
    return None


def _needed(msgtype: str, known: Mapping[str, Any]) -> set[str]:
    """A type and every type inside it. Raises KeyError for one that is not known."""
    needed, queue = set[str](), [msgtype]
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue += [inner for _, field in known[name][1] for inner in _named(field)]
    return needed


def _named(field: Any) -> list[str]:
    """The message types that a field descriptor of rosbags names, however nested in arrays."""
    if isinstance(field, str):
        return [field] if "/msg/" in field else []
    return [name for part in field for name in _named(part)] if isinstance(field, tuple) else []


def read_error(path: Path, error: Exception) -> BagError:
    """The BagError for whatever ``error`` reading ``path`` gave."""
    what = str(error) or type(error).__name__
    return BagError(f"{path} cannot be read ({what}); if it was never closed, try: dsac-robot bag recover {path.name}")
