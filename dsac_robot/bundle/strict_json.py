"""JSON to frozen dataclasses and back: nothing unknown, nothing missing, nothing twice, full precision."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from dsac_robot.bundle.errors import BundleError

T = TypeVar("T")
OTHER_VERSION = "if another version of dsac_robot wrote it, use that one, or export again with this one"


def loads(content: bytes, where: str) -> Any:
    """The JSON value in ``content``. Raises BundleError naming ``where`` for bad JSON, NaN, and a key given twice."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        for key in keys:
            if keys.count(key) > 1:
                raise BundleError(f"{where}: key {key!r} is given twice")
        return dict(items)

    def constant(name: str) -> float:
        raise BundleError(f"{where}: {name} is no JSON number")

    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except BundleError:
        raise
    except RecursionError:
        raise BundleError(f"{where}: nested too deeply") from None
    except ValueError as error:  # bad UTF-8, bad JSON, an integer of thousands of digits
        raise BundleError(f"{where}: not valid JSON: {error}") from error


def dumps(value: Any) -> bytes:
    """JSON text of a dataclass: indented, floats as the shortest text that reads back to the same bits."""
    return (json.dumps(encode(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def encode(value: Any) -> Any:
    """Plain JSON-able values of a dataclass; tuples become lists."""
    if dataclasses.is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(cls: type[T], value: object, where: str) -> T:
    """The dataclass ``cls`` from a JSON object.

    Raises BundleError naming ``where`` and the key for an unknown or missing key, a wrong type, a number that is not
    finite, and for what the dataclass itself refuses.
    """
    return typing.cast(T, _decode(cls, value, where))


def _decode(kind: Any, value: object, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # only X | None is used
        return None if value is None else _decode(arguments[0], value, where)
    if origin is tuple:
        return _decode_tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), value, where)
    if kind is Any:
        return _finite_json(value, where)
    return _decode_scalar(kind, value, where)


def _decode_tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        kinds = (arguments[0],) * len(value)
    elif len(arguments) == len(value):
        kinds = arguments
    else:
        raise _wrong(where, value, f"a list of {len(arguments)}")
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _decode_dataclass(cls: type, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for key in value:
        if key not in names:
            raise BundleError(f"{where}: unknown key {key!r}; known: {', '.join(names)}; {OTHER_VERSION}")
    for name in names:
        if name not in value:
            raise BundleError(f"{where}: key {name!r} is missing; {OTHER_VERSION}")
    built = {name: _decode(hints[name], value[name], f"{where}.{name}") for name in names}
    try:
        return cls(**built)
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{where}: {error}") from error


def _decode_scalar(kind: type, value: object, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise BundleError(f"{where}: number is too large") from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(where, value, f"of type {kind.__name__}")
    return _finite_json(value, where)


def _finite_json(value: object, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise BundleError(f"{where}: number must be finite")
    if isinstance(value, list):
        return [_finite_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: _finite_json(item, f"{where}.{key}") for key, item in value.items()}
    return value


def _wrong(where: str, value: object, expected: str) -> BundleError:
    return BundleError(f"{where} = {repr(value)[:80]} must be {expected}")
