"""The nodes as processes, with the simulated robot at the bottom, and a listener that keeps what they said."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node

from dsac_robot.core.files import share_path
from dsac_robot.core.values import Contact, Odom
from dsac_robot.nodes import topics
from dsac_robot.nodes.converters import contact_from_message, odom_from_message
from dsac_robot.nodes.run import make_executor, spin_while
from dsac_robot.nodes.states import SafetyState, decision_from_message
from sim.ros_truth import TRUTH

ROOT = Path(__file__).resolve().parents[2]
NODES = {
    "sim_bridge": "sim.ros_bridge",
    "safety_guard": "dsac_robot.nodes.safety_guard",
    "ood_monitor": "dsac_robot.nodes.ood_monitor",
    "policy": "dsac_robot.nodes.policy",
}
PATIENCE_S = 120.0  # of the wall clock, for a machine under load; nothing is asserted about it


class Listener:
    """What a robot did and what its guard said, in the order in which it came."""

    def __init__(self, context: Context, namespace: str = "") -> None:
        self.node = Node("listener", context=context, namespace=namespace)
        self.truth: list[Odom] = []
        self.at_truth: Callable[[Odom], None] = lambda odom: None  # called with each
        self.safety: list[SafetyState] = []
        self.contacts: list[Contact] = []
        for topic, take in (
            (TRUTH, self._on_truth),
            (topics.SAFETY_STATE, lambda m: self.safety.append(decision_from_message(m))),
            (topics.CONTACT, lambda m: self.contacts.append(contact_from_message(m))),
        ):
            self.node.create_subscription(topic.type, topic.name, take, topic.qos)

    def _on_truth(self, message: Any) -> None:
        self.truth.append(odom_from_message(message))
        self.at_truth(self.truth[-1])

    @property
    def speed_mps(self) -> float:
        """True speed now; 0 where nothing was heard yet."""
        return self.truth[-1].speed_mps if self.truth else 0.0


class Graph:
    """Processes and listeners. Processes that end unasked fail whatever waits."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.executor = make_executor(context)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._faults: Any = None

    def listen(self, namespace: str = "") -> Listener:
        """A listener in a namespace."""
        made = Listener(self._context, namespace)
        self.executor.add_node(made.node)
        return made

    def start(self, name: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Start a Python process called ``name``, with more environment variables."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(variables or {})}
        self.processes[name] = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment)

    def start_nodes(self, learned: Mapping[str, object], world: str = "empty", real_time_factor: float = 1.0) -> None:
        """One process a node, all but the simulated robot on its clock."""
        parameters: dict[str, Mapping[str, object]] = {
            "sim_bridge": {"world": world, "real_time_factor": real_time_factor},
            "ood_monitor": learned,
            "policy": learned,
        }
        for name, module in NODES.items():
            given = {"autostart": "true", **parameters.get(name, {})}
            if name != "sim_bridge":
                given["use_sim_time"] = "true"
            arguments = [part for key, value in given.items() for part in ("-p", f"{key}:={value}")]
            if name == "safety_guard":
                arguments += ["--params-file", str(share_path("config", "safety_guard_static.yaml"))]
            self.start(name, ["-m", module, "--ros-args", *arguments])

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is dead."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def hold(self, name: str, held: bool) -> None:
        """SIGSTOP or SIGCONT."""
        self.processes[name].send_signal(signal.SIGSTOP if held else signal.SIGCONT)

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Spin until ``done()``; fails naming ``what`` where a process ends first or patience does."""
        end = time.monotonic() + PATIENCE_S

        def waiting() -> bool:
            return not done() and time.monotonic() < end and not self._ended()

        spin_while(self.executor, waiting, self._context)
        assert done(), f"never: {what}; processes that ended: {self._ended()}"

    def _ended(self) -> dict[str, int]:
        codes = {name: process.poll() for name, process in self.processes.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def catch_up(self) -> None:
        """Handle all that has come, so that the newest is the newest indeed."""
        for _ in range(50):
            self.executor.spin_once(timeout_sec=0.0)

    def set_fault(self, listener: Listener, **faults: str) -> None:
        """Set fault parameters of the simulated robot, all at once. Without faults it only gets ready to set some, so
        that finding the service takes no time while the robot drives on."""
        if self._faults is None:
            self._faults = listener.node.create_client(SetParameters, "sim_bridge/set_parameters")
        client = self._faults
        self.until(client.service_is_ready, "the simulator takes parameters")
        texts = {
            name: ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
            for name, value in faults.items()
        }
        request = SetParameters.Request(parameters=[Parameter(name=n, value=v) for n, v in texts.items()])
        future = client.call_async(request)
        self.until(future.done, "the simulator answers")
        assert all(result.successful for result in future.result().results)

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.terminate()
            process.send_signal(signal.SIGCONT)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for node in self.executor.get_nodes():
            node.destroy_node()
        self.executor.shutdown()
