"""``run.json`` of a training run: what was trained, from which seed, by which versions, on which machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from dsac_robot import __version__
from dsac_robot.apps.figures import git_revision
from dsac_robot.core.params import ParameterError

FILE = "run.json"
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco")
NOT_METHOD = frozenset({"seed", "workers", "checkpoint_minutes", "snapshot_updates"})  # trainer keys: not what is tried


@dataclass(frozen=True)
class RunId:
    """What a run is of."""

    task: str
    robot: str | None
    seed: int
    recipe: Mapping[str, Any]


def method_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe that define what is tried, as ``section.key``: not the seed, nor where files go."""
    flat = {f"{section}.{key}": value for section, values in recipe.items() for key, value in values.items()}
    return {key: value for key, value in flat.items() if key not in {f"trainer.{name}" for name in NOT_METHOD}}


def digest_of(recipe: Mapping[str, Any]) -> str:
    """SHA-256 of ``method_of``: equal for the seeds of one recipe."""
    return hashlib.sha256(json.dumps(method_of(recipe), sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, this package and those that decide a training's numbers; "" where one is not installed."""
    found = {"python": platform.python_version(), "dsac_robot": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system, as far as the system tells."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory = 0.0
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {"processor": processor, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "system": system}


class RunRecord:
    """``run.json`` of one folder: a session is added at the start and filled in at the end."""

    def __init__(self, folder: Path, run: RunId) -> None:
        self._path = folder / FILE
        before = read_record(folder)["sessions"] if self._path.exists() else []
        self._content: dict[str, Any] = {
            "format": 1,
            "task": run.task,
            "robot": run.robot,
            "seed": run.seed,
            "recipe": dict(run.recipe),
            "recipe_digest": digest_of(run.recipe),
            "status": "running",
            "sessions": before,
        }
        self._started = datetime.now(timezone.utc)
        self._session: dict[str, Any] = {
            "started": self._started.isoformat(timespec="seconds"),
            "command": sys.argv[1:],
            "revision": git_revision(),
            "versions": versions(),
            "machine": machine(),
            "status": "running",
        }
        before.append(self._session)
        self._write()

    def end(self, status: str, updates: int, steps: int, error: str = "") -> None:
        """Fill in what came of the session: ``status`` is "finished", "stopped" or "failed"."""
        now = datetime.now(timezone.utc)
        self._session |= {
            "ended": now.isoformat(timespec="seconds"),
            "wall_s": round((now - self._started).total_seconds(), 1),
            "status": status,
            "updates": updates,
            "steps": steps,
        }
        if error:
            self._session["error"] = error
        self._content |= {"status": status, "updates": updates, "steps": steps}
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self._path)


def read_record(folder: Path) -> dict[str, Any]:
    """The content of ``run.json``. Raises ParameterError naming the file if it is absent or not such a record."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read: {error.strerror}; a run folder of `train` has one") from error
    except ValueError as error:
        raise ParameterError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != 1:
        raise ParameterError(f"{path}: not a run record of format 1")
    return content
