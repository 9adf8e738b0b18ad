"""All nodes in one process, on one executor, brought up in order: sensors, guard, monitor, policy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rclpy.context import Context
from rclpy.executors import Executor

from dsac_robot.core.files import dump_yaml, load_yaml
from dsac_robot.core.params import ParameterError
from dsac_robot.nodes.lifecycle import StackNode
from dsac_robot.nodes.run import make_executor, settle, spin_while, start
from dsac_robot.nodes.topics import ODOM, SCAN

COMPLAIN_S = 5.0


class BringUpError(RuntimeError):
    """A node refused to be configured or activated. The message names the node and says why."""


class Factory(Protocol):
    """Makes a node from its ROS arguments: the node classes themselves."""

    def __call__(self, arguments: list[str] | None = None, context: Any = None) -> StackNode: ...


class Composition:
    """Nodes that share a process. Made by ``compose``; ``bring_up``, ``spin`` and ``close`` in this order."""

    def __init__(self, nodes: Sequence[StackNode], executor: Executor, context: Context | None) -> None:
        self.nodes = {node.get_name(): node for node in nodes}
        self.executor = executor
        self._context = context

    def bring_up(
        self, going: Callable[[], bool] = lambda: True, needs_sensors: Sequence[str] = ("safety_guard",)
    ) -> None:
        """Configure and activate the nodes in the order given to ``compose``.

        Before the first of ``needs_sensors``, wait (and say so every 5 s) until scan and odom have a publisher. Returns
        early when ``going()`` is false. Raises BringUpError naming the node that refuses.
        """
        waited = False
        for name, node in self.nodes.items():
            if name in needs_sensors and not waited:
                waited = True
                self._wait_for_sensors(node, going)
            if not going():
                return
            why = start(node)
            if why is not None:
                full = node.get_fully_qualified_name()
                raise BringUpError(why if why.startswith(f"{full}:") else f"{full}: {why}")

    def spin(self, going: Callable[[], bool] = lambda: True) -> None:
        """Spin while ``going()`` and the context is valid."""
        settle()
        spin_while(self.executor, going, self._context)

    def close(self) -> None:
        """Deactivate, clean up and destroy all nodes, the last first: the guard's zeros come after the policy's end."""
        for node in reversed(self.nodes.values()):
            self.executor.remove_node(node)
            node.close()
        self.executor.shutdown()

    def _wait_for_sensors(self, node: StackNode, going: Callable[[], bool]) -> None:
        complained_s = time.monotonic()

        def waiting() -> bool:
            nonlocal complained_s
            missing = [t.name for t in (SCAN, ODOM) if not node.count_publishers(node.resolve_topic_name(t.name))]
            if missing and time.monotonic() - complained_s > COMPLAIN_S:
                complained_s = time.monotonic()
                node.get_logger().warning(f"waiting for a publisher of {' and '.join(missing)}")
            return bool(missing) and going()

        spin_while(self.executor, waiting, self._context)


def ros_arguments(
    params_files: Sequence[str | Path] = (), namespace: str = "", remaps: Sequence[str] = ()
) -> list[str]:
    """ROS arguments as on a command line. Raises ParameterError for a remap without `:=`."""
    arguments = ["--ros-args"]
    for file in params_files:
        arguments += ["--params-file", str(file)]
    if namespace.strip("/"):
        arguments += ["-r", f"__ns:=/{namespace.strip('/')}"]
    for remap in remaps:
        if ":=" not in remap:
            raise ParameterError(f"remap {remap!r} must be of the form from:=to")
        arguments += ["-r", remap]
    return arguments


def check_sections(file: str | Path, known: Sequence[str]) -> None:
    """Raise ParameterError for a section of a parameter file that is for none of the ``known`` nodes.

    ROS ignores such a section, and a misspelt node name would run on its defaults.
    """
    for section, content in load_yaml(Path(file)).items():
        names = [section]
        if isinstance(content, dict) and "ros__parameters" not in content:  # the nested form
            names = [f"{section}/{inner}" for inner in content]
        for name in names:
            last = str(name).rstrip("/").rpartition("/")[2]
            if last not in ("**", "*", *known):
                raise ParameterError(f"{file}: section {name} is for no node here; known: {', '.join(known)}")


def compose(
    factories: Sequence[Factory],
    params_files: Sequence[str | Path] = (),
    namespace: str = "",
    remaps: Sequence[str] = (),
    parameters: Mapping[str, Mapping[str, object]] | None = None,
    context: Context | None = None,
) -> Composition:
    """Make the nodes in the order in which they are to be brought up, each with the same files, namespace and remaps.

    ``parameters`` is one more parameter file, given as values by node name (``{"policy": {"bundle": "…"}}``); "**"
    stands for all nodes. A later file wins over an earlier one for the same node name. Raises ParameterError naming a
    key or section that no node knows, or that is out of range. rclpy must be initialised (``run.init``).
    """
    nodes: list[StackNode] = []
    with tempfile.TemporaryDirectory() as folder:
        files = list(params_files)
        if parameters:
            files.append(Path(folder) / "parameters.yaml")
            sections = {_section(name): {"ros__parameters": dict(given)} for name, given in parameters.items()}
            Path(files[-1]).write_text(dump_yaml(sections), encoding="utf-8")
        try:
            arguments = ros_arguments(files, namespace, remaps)
            for factory in factories:
                nodes.append(factory(arguments=arguments, context=context))
            for file in files:
                check_sections(file, [node.get_name() for node in nodes])
        except ParameterError:
            for node in nodes:
                node.close()
            raise
    executor = make_executor(context)
    for node in nodes:
        executor.add_node(node)
    return Composition(nodes, executor, context)


def _section(name: str) -> str:
    return "/**" if name == "**" else f"/**/{name}"
