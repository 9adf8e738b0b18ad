"""The text that describes a message type inside a bag, as rosbag2 writes it (MCAP schema encoding ``ros2msg``).

The text is the type's own .msg file, then that of every type it contains, each after a line of 80 ``=`` and a line
``MSG: package/Type``. It is read from the message packages of the ROS that is installed; where there is none (a
workstation that only converts bags) rosbags' own copy of the common definitions is used.
"""

from __future__ import annotations

import json
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Literal

SEPARATOR = "=" * 80
_FIELD = re.compile(r"^\s*([A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z0-9_/]+)?)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]")
_TYPE = re.compile(r"^[A-Za-z]\w*/msg/[A-Za-z]\w*$")
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_PRIMITIVES = frozenset({"bool", "byte", "char", "float32", "float64", "string", "wstring"} | _INTEGERS)


class UnknownTypeError(LookupError):
    """No definition of a message type is installed. The message names the type and the places searched."""


def share_folders() -> tuple[Path, ...]:
    """The share folders of the installed ROS: each of AMENT_PREFIX_PATH, then that of this Python's prefix."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    return tuple(Path(prefix) / "share" for prefix in dict.fromkeys(prefixes) if prefix)


def _installed(package: str, name: str, suffix: str) -> Path | None:
    for share in share_folders():
        path = share / package / "msg" / f"{name}{suffix}"
        if path.is_file():
            return path
    return None


def _contained(text: str, package: str) -> list[tuple[str, str]]:
    """(package, type) of each message type that the fields of ``text`` use, in order, once each."""
    found: dict[tuple[str, str], None] = {}
    for line in text.splitlines():
        match = _FIELD.match(line.split("#", 1)[0])
        if not match or match[1] in _PRIMITIVES:
            continue
        parts = match[1].split("/")
        found[(parts[0] if len(parts) > 1 else package, parts[-1])] = None
    return list(found)


@lru_cache(maxsize=256)
def definition(msgtype: str) -> str:
    """The full definition of ``package/msg/Type``.

    Raises UnknownTypeError, naming the type and the places searched, where neither ROS nor rosbags knows it.
    """
    if not _TYPE.match(msgtype):
        raise UnknownTypeError(f"{msgtype!r} is no message type: expected the form package/msg/Type")
    package, _, name = msgtype.split("/")
    root = _installed(package, name, ".msg")
    if root is None:
        return _from_rosbags(msgtype)
    parts = [root.read_text(encoding="utf-8")]
    queue, seen = _contained(parts[0], package), {(package, name)}
    while queue:
        package, name = queue.pop(0)
        if (package, name) in seen:
            continue
        seen.add((package, name))
        path = _installed(package, name, ".msg")
        if path is None:
            return _from_rosbags(msgtype)
        text = path.read_text(encoding="utf-8")
        parts.append(f"{SEPARATOR}\nMSG: {package}/{name}\n{text}")
        queue += _contained(text, package)
    return "\n".join(parts)


def _from_rosbags(msgtype: str) -> str:
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.LATEST)
    if msgtype not in store.fielddefs:
        searched = ", ".join(str(folder) for folder in share_folders())
        raise UnknownTypeError(
            f"no definition of {msgtype} in {searched}, nor in rosbags: install or source its message package"
        )
    return store.generate_msgdef(msgtype, ros_version=2)[0]


@lru_cache(maxsize=256)
def type_hash(msgtype: str) -> str:
    """The RIHS01 hash that ROS computed for the type when it was built, or "" where it is not installed."""
    package, _, name = msgtype.partition("/msg/")
    path = _installed(package, name, ".json")
    if path is None:
        return ""
    hashes = json.loads(path.read_text(encoding="utf-8")).get("type_hashes", [])
    return next((str(entry["hash_string"]) for entry in hashes if entry.get("type_name") == msgtype), "")


@lru_cache(maxsize=256)
def starts_with_stamp(msgtype: str) -> bool:
    """True where the message's first field is a header or a time, so that its stamp is at a known place."""
    for line in definition(msgtype).splitlines():
        match = _FIELD.match(line.split("#", 1)[0])
        if match:
            return match[1] in ("std_msgs/Header", "Header", "builtin_interfaces/Time", "time")
        if line.startswith(SEPARATOR):
            break
    return False


def header_stamp_ns(msgtype: str, data: bytes) -> int | None:
    """The stamp in a serialized (CDR) message whose first field is a header or a time, else None."""
    if len(data) < 12 or not starts_with_stamp(msgtype):
        return None
    order: Literal["little", "big"] = "little" if data[1] & 1 else "big"
    seconds = int.from_bytes(data[4:8], order, signed=True)
    nanoseconds = int.from_bytes(data[8:12], order)
    return seconds * 1_000_000_000 + nanoseconds
