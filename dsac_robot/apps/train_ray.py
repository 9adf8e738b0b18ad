"""Runs of ``train --seeds`` on the machines of a Ray cluster.

Each run is an actor that keeps the run's folder on its own machine and runs the plain command there; no shared
filesystem is needed. The folder comes back when the run has ended, checkpoint and all. The same version of this package
must be installed on every machine: that is checked.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsac_robot import __version__
from dsac_robot.apps.train_seeds import TRAIN, LocalRun, Look, Running
from dsac_robot.core.params import ParameterError

LOCAL = "local"
LOST = 255  # exit status of a run whose machine is gone
EVERYWHERE = 10**6  # slots: all runs at once, Ray itself lets them wait for free cores


def pack(folder: Path) -> bytes:
    """The files below ``folder``, as a compressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, arcname=".")
    return buffer.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write the files of ``pack`` below ``folder``; those of the same name are replaced."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        tar.extractall(folder, filter="data")


class RemoteRun:
    """Lives on a machine of the cluster: one run in a temporary folder."""

    def __init__(self, packed: bytes, arguments: Sequence[str], here: str) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="dsac_robot_run_")
        self._folder = Path(self._temporary.name)
        unpack(packed, self._folder)
        there = [str(self._folder / Path(text).name) if text.startswith(here) else text for text in arguments]
        self._run = LocalRun(self._folder, (*TRAIN, *there, "--out", str(self._folder)))

    def look(self) -> Look:
        """The state now."""
        return self._run.look()

    def stop(self) -> None:
        """Ask it to save and end."""
        self._run.stop()

    def folder(self) -> bytes:
        """All files of the run."""
        return pack(self._folder)

    def version(self) -> str:
        """Of this package on that machine."""
        return __version__


class _RayRun:
    """The driver's end of a ``RemoteRun``. Looking never waits: a run that Ray has not placed yet looks empty. One
    whose machine is lost ends with status LOST, and its folder stays as it was here."""

    def __init__(self, ray: Any, actor: Any, folder: Path) -> None:
        self._ray, self._actor, self._folder = ray, actor, folder
        self._last = Look({}, None)
        self._version = actor.version.remote()
        self._pending = actor.look.remote()

    def look(self) -> Look:
        ready, _ = self._ray.wait([self._pending], timeout=0)
        if not ready or self._last.status is not None:
            return self._last
        try:
            if self._version is not None:
                theirs, self._version = self._ray.get(self._version), None
                if theirs != __version__:
                    raise ParameterError(f"a machine of the cluster has dsac_robot {theirs}, this one {__version__}")
            self._last = self._ray.get(self._pending)
            self._pending = self._actor.look.remote()
        except self._ray.exceptions.RayActorError as error:
            print(f"{self._folder}: its machine is lost: {error}", file=sys.stderr)
            self._last = Look(self._last.row, LOST)
        return self._last

    def stop(self) -> None:
        self._actor.stop.remote()

    def fetch(self) -> None:
        if self._last.status == LOST:
            return
        unpack(self._ray.get(self._actor.folder.remote()), self._folder)
        self._ray.kill(self._actor)


class RayLauncher:
    """Starts runs on the cluster at ``address``, or on one started here for ``address`` "local".

    Raises ParameterError where Ray is not installed or nothing answers at the address.
    """

    def __init__(self, address: str, slots: int | None, cores: int) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ParameterError("--ray: Ray is not installed; pip install dsac_robot[ray]") from error
        self._ray, self.slots, self._cores = ray, slots or EVERYWHERE, cores
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a cluster started here tells its maker of it
        try:
            here = {"include_dashboard": False, "num_cpus": _cpus(slots, cores)} if address == LOCAL else {}
            if not ray.is_initialized():  # by an earlier command of this process
                ray.init(address=address, log_to_driver=False, **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ParameterError(f"--ray {address}: no cluster answers there: {error}") from error
        most = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
        if most < cores:
            raise ParameterError(f"--ray {address}: a run takes {cores} cores, and no machine has more than {most:.0f}")

    def start(self, folder: Path, arguments: Sequence[str]) -> Running:
        """Start one run, or let it wait for free cores."""
        remote = self._ray.remote(num_cpus=self._cores)(RemoteRun)
        actor = remote.options(name=actor_name(folder)).remote(pack(folder), tuple(arguments), str(folder.resolve()))
        return _RayRun(self._ray, actor, folder)


def actor_name(folder: Path) -> str:
    """Under which a run is found in ``ray list actors``."""
    return f"dsac_robot train {folder.resolve()}"


def _cpus(slots: int | None, cores: int) -> int | None:
    """Cores that a local cluster has: as many as there are, or as ``slots`` runs take."""
    return None if slots is None else slots * cores
