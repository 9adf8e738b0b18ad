"""Figures of a report or benchmark: a name, a measured value, and the target it is held against (DESIGN section 12)."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsac_robot.share import share_dir


@dataclass(frozen=True)
class Figure:
    """One number. ``target`` and ``reference`` are None where there is none; ``at_least`` says which side is good."""

    name: str
    value: float
    unit: str = ""
    target: float | None = None
    reference: float | None = None
    at_least: bool = True

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def git_revision() -> str:
    """Revision of this source tree, with "+" where files differ from it; "" outside a checkout."""
    command = ["git", "-C", str(share_dir()), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def report(figures: list[Figure], **more: Any) -> dict[str, Any]:
    """What every ``--json FILE`` holds: ``figures``, machine, revision, and whatever else there is to say."""
    rows = []
    for figure in figures:
        row = asdict(figure) | {"ok": figure.ok}
        row.pop("at_least")
        rows.append(row)
    machine = f"{platform.machine()} {platform.system()} Python {platform.python_version()}"
    return {"figures": rows, "machine": machine, "revision": git_revision(), **more}


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``, if one was given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def status(figures: list[Figure], strict: bool) -> int:
    """Exit status: 1 where ``strict`` and a target was missed, else 0."""
    return 1 if strict and any(figure.ok is False for figure in figures) else 0
