"""Results kept for the very objects that they were computed from.

``functools.lru_cache`` hashes its arguments at each call, and the hash of a robot's description takes longer than most
of what is asked of it. Here the objects' identities are the key, and the objects are held, so that no other one can get
their identity. Nothing is stored in the objects: they stay what is sent to other processes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def by_identity(size: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep the results of the last ``size`` calls. Arguments are objects that do not change; nothing is kept for calls
    with keywords."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept: dict[tuple[int, ...], tuple[object, T]] = {}

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if kwargs:
                return function(*args, **kwargs)
            key = tuple(map(id, args))
            found = kept.get(key)
            if found is not None:
                return found[1]
            result = function(*args, **kwargs)
            while len(kept) >= size:
                kept.pop(next(iter(kept)), None)
            kept[key] = args, result
            return result

        return call

    return decorate
