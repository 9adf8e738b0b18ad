"""The JSON Schema of card.json, made from the card's own types: the page in the docs cannot drift from the code.

It says what the types say (draft 2020-12). What it cannot say, such as that the layout lists the terms in their order,
``Card`` checks all the same.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from dsac_robot.bundle.card import CARD_VERSION, Card

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: Mapping[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Any: {},
}


def card_schema() -> dict[str, Any]:
    """The schema of a card of ``CARD_VERSION``."""
    schema = {"$schema": DIALECT, "title": "card.json of a dsac_robot bundle"} | _of(Card)
    schema["properties"]["card_version"] = {"const": CARD_VERSION}
    schema["properties"]["action"]["properties"]["meaning"] = {"const": "twist"}
    return schema


def _of(kind: Any) -> dict[str, Any]:
    """The schema of one type, as ``strict_json`` reads it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {
            "anyOf": [_of(argument) for argument in arguments if argument is not types.NoneType] + [{"type": "null"}]
        }
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0])}
    if origin is tuple:
        size = len(arguments)
        return {"type": "array", "prefixItems": [_of(a) for a in arguments], "minItems": size, "maxItems": size}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        return {
            "type": "object",
            "properties": {name: _of(hints[name]) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    return dict(_SCALARS[kind])
