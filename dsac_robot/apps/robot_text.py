"""Changes values in the text of a robot file and leaves every other character as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][A-Za-z0-9_]*):(?P<rest>.*)$")


@dataclass(frozen=True)
class Change:
    """A new value, and where it comes from."""

    value: float
    source: str  # written as a comment "[source]"


def change_values(text: str, changes: Mapping[str, Change]) -> str:
    """``text`` with the values of ``changes``, by dotted name as "base.friction", replaced and their comments renewed.

    A key that its section does not give (its default held) is added at the section's end. Raises ValueError naming the
    section that the text does not have, or gives in one line.
    """
    lines = text.splitlines()
    for name, change in changes.items():
        section, _, key = name.partition(".")
        first = next((i for i, line in enumerate(lines) if re.fullmatch(rf"{section}:\s*(#.*)?", line)), None)
        if first is None:
            raise ValueError(f"no section {section}: on a line of its own; write it so before {name} can be changed")
        last, at, indent = first, None, "  "
        for i in range(first + 1, len(lines)):
            if lines[i].strip() and not lines[i].startswith((" ", "#")):
                break
            match = _KEY.match(lines[i])
            if match:
                last, indent = i, match["indent"]
                at = i if match["key"] == key else at
        written = f"{indent}{key}: {change.value:.6g}  # [{change.source}]"
        if at is None:
            lines.insert(last + 1, written)
        else:
            lines[at] = written
    return "\n".join(lines) + "\n"
