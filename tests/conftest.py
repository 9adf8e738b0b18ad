"""Makes each test process an island: its own ROS domain, its own log folder, one numeric thread.

The variables are set on import, before any test module can import rclpy, and child processes inherit them.
"""

import os
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

DOMAINS = 101  # ids 1 to 101 use ports below Linux's ephemeral range


def domain_id() -> int:
    """Return a random ROS domain in 1 to 101 that differs between the xdist workers of one run."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "").encode() or os.urandom(8)
    return (zlib.crc32(run) + worker) % DOMAINS + 1


os.environ["ROS_DOMAIN_ID"] = str(domain_id())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_LOG_DIR"] = str(Path(tempfile.gettempdir()) / "dsac_robot_test_logs")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# The ROS wheels keep their ament index under the venv's prefix, and nothing else says so.
os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(
    dict.fromkeys([sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))])
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in tests/loop, which drives the whole graph and wants the machine to itself."""
    loop = Path(__file__).parent / "loop"
    for item in items:
        if loop in item.path.parents:
            item.add_marker("loop")
