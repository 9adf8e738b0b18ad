"""The black box: the guard's last inputs and decisions, kept in memory, written to a file, replayed bit for bit.

A dump holds the guard's parameters, the robot, the state before the first kept step and every input since: as ``step``
is pure, the decisions follow from these, and ``replay`` proves it. The file is gzip over JSON lines: a header, then one
line a step. Floats are written so that they come back bit for bit; a scan is written once, however often it is used.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.core import (
    guard_docking,
    guard_fallback,
    guard_inputs,
    guard_memory,
    guard_motion,
    guard_odom,
    guard_sensed,
    guard_types,
    reasons,
    robot,
    values,
)
from dsac_robot.core.guard import GuardModel, GuardState, Halt, step
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams
from dsac_robot.core.robot import Robot

FORMAT = "dsac_robot black box"
VERSION = 2  # raised with every change of what a state, an input or a decision holds
KINDS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        *(values.Scan, values.Odom, values.Command),
        *(
            robot.Robot,
            robot.Base,
            robot.Actuation,
            robot.Limits,
            robot.Lidar,
            robot.Imu,
            robot.Odometry,
            robot.Battery,
        ),
        *(guard_types.GuardParams, guard_types.GuardInput, guard_types.Verdict, guard_types.Decision),
        *(guard_inputs.Fault, guard_inputs.Waiting, guard_inputs.Pairing, guard_motion.Sent, guard_sensed.Sensed),
        *(guard_odom.OdomWatch, guard_odom.Reckoned),
        *(guard_memory.View, guard_memory.Memory, guard_fallback.Fallback, guard_fallback.BackOff),
        guard_docking.Docking,
        *(Halt, GuardState, reasons.Reason, reasons.Level, reasons.OodLevel),
    )
}


class BlackBoxError(ValueError):
    """A file that is no black box, or one of another version. The message names the file and what is wrong."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One step: the state before it, what went in and what came out."""

    before: GuardState
    inp: GuardInput
    decision: Decision


@dataclass(frozen=True)
class Replayed:
    """One step of a replay: what the dump holds and what the guard decides now."""

    inp: GuardInput
    recorded: Decision
    decided: Decision

    @property
    def same(self) -> bool:
        """Whether both are the same to the last bit, the numbers included."""
        return text_of(self.recorded) == text_of(self.decided)


class BlackBox:
    """A ring of the last steps. Values are frozen, so that keeping one costs a reference."""

    def __init__(self, steps: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=steps)

    def record(self, before: GuardState, inp: GuardInput, decision: Decision) -> None:
        """Keep one step, and forget the oldest when full."""
        self._entries.append(Entry(before, inp, decision))

    def snapshot(self) -> tuple[Entry, ...]:
        """The kept steps, oldest first."""
        return tuple(self._entries)


def write(entries: tuple[Entry, ...], model: GuardModel, path: Path) -> None:
    """Write a dump. Raises ValueError where there is nothing to write."""
    if not entries:
        raise ValueError("the black box is empty: no step has been recorded")
    codec = _Encoder()
    head = {"format": FORMAT, "version": VERSION, "steps": len(entries)}
    head |= {name: codec.encode(value) for name, value in (("params", model.params), ("robot", model.robot))}
    head["state"] = codec.encode(entries[0].before)
    with gzip.open(path, "wt", encoding="ascii", compresslevel=3) as file:
        file.write(json.dumps(head) + "\n")
        for entry in entries:
            file.write(json.dumps([codec.encode(entry.inp), codec.encode(entry.decision)]) + "\n")


def replay(path: Path) -> Iterator[Replayed]:
    """Run the guard again over a dump, step by step. Raises BlackBoxError where the file is none, damaged or newer."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            head = json.loads(file.readline())
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise BlackBoxError(f"{path}: not a black box of the guard")
            if head.get("version") != VERSION:
                raise BlackBoxError(f"{path}: version {head.get('version')}, this program reads {VERSION}")
            codec = _Decoder()
            params: GuardParams = codec.decode(head["params"])
            described: Robot = codec.decode(head["robot"])
            model = GuardModel.of(params, described)
            state: GuardState = codec.decode(head["state"])
            for _ in range(int(head["steps"])):
                inp, recorded = (codec.decode(part) for part in json.loads(file.readline()))
                state, decided = step(state, inp, model)
                yield Replayed(inp, recorded, decided)
            if file.readline():  # to the end, where gzip's checksum is
                raise BlackBoxError(f"{path}: damaged: more steps than its head says")
    except BlackBoxError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BlackBoxError(f"{path}: cannot be read: {error.strerror}") from error
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise BlackBoxError(f"{path}: damaged, or written by another version: {error}") from error


def text_of(value: Any) -> str:
    """A value as text that differs where any bit of it does."""
    return json.dumps(_Encoder().encode(value))


class _Encoder:
    """Values as JSON. Objects that are compared by identity are written once and then referred to."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # keeps them alive, so that no id is used twice

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, IntEnum):
            return {"!": type(value).__name__, "value": int(value)}
        if isinstance(value, int | float) and not isinstance(value, np.generic):
            return value
        if isinstance(value, np.generic):
            return self.encode(value.item())
        if isinstance(value, tuple):
            return [self.encode(item) for item in value]
        if isinstance(value, np.ndarray):
            data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
            return {"!": "array", "dtype": value.dtype.str, "shape": list(value.shape), "data": data}
        return self._object(value)

    def _object(self, value: Any) -> Any:
        name = type(value).__name__
        if KINDS.get(name) is not type(value) or not dataclasses.is_dataclass(value):
            raise TypeError(f"{name} cannot be written to a black box")
        shared = isinstance(value, values.Scan | guard_memory.View)
        if shared and id(value) in self._numbers:
            return {"!": "again", "number": self._numbers[id(value)]}
        if shared:
            self._numbers[id(value)] = len(self._numbers)
            self._kept.append(value)
        return {"!": name} | {f.name: self.encode(getattr(value, f.name)) for f in dataclasses.fields(value)}


class _Decoder:
    """The inverse of _Encoder, fed in the same order."""

    def __init__(self) -> None:
        self._objects: list[Any] = []

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self.decode(item) for item in value)
        if not isinstance(value, dict):
            return value
        kind = value["!"]
        if kind == "array":
            flat = np.frombuffer(base64.b64decode(value["data"], validate=True), np.dtype(value["dtype"]))
            return flat.reshape(value["shape"]).copy()  # as it was, to be written to
        if kind == "again":
            return self._objects[value["number"]]
        cls: Any = KINDS[kind]
        if issubclass(cls, IntEnum):
            return cls(value["value"])
        number = len(self._objects)
        shared = cls in (values.Scan, guard_memory.View)
        if shared:
            self._objects.append(None)  # numbered before its parts, as when it was written
        made = cls(**{name: self.decode(part) for name, part in value.items() if name != "!"})
        if shared:
            self._objects[number] = made
        return made
