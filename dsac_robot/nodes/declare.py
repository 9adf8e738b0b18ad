"""ROS parameters from declared dataclasses (core/params.py): descriptors and ranges, and no unknown key."""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from dsac_robot.core.params import ParameterError, ParamInfo, as_dict, build, checked, infos

P = TypeVar("P")

# What rclpy itself reads from a parameter file.
_OWN = ("use_sim_time", "start_type_description_service")
_OWN_PREFIXES = ("qos_overrides.",)


def descriptor(info: ParamInfo) -> ParameterDescriptor:
    """The ROS descriptor of one declared parameter: help with unit, range, choices."""
    unit = f" [{info.unit}]" if info.unit else ""
    described = ParameterDescriptor(name=info.name, description=f"{info.help}{unit}")
    if info.choices:
        described.additional_constraints = f"one of {', '.join(info.choices)}"
    if info.low is not None or info.high is not None:
        if _element_type(info) is int:
            low = -(2**63) if info.low is None else int(info.low)
            high = 2**63 - 1 if info.high is None else int(info.high)
            described.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        else:
            largest = sys.float_info.max
            low_value = -largest if info.low is None else float(info.low)
            high_value = largest if info.high is None else float(info.high)
            described.floating_point_range = [FloatingPointRange(from_value=low_value, to_value=high_value, step=0.0)]
    return described


def declare(node: Node, classes: tuple[type, ...]) -> None:
    """Declare the parameters of ``classes`` on a node that took all its overrides undeclared-checked.

    The node must have been made with ``automatically_declare_parameters_from_overrides=True``: only so does rclpy show
    keys that nobody declares. Raises ParameterError naming the node and the key for an unknown key, a wrong type, a
    value out of range, or a required parameter without a value.
    """
    where = node.get_fully_qualified_name()
    declared = {info.name: info for cls in classes for info in infos(cls)}
    given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    unknown = [
        name for name in given if name not in declared and name not in _OWN and not name.startswith(_OWN_PREFIXES)
    ]
    if unknown:
        raise ParameterError(
            f"{where}: unknown parameter {', '.join(sorted(unknown))}; known: {', '.join(sorted(declared))}"
        )
    for name, info in declared.items():
        if name in given:
            value = checked(info, given[name], where)
            node.undeclare_parameter(name)
        elif info.required:
            raise ParameterError(f"{where}: parameter {name} is missing ({info.help})")
        else:
            value = info.default
        node.declare_parameter(name, _plain(value), descriptor(info), ignore_override=True)


def values(node: Node, cls: type[P]) -> P:
    """The current values of the parameters of ``cls`` as its frozen instance."""
    current = {info.name: _listed(node.get_parameter(info.name).value) for info in infos(cls)}
    return build(cls, current, node.get_fully_qualified_name())


def table(node: Node, classes: tuple[type, ...]) -> Mapping[str, Any]:
    """All current values by name, as plain values (for the bag and the log)."""
    return {name: value for cls in classes for name, value in as_dict(values(node, cls)).items()}


def _element_type(info: ParamInfo) -> Any:
    arguments = typing.get_args(info.type)
    return arguments[0] if arguments else info.type


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _listed(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else list(value)
