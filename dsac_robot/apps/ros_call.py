"""Calling a service from a node that its owner spins: for the stages of the demo and of the benchmark of faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters

Until = Callable[[Callable[[], bool], str], Any]  # spins until the first is true; raises, naming the second, in vain


def call(node: Any, until: Until, kind: Any, name: str, request: Any = None) -> Any:
    """Call a service and wait for its answer; ``request`` None: an empty one."""
    client = node.create_client(kind, name)
    until(client.service_is_ready, f"service {name}")
    future = client.call_async(kind.Request() if request is None else request)
    until(future.done, f"answer of {name}")
    node.destroy_client(client)
    return future.result()


def set_texts(node: Any, until: Until, of: str, wanted: dict[str, str]) -> list[str]:
    """Set text parameters of the node ``of``; what it refuses, and why."""
    kind = ParameterType.PARAMETER_STRING
    values = {name: ParameterValue(type=kind, string_value=text) for name, text in wanted.items()}
    request = SetParameters.Request(parameters=[Parameter(name=n, value=v) for n, v in values.items()])
    results = call(node, until, SetParameters, f"{of}/set_parameters", request).results
    return [f"{n}: {r.reason}" for n, r in zip(wanted, results, strict=True) if not r.successful]
