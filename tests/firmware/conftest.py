"""The core's library for the tests here: with the undefined-behaviour sanitizer, or with the flags of a gate's run."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.rig import FIRMWARE, build_dir, load, make

SANITIZED = "-O1 -fsanitize=undefined -fno-sanitize-recover=all"


@pytest.fixture(scope="session")
def core() -> tuple[Any, Any]:
    """(ffi, lib). The gates run these tests again with FIRMWARE_TAG and FIRMWARE_HOST_FLAGS set, the mutants on their
    FIRMWARE_LIBRARY."""
    if library := os.environ.get("FIRMWARE_LIBRARY"):
        return load(Path(library))
    tag = os.environ.get("FIRMWARE_TAG", f"ubsan-{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}")
    make("host", BUILD=build_dir(tag), HOST_FLAGS=os.environ.get("FIRMWARE_HOST_FLAGS", SANITIZED))
    return load(FIRMWARE / build_dir(tag) / "libbase.so")
