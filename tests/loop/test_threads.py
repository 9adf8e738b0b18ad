"""Nodes compute in one thread, however they are started: one that waits for a busy core costs milliseconds."""

import os
import re
import subprocess
import sys

import pytest

from tests.loop.graph import ROOT

# The node's own main function, and beside it a thread that asks BLAS once ROS runs, and then ends the node.
REPORTER = """
import ctypes, os, runpy, signal, sys, threading, time

def blas_threads():
    paths = {line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line}
    names = [f"{prefix}openblas_get_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]
    libraries = [ctypes.CDLL(path) for path in paths]
    return [getattr(library, name)() for library in libraries for name in names if hasattr(library, name)]

def report():
    while not getattr(sys.modules.get("rclpy"), "ok", lambda: False)():  # it may be half imported
        time.sleep(0.05)
    time.sleep(0.5)
    print("blas threads:", blas_threads(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=report, daemon=True).start()
sys.argv = sys.argv[1:]
if os.path.isfile(sys.argv[0]):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        (str(ROOT / "scripts" / "safety_guard"),),
        (str(ROOT / "scripts" / "policy"),),
        ("sim.ros_bridge",),
        ("dsac_robot.apps.cli", "up", "--sim", "--world", "empty"),
    ],
    ids=["safety_guard", "policy", "sim_bridge", "up"],
)
def test_a_running_node_has_one_thread_in_each_blas(arguments: tuple[str, ...]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", REPORTER, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    # of each library that is loaded: numpy's, and scipy's where Numba finds it
    assert re.search(r"blas threads: \[1(, 1)*\]\n", done.stdout), done.stdout + done.stderr
