"""Loops over numbers and arrays, compiled by Numba.

Numba keeps what it has compiled on disk until the file of the loop changes, and does not look at what the loop takes
from other files: a loop, the loops it calls and the constants in them belong into one file. Who runs a loop in a
control cycle runs it once before: the first call in a process compiles or loads it. Arithmetic is IEEE, in the order of
the text. Indices are not checked when compiled: each must be in range whatever the numbers are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

Given = ParamSpec("Given")
Made = TypeVar("Made")


def compiled(loop: Callable[Given, Made]) -> Callable[Given, Made]:
    """Decorator of a function of numbers and arrays."""
    made: Callable[Given, Made] = numba.njit(cache=True, error_model="numpy")(loop)
    return made
