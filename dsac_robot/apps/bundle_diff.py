"""What differs between two bundles, as lines for a reader: the contract first, then monitor, record and files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dsac_robot.bundle.card import Card
from dsac_robot.bundle.strict_json import encode

if TYPE_CHECKING:
    from dsac_robot.bundle.deployed import Bundle

CONTRACT = ("terms", "layout", "lidar", "action", "geometry")


def differences(first: Bundle, second: Bundle) -> list[str]:
    """One line for each value that differs, ``first -> second``; empty where the bundles are the same."""
    before, after = _flat(first.card), _flat(second.card)
    sections: dict[str, list[str]] = {"contract (must match the robot)": [], "monitor": [], "recorded": [], "names": []}
    for key in [*before, *(key for key in after if key not in before)]:
        if key in before and key in after and before[key] == after[key]:
            continue
        old, new = (repr(side[key]) if key in side else "(none)" for side in (before, after))
        top = key.split(".")[0]
        section = "contract (must match the robot)" if top in CONTRACT else top if top in sections else "names"
        sections[section].append(f"  {key}: {old} -> {new}")
    sections["files"] = [
        f"  {name}: {_digest(old)} -> {_digest(new)}"
        for name, old, new in (
            ("policy.onnx", first.policy, second.policy),
            ("monitor.onnx", first.monitor, second.monitor),
        )
        if old != new
    ]
    return [line for title, lines in sections.items() if lines for line in (title, *lines)]


def _flat(card: Card) -> dict[str, Any]:
    """Every value of a card by its path, terms by their names."""
    found: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
            walk({item["name"]: {k: v for k, v in item.items() if k != "name"} for item in value}, path)
        else:
            found[path] = value

    walk(encode(card), "")
    return found


def _digest(content: bytes | None) -> str:
    return f"{len(content)} bytes, {hashlib.sha256(content).hexdigest()[:16]}" if content is not None else "(none)"
