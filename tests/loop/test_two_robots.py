"""Two robots side by side in two namespaces: each with its own guard on its own cmd_vel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rclpy.context import Context
from std_srvs.srv import Trigger

from dsac_robot.core.reasons import Level, Reason
from tests.loop.conftest import Signer
from tests.loop.graph import Graph

ROBOTS = ("robot1", "robot2")


def publishers(robot: Any, name: str) -> list[tuple[str, str]]:
    """Names and namespaces of the nodes that publish the robot's cmd_vel, as discovery knows them now."""
    return [(p.node_name, p.node_namespace) for p in robot.node.get_publishers_info_by_topic(f"/{name}/cmd_vel")]


@pytest.fixture
def graph(context: Context, straight_on: Path, signer: Signer) -> Iterator[Graph]:
    made = Graph(context)
    for name in ROBOTS:
        made.start(name, ["-m", "tests.loop.one_robot", name, str(straight_on), str(signer.keys)])
    yield made
    made.close()


@pytest.mark.slow
def test_two_robots_drive_side_by_side_and_a_stop_of_one_is_no_stop_of_the_other(graph: Graph) -> None:
    robots = {name: graph.listen(name) for name in ROBOTS}
    graph.until(lambda: all(r.truth and r.truth[-1].x_m > 0.3 for r in robots.values()), "both have moved")
    for name, robot in robots.items():
        guard = [("safety_guard", f"/{name}")]  # discovery tells endpoints late, and before their nodes' names
        graph.until(lambda n=name, r=robot, g=guard: publishers(r, n) == g, "the guard publishes")
        assert robot.node.count_publishers("/cmd_vel") == 0
    other, stopped = sorted(robots.values(), key=lambda r: r.truth[-1].x_m)  # the other is farther from its goal
    stop = stopped.node.create_client(Trigger, "safety_guard/stop")
    graph.until(stop.service_is_ready, "the guard serves")
    future = stop.call_async(Trigger.Request())
    graph.until(future.done, "it answers")
    assert future.result().success
    begun_m = other.truth[-1].x_m
    graph.until(lambda: abs(stopped.speed_mps) < 0.02, "the one is at rest")
    graph.until(lambda: other.truth[-1].x_m > begun_m + 0.5, "the other drives on")
    graph.until(lambda: bool(stopped.safety and other.safety), "safety/state heard")
    assert stopped.safety[-1].decision.level == Level.EMERGENCY
    assert stopped.safety[-1].decision.reason == Reason.OPERATOR_STOP
    assert all(state.decision.level != Level.EMERGENCY for state in other.safety)
