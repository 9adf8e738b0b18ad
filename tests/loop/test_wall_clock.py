"""The guard on the wall clock, as on a robot: somebody sets the clock, forward and back, while the robot drives.

libfaketime sets the clock of the guard's process alone; its steady clock goes on, as it does when a real clock is set.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rclpy.context import Context

from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.values import NS, Command
from dsac_robot.nodes import topics
from dsac_robot.nodes.converters import command_to_message, odom_to_message, scan_to_message
from dsac_robot.nodes.states import verdict_to_message
from tests.loop.graph import Graph
from tests.nodes.conftest import ROBOT, World

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
STEP_S = 0.02
SPEED_MPS = 1.0


class Setter:
    """The clock of one process, set by what a file says."""

    def __init__(self, file: Path) -> None:
        assert LIBRARIES, "no libfaketime: run sudo apt-get install libfaketime"
        self._file = file
        self.set(0.0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_s: float) -> None:
        """So far ahead of the machine's clock; the file is replaced whole."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+g}s\n")
        new.rename(self._file)


class Driven:
    """A robot that is asked to drive, sensed and driven on the machine's clock every 20 ms."""

    def __init__(self, context: Context, graph: Graph) -> None:
        self.graph, self.world = graph, World(context)
        graph.executor.add_node(self.world)
        self._next_s = time.monotonic()

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Go on sensing and asking until ``done()``."""

        def step() -> bool:
            if time.monotonic() >= self._next_s:
                self._next_s = time.monotonic() + STEP_S
                self._sense()
            return done()

        self.graph.until(step, what)

    def _sense(self) -> None:
        world, now_ns = self.world, time.time_ns()
        elapsed_s = min((now_ns - world.now_ns) / NS, 0.1)
        x, y, yaw = world.pose
        world.now_ns, world.pose = now_ns, (x + world.twist[0] * elapsed_s, y, yaw)
        world.publish(topics.SCAN, scan_to_message(world.scan(), ROBOT.lidar))
        world.publish(topics.ODOM, odom_to_message(world.odom()))
        world.publish(topics.POLICY_CMD_VEL, command_to_message(Command(now_ns, SPEED_MPS, 0.0)))
        world.publish(topics.OOD_STATE, verdict_to_message(Verdict(now_ns, now_ns, OodLevel.OK)))


@pytest.fixture
def setter(tmp_path: Path) -> Setter:
    return Setter(tmp_path / "clock")


@pytest.fixture
def driven(context: Context, setter: Setter) -> Iterator[Driven]:
    graph = Graph(context)
    parameters = ["-p", "autostart:=true", "-p", "obstacle_speed_mps_max:=0.0"]
    guard = ["-m", "dsac_robot.nodes.safety_guard", "--ros-args", *parameters]
    graph.start("safety_guard", guard, setter.environment)
    yield Driven(context, graph)
    graph.close()


@pytest.mark.slow
@pytest.mark.parametrize(("ahead_s", "then"), [(5.0, Reason.SCAN_STALE), (-5.0, Reason.SCAN_FROM_FUTURE)])
def test_a_clock_that_is_set_stops_the_robot_and_set_right_it_drives_again(
    driven: Driven, setter: Setter, ahead_s: float, then: Reason
) -> None:
    world = driven.world
    driven.until(lambda: world.twist[0] == SPEED_MPS, "full speed")
    heard = len(world.safety)
    setter.set(ahead_s)
    driven.until(lambda: world.twist == (0.0, 0.0) and world.safety[-1].decision.reason == then, f"rest, {then.name}")
    first = next(s for s in world.safety[heard:] if s.decision.reason == Reason.CLOCK_JUMP)
    assert first.decision.level == Level.STOP
    assert dict(first.decision.numbers)["step_s"] == pytest.approx(ahead_s, abs=1.0)
    assert min(message.twist.linear.x for message in world.sent) >= 0.0
    setter.set(0.0)
    driven.until(lambda: world.twist[0] == SPEED_MPS, "it drives again")
