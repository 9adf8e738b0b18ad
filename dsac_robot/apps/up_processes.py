"""One process a node: start them with their parameters, notice that one has ended, end them in order."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

MODULES = {
    "recorder": "dsac_robot.nodes.recorder",
    "sim_bridge": "sim.ros_bridge",
    "base": "dsac_robot.nodes.base",
    "safety_guard": "dsac_robot.nodes.safety_guard",
    "ood_monitor": "dsac_robot.nodes.ood_monitor",
    "policy": "dsac_robot.nodes.policy",
}
START_ORDER = tuple(MODULES)
END_ORDER = ("policy", "ood_monitor", "safety_guard", "base", "sim_bridge", "recorder")  # the recorder sees it all
END_S = 15.0


class ProcessError(RuntimeError):
    """A node's process has ended by itself. The message names it, its exit status and its last words."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status  # of the process; 2: it was given what it cannot use


@dataclass(frozen=True)
class NodeSpec:
    """How one node is started: parameter files, then parameters, which win."""

    name: str
    files: Sequence[Path] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)

    def arguments(self, namespace: str = "") -> list[str]:
        """ROS arguments of the node's command line."""
        made = ["--ros-args"]
        for file in self.files:
            made += ["--params-file", str(file)]
        for key, value in self.parameters.items():
            made += ["-p", f"{key}:={_text(value)}"]
        if namespace.strip("/"):
            made += ["-r", f"__ns:=/{namespace.strip('/')}"]
        return made


def _text(value: object) -> str:
    """A value as the ROS command line reads it: YAML, so that text is quoted."""
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


class Processes:
    """The processes of a robot's nodes. Use as a context manager: whatever still runs is ended, in order.

    They run in sessions of their own, so that the terminal's Ctrl-C reaches only the parent, and they end by
    themselves when the parent is gone. With ``logs`` each node writes to ``logs/NODE.log``, else to the terminal.
    """

    def __init__(self, namespace: str = "", logs: Path | None = None) -> None:
        self._namespace, self._logs = namespace, logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for name in END_ORDER:
            self.end(name)
        for file in self._files:
            file.close()

    def start(self, spec: NodeSpec) -> None:
        """Start a node that configures and activates itself."""
        parameters = {"autostart": True, "exit_with_parent": True, **spec.parameters}
        arguments = NodeSpec(spec.name, spec.files, parameters).arguments(self._namespace)
        output = None
        if self._logs is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
            output = open(self._logs / f"{spec.name}.log", "ab")  # noqa: SIM115  # closed with the rest
            self._files.append(output)
        command = [sys.executable, "-m", MODULES[spec.name], *arguments]
        self._running[spec.name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def kill(self, name: str) -> None:
        """SIGKILL: the node has no time to say anything."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def send_signal(self, name: str, number: int) -> None:
        """Send a signal to a node's process, if it runs."""
        if name in self._running:
            self._running[name].send_signal(number)

    def end(self, name: str) -> int | None:
        """Ask a node to end (SIGINT) and wait; its exit status, None where it does not run."""
        process = self._running.pop(name, None)
        if process is None:
            return None
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def check(self) -> None:
        """Raise ProcessError if a node has ended that was not asked to."""
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                words = self._last_words(name)
                said = f": {words}" if words else "; it says why above" if self._logs is None else ""
                raise ProcessError(f"{name} ended with status {status}{said}", status)

    def _last_words(self, name: str) -> str:
        if self._logs is None:
            return ""
        lines = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return errors[-1] if errors else lines[-1] if lines else ""
