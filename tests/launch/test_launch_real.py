"""The launch files on the real `ros2 launch`: bring-up, driving, and how it ends. Collected only where that exists."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from lifecycle_msgs.srv import GetState
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dsac_robot.nodes.topics import ODOM

ROOT = Path(__file__).resolve().parent.parent.parent
ROS2 = "import sys; from ros2cli.cli import main; sys.exit(main())"
LIMIT_S = 60.0  # a run that takes longer hangs; nothing is measured by it
NODES = ["recorder", "sim_bridge", "safety_guard", "ood_monitor", "policy"]
DOWN = ["policy", "ood_monitor", "safety_guard", "sim_bridge", "recorder"]


class Launched:
    """`ros2 launch` of this tree in a process of its own, and a node that watches it."""

    def __init__(self, folder: Path, file: str, *arguments: str) -> None:
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        self.context = Context()
        rclpy.init(args=[], context=self.context)
        self.node = Node("watcher", context=self.context, namespace="/watching")
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.odoms: list[Odometry] = []
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ROS2, "launch", "dsac_robot", file, *arguments],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Spin until the condition holds; fail with the log where it does not come to hold."""
        end_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end_s, f"waited in vain until {what}:\n{self.text()}"
            self.executor.spin_once(timeout_sec=0.1)

    def up(self) -> None:
        """Wait until launch says that all nodes are active."""
        self.until(lambda: "all nodes are active" in self.text() or self.process.poll() is not None, "all are active")
        assert "all nodes are active" in self.text(), self.text()

    def state(self, name: str) -> str:
        """Return the lifecycle state of a node as the node itself tells it."""
        client = self.node.create_client(GetState, f"{name}/get_state")
        self.until(client.service_is_ready, f"{name} answers")
        future = client.call_async(GetState.Request())
        self.until(future.done, f"{name} has told its state")
        self.node.destroy_client(client)
        return str(future.result().current_state.label)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the nodes by their names, as launch logged them."""
        return {
            name: int(pid)
            for name, pid in re.findall(r"\[(\w+)-\d+\]: process started with pid \[(\d+)\]", self.text())
        }

    def left(self) -> list[str]:
        """Return the nodes whose processes still run (a process that ended and was not waited for does not)."""
        return [name for name, pid in self.pids().items() if is_running(pid)]

    def ended(self) -> int:
        """Wait for the end of launch and of all nodes; return launch's exit status."""
        self.until(lambda: self.process.poll() is not None, "launch has ended")
        self.until(lambda: not self.left(), "no process is left")
        return int(self.process.returncode)

    def order(self) -> list[str]:
        """Return the nodes in the order in which their ends were logged."""
        return re.findall(r"\[(\w+)-\d+\]: process has finished cleanly", self.text())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for name in self.left():
            os.kill(self.pids()[name], signal.SIGKILL)
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which this tree is an installed package, as by `colcon build --symlink-install`."""
    prefix = folder / "prefix"
    if not prefix.exists():
        marker = prefix / "share/ament_index/resource_index/packages/dsac_robot"
        marker.parent.mkdir(parents=True)
        marker.touch()
        (prefix / "lib").mkdir()
        (prefix / "lib/dsac_robot").symlink_to(ROOT / "scripts")
        shutil.copytree(ROOT / "launch", prefix / "share/dsac_robot/launch")  # ros2 launch follows no linked folder
        (prefix / "share/dsac_robot/config").symlink_to(ROOT / "config")
    prefixes = f"{prefix}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"AMENT_PREFIX_PATH": prefixes, "PATH": path, "ROS_LOG_DIR": str(folder / "log")}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    made: list[Launched] = []

    def launched(file: str, *arguments: str) -> Launched:
        made.append(Launched(tmp_path, file, *arguments))
        return made[-1]

    yield launched
    for one in made:
        one.close()


def test_the_simulated_robot_is_brought_up_drives_and_ends_in_order(start: Callable[..., Launched]) -> None:
    run = start("sim.launch.py", "world:=empty", "record:=true")
    run.node.create_subscription(Odometry, f"/{ODOM.name}", run.odoms.append, ODOM.qos)
    run.up()
    assert {name: run.state(f"/{name}") for name in NODES} == dict.fromkeys(NODES, "active")
    run.until(lambda: bool(run.odoms) and run.odoms[-1].pose.pose.position.x > 5.0, "the robot is 5 m on")
    moving = [odom for odom in run.odoms if 1.0 < odom.pose.pose.position.x < 5.0]
    stamps_s = [odom.header.stamp.sec + 1e-9 * odom.header.stamp.nanosec for odom in moving]
    assert stamps_s == sorted(set(stamps_s))
    assert stamps_s[-1] - stamps_s[0] < 10.0  # of simulated time, for 4 m
    os.kill(run.process.pid, signal.SIGINT)
    assert run.ended() == 0, run.text()
    assert run.order() == DOWN
    assert list((run.log.parent / "bags").glob("*/metadata.yaml"))


def test_when_one_node_dies_the_others_end_in_order_and_launch_reports_a_failure(
    start: Callable[..., Launched],
) -> None:
    run = start("sim.launch.py", "world:=empty")
    run.up()
    os.kill(run.pids()["safety_guard"], signal.SIGKILL)
    assert run.ended() == 1, run.text()
    assert run.order() == ["policy", "ood_monitor", "sim_bridge"]
    assert "safety_guard-2 ended with -9" in run.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_when_launch_itself_is_ended_no_node_is_left(start: Callable[..., Launched], number: int) -> None:
    run = start("sim.launch.py", "world:=empty")
    run.up()
    os.kill(run.process.pid, number)
    assert run.ended() != 0


def test_a_node_that_refuses_ends_the_bring_up_with_a_failure(start: Callable[..., Launched]) -> None:
    run = start("sim.launch.py", "bundle:=no_such_bundle")
    assert run.ended() == 1
    assert "no_such_bundle" in run.text()
    assert "refused to configure: see its log" in run.text()


def test_a_replay_ends_by_itself_with_its_bag(start: Callable[..., Launched]) -> None:
    first = start("sim.launch.py", "world:=empty", "record:=true")
    first.up()
    first.node.create_subscription(Odometry, f"/{ODOM.name}", first.odoms.append, ODOM.qos)
    first.until(lambda: bool(first.odoms) and first.odoms[-1].pose.pose.position.x > 3.0, "the robot is 3 m on")
    os.kill(first.process.pid, signal.SIGINT)
    assert first.ended() == 0, first.text()
    (bag,) = (first.log.parent / "bags").iterdir()
    again = start("replay.launch.py", f"bag:={bag}")
    assert again.ended() == 0, again.text()
    assert "all nodes are active" in again.text()
    assert "messages replayed" in again.text()
    assert again.order() == ["replay", "policy", "ood_monitor", "safety_guard"]


def test_two_robots_run_side_by_side_in_their_namespaces(start: Callable[..., Launched]) -> None:
    first = start("sim.launch.py", "world:=empty", "namespace:=robot1")
    first.up()
    # Clocks of two simulations would contend for /clock: the second robot is one whose drivers are not there.
    second = start("robot.launch.py", "namespace:=robot2", "record:=false")
    second.up()
    assert first.state("/robot1/policy") == second.state("/robot2/policy") == "active"
    os.kill(first.process.pid, signal.SIGINT)
    assert first.ended() == 0, first.text()
    assert second.state("/robot2/safety_guard") == "active"
    os.kill(second.process.pid, signal.SIGINT)
    assert second.ended() == 0, second.text()
