"""Makes each test process an island: its own ROS domain, its own log folder, one numeric thread.

The variables are set on import, before any test module can import rclpy, and child processes inherit them.

Nodes run by the wall's clock, and the guard is right to stop a robot when the machine under it stands still for 0.2 s.
A test of nodes that fails while this process was not run for so long is run again, twice at most; pytest counts it as
``rerun``.
"""

import os
import sys
import tempfile
import threading
import time
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


class Standstill(threading.Thread):
    """Notices when the machine does not run this process."""

    SHORTEST_S = 0.1

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen = False

    def run(self) -> None:
        """Look every 20 ms; a gap in which this process computed is no standstill."""
        then = time.monotonic(), time.process_time()
        while True:
            time.sleep(0.02)
            now = time.monotonic(), time.process_time()
            gap_s, own_s = now[0] - then[0], now[1] - then[1]
            self.seen |= gap_s > self.SHORTEST_S and own_s < 0.5 * gap_s
            then = now


STANDSTILL = Standstill()
STANDSTILL.start()


def pytest_runtest_setup() -> None:
    """What was before a test is not its excuse."""
    STANDSTILL.seen = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in tests/loop, which drives the whole graph and wants the machine to itself."""
    loop, nodes = Path(__file__).parent / "loop", Path(__file__).parent / "nodes"
    for item in items:
        if loop in item.path.parents:
            item.add_marker("loop")
        if loop in item.path.parents or nodes in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=2, condition=lambda: STANDSTILL.seen))
