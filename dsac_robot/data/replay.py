"""What to publish when a bag is fed to the stack again: sensors, goals and the clock, as the very bytes recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dsac_robot.core.values import NS
from dsac_robot.data.bag_reader import BagError, open_bag, read_error

SENSOR_TOPICS = ("scan", "odom", "imu", "goal_pose", "plan", "contact")
CLOCK_PERIOD_NS = NS // 100


@dataclass(frozen=True)
class RawMessage:
    """One serialized message: topic relative to the robot's namespace (absolute topics keep their slash)."""

    topic: str
    type: str
    log_time_ns: int
    data: bytes


@dataclass(frozen=True)
class ClockTick:
    """Time to publish on /clock."""

    log_time_ns: int


def raw_messages(path: Path, topics: Iterable[str], namespace: str = "") -> Iterator[RawMessage]:
    """The messages of ``topics`` sorted by log time, undecoded. Raises BagError for a damaged bag, and where the bag
    holds none of the topics."""
    prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
    names = {name if name.startswith("/") else f"{prefix}{name}": name for name in topics}
    reader = open_bag(path)
    try:
        connections = [c for c in reader.connections if c.topic in names]
        if not connections:
            raise BagError(f"{path} holds none of {', '.join(names)}: see `dsac-robot bag info`, or name --topics")
        for connection, log_time_ns, data in reader.messages(connections):
            yield RawMessage(names[connection.topic], connection.msgtype, log_time_ns, bytes(data))
    except BagError:
        raise
    except Exception as error:  # rosbags lets many kinds through from damaged bytes; all mean the same here
        raise read_error(path, error) from error
    finally:
        reader.close()


def schedule(messages: Iterable[RawMessage]) -> Iterator[RawMessage | ClockTick]:
    """The messages, with clock ticks every 10 ms of the bag's time and right before each message: a subscriber's clock
    is never behind what it receives, and never goes back."""
    next_ns: int | None = None
    told_ns = -1
    for message in messages:
        if next_ns is None:
            next_ns = message.log_time_ns
        while next_ns <= message.log_time_ns:
            if next_ns > told_ns:
                yield ClockTick(next_ns)
                told_ns = next_ns
            next_ns += CLOCK_PERIOD_NS
        if message.log_time_ns > told_ns:
            told_ns = message.log_time_ns
            yield ClockTick(told_ns)
        yield message
