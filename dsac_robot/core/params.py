"""Parameters are declared once: a field of a frozen dataclass with its unit, range and help.

From the same declaration come the ROS parameter (name, descriptor, range), the strict reading of YAML files and
the tables in the docs. Nothing else in the tree may give a parameter a second default or a second range.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Value = bool | int | float | str | tuple[float, ...] | tuple[str, ...]


class ParameterError(ValueError):
    """A parameter is unknown, missing, of the wrong type or out of range. The message names it and what is allowed."""


@dataclasses.dataclass(frozen=True)
class ParamInfo:
    """One declared parameter: what ``param`` was given, with the field's name, type and default."""

    name: str
    type: Any
    default: Any  # dataclasses.MISSING where a value must be given
    unit: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """True where there is no default."""
        return self.default is dataclasses.MISSING


def param(
    default: Any = dataclasses.MISSING,
    *,
    unit: str,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a dataclass field as a parameter.

    ``unit`` is the SI unit ("" for a pure number), ``low`` and ``high`` the inclusive range (of each element for a
    tuple), ``choices`` the allowed strings. Without ``default`` the value must be given.
    """
    meta = {"unit": unit, "help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata={"param": meta})


def infos(cls: type) -> tuple[ParamInfo, ...]:
    """The parameters that ``cls`` declares, in order. Fields without ``param`` (nested sections) are left out."""
    hints = typing.get_type_hints(cls)
    return tuple(
        ParamInfo(f.name, hints[f.name], f.default, **f.metadata["param"])
        for f in dataclasses.fields(cls)
        if "param" in f.metadata
    )


def checked(info: ParamInfo, value: object, where: str) -> Value:
    """``value`` converted to the declared type, or ParameterError naming ``where``, the key and the allowed range."""
    name = f"{where}: {info.name}"
    if typing.get_origin(info.type) is tuple:
        element = typing.get_args(info.type)[0]
        if not isinstance(value, list | tuple):
            raise ParameterError(f"{name} = {value!r} must be a list of {element.__name__}")
        single = dataclasses.replace(info, type=element)
        return tuple(checked(single, item, where) for item in value)  # type: ignore[return-value]
    if info.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, info.type) or (info.type is int and isinstance(value, bool)):
        raise ParameterError(
            f"{name} = {value!r} must be of type {info.type.__name__}{_within(info)}{_hint(info, value)}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(f"{name} = {value!r} must be finite, in {_range(info)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = info.low, info.high
        if (low is not None and value < low) or (high is not None and value > high):
            raise ParameterError(f"{name} = {value!r} {info.unit} is outside {_range(info)}")
    if info.choices and value not in info.choices:
        raise ParameterError(f"{name} = {value!r} must be one of {', '.join(info.choices)}")
    return typing.cast(Value, value)


def build(cls: type[T], values: Mapping[str, object], where: str) -> T:
    """An instance of the frozen dataclass ``cls`` from a mapping such as a YAML section.

    Nested dataclass fields take nested mappings. Raises ParameterError, naming ``where`` and the key, for an unknown
    or missing key, a wrong type or a value out of range.
    """
    if not isinstance(values, Mapping):
        raise ParameterError(f"{where}: expected a section of keys, got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = [str(key) for key in values if key not in fields]
    if unknown:
        raise ParameterError(f"{where}: unknown key {', '.join(sorted(unknown))}; known keys: {', '.join(fields)}")
    declared = {info.name: info for info in infos(cls)}
    built: dict[str, Any] = {}
    for name in fields:
        if name in declared:
            info = declared[name]
            if name in values:
                built[name] = checked(info, values[name], where)
            elif info.required:
                raise ParameterError(
                    f"{where}: {name} is missing ({info.help}; {_range(info)} {info.unit}".rstrip() + ")"
                )
        elif name in values or fields[name].default is dataclasses.MISSING:
            given = values.get(name)
            nested = {} if given is None else typing.cast(Mapping[str, object], given)  # a section with no keys yet
            built[name] = build(hints[name], nested, f"{where}: {name}")
    return cls(**built)


def as_dict(params: Any) -> dict[str, Any]:
    """The parameters as plain JSON-able values (tuples become lists), nested sections as nested dicts."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return typing.cast(dict[str, Any], plain(params))


def markdown_table(cls: type) -> str:
    """The documentation table of a parameter class: name, default, unit, range, meaning."""
    rows = ["| parameter | default | unit | range | meaning |", "|---|---|---|---|---|"]
    for info in infos(cls):
        allowed = " \\| ".join(info.choices) if info.choices else f"{_bound(info.low)} … {_bound(info.high)}"
        default = "required" if info.required else f"`{info.default}`"
        rows.append(f"| `{info.name}` | {default} | {info.unit} | {allowed} | {info.help} |")
    return "\n".join(rows)


def _within(info: ParamInfo) -> str:
    """The range for the end of a sentence, where there is one."""
    if info.choices:
        return f", one of {', '.join(info.choices)}"
    return "" if info.low is None and info.high is None else f" in {_range(info)} {info.unit}".rstrip()


def _range(info: ParamInfo) -> str:
    """What is allowed, for messages."""
    return " | ".join(info.choices) if info.choices else f"[{info.low}, {info.high}]"


def _hint(info: ParamInfo, value: object) -> str:
    """What to write instead, where YAML 1.1 took a number such as 1e-4 for text."""
    if info.type is not float or not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return (
        f": YAML reads it as text, write {number!r}" if "e" not in repr(number) else ": YAML needs a dot, as in 1.0e-4"
    )


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
