"""Checkpoints: written whole or not at all, whenever the process is killed or the machine loses power."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from dsac_robot.core.params import ParameterError


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` to ``path``. Until all of it is on the disk, ``path`` keeps what it held before.

    Raises OSError where it cannot be written (a full disk): ``path`` is then as it was.
    """
    temporary = path.with_suffix(".tmp")  # a left-over one is overwritten
    with open(temporary, "wb") as stream:
        torch.save(state, stream, pickle_protocol=4)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself
    finally:
        os.close(folder)


def load(path: Path) -> dict[str, Any]:
    """What ``save_atomically`` wrote. FileNotFoundError if there is none, ParameterError if it is no checkpoint.

    Reading unpickles: load only what you wrote yourself. What is shipped to others are bundles.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: nothing to resume; start without --resume")
    try:
        state: dict[str, Any] = torch.load(path, weights_only=False)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ParameterError(f"{path} is damaged ({error}): restore a copy, or start without --resume") from error
    return state
