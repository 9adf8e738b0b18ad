"""One process a node, the simulated robot at 2 m/s, and one process killed: at rest within 1.0 s and 1.2 m.

Times and distances are those of the simulation's own stamps.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node

from dsac_robot.bundle.card import Card, Recorded
from dsac_robot.bundle.keys import generate_key, public_of
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.files import share_path
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.ood import MonitorSpec, ScoreSpec
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Odom
from dsac_robot.nodes import topics
from dsac_robot.nodes.converters import odom_from_message
from dsac_robot.nodes.run import init, make_executor, spin_while
from dsac_robot.nodes.states import SafetyState, decision_from_message
from sim.ros_bridge import TRUTH
from tests.bundle.conftest import dense_graph, model_bytes, monitor_bytes

ROOT = Path(__file__).resolve().parents[2]
NODES = {
    "sim_bridge": "sim.ros_bridge",
    "safety_guard": "dsac_robot.nodes.safety_guard",
    "ood_monitor": "dsac_robot.nodes.ood_monitor",
    "policy": "dsac_robot.nodes.policy",
}
PATIENCE_S = 60.0  # of the wall clock, for a machine under load; nothing is asserted about it


@pytest.fixture(scope="module")
def straight_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed bundle whose policy always asks for 2 m/s straight on; its key is in ``keys`` beside it."""
    folder, key = tmp_path_factory.mktemp("bundle"), generate_key()
    robot, layout = load_robot("jackal"), ObservationLayout()
    terms = ObservationBuilder(robot, layout).specs
    size = sum(int(np.prod(term.shape)) for term in terms)
    policy = model_bytes(dense_graph(terms, "command", np.zeros((size, 2)), [2.0, 0.0], [2.0, 0.0]))
    spec = MonitorSpec((ScoreSpec("distance", 5e3, 1e4), ScoreSpec("spread", 1e3, 2e3)), raise_after=2, clear_after=3)
    card = Card.of("straight_on", "navigate", robot, layout, spec, Recorded())
    write_bundle(folder / "bundle", card, policy, monitor_bytes(terms), key)
    (folder / "keys").mkdir()
    (folder / "keys" / "test.pub").write_text(public_of(key, "test").to_line())
    return folder / "bundle"


class Graph:
    """The processes, and a listener to the truth and to what the guard says."""

    def __init__(self, context: Context, bundle: Path) -> None:
        self._context = context
        self.node = Node("listener", context=context)
        self.executor = make_executor(context)
        self.executor.add_node(self.node)
        self.truth: list[Odom] = []
        self.safety: list[SafetyState] = []
        self.node.create_subscription(
            TRUTH.type, TRUTH.name, lambda m: self.truth.append(odom_from_message(m)), TRUTH.qos
        )
        topic = topics.SAFETY_STATE
        self.node.create_subscription(
            topic.type, topic.name, lambda m: self.safety.append(decision_from_message(m)), topic.qos
        )
        guard = ["--params-file", str(share_path("config", "safety_guard_static.yaml"))]
        signed = ["-p", f"bundle:={bundle}", "-p", f"trusted_keys:={bundle.parent / 'keys'}"]
        extra = {"sim_bridge": ["-p", "world:=empty"], "safety_guard": guard, "ood_monitor": signed, "policy": signed}
        self.processes = {}
        for name, module in NODES.items():
            sim_time = [] if name == "sim_bridge" else ["-p", "use_sim_time:=true"]
            arguments = ["--ros-args", "-p", "autostart:=true", *sim_time, *extra[name]]
            self.processes[name] = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT)

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        spin_while(self.executor, lambda: not done() and time.monotonic() < end, self._context)
        assert done(), f"never: {what}; safety: {self.safety[-1:]}"

    def catch_up(self) -> None:
        """Handle what has come, so that the newest truth is the newest indeed."""
        for _ in range(50):
            self.executor.spin_once(timeout_sec=0.0)

    def set_fault(self, name: str, value: str) -> None:
        client = self.node.create_client(SetParameters, "sim_bridge/set_parameters")
        self.until(client.service_is_ready, "the simulator takes parameters")
        text = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name=name, value=text)]))
        self.until(future.done, "the simulator answers")
        assert future.result().results[0].successful

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.node.destroy_node()


@pytest.fixture
def graph(straight_on: Path) -> Iterator[Graph]:
    context = Context()
    init([], context)
    made = Graph(context, straight_on)
    yield made
    made.close()
    context.try_shutdown()


def kill(name: str) -> Callable[[Graph], None]:
    return lambda graph: graph.processes[name].kill()


def fault(name: str, value: str) -> Callable[[Graph], None]:
    return lambda graph: graph.set_fault(name, value)


CASES = {
    "policy": (kill("policy"), Reason.COMMAND_STALE),
    "monitor": (kill("ood_monitor"), Reason.VERDICT_MISSING),
    "guard": (kill("safety_guard"), None),
    "clock": (fault("clock_fault", "stop"), Reason.CLOCK_LOST),
    "lidar": (fault("lidar_fault", "silent"), Reason.SCAN_STALE),
    "odometry": (fault("odom_fault", "silent"), Reason.ODOM_STALE),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_whatever_dies_at_full_speed_the_robot_comes_to_rest_in_time(graph: Graph, case: str) -> None:
    strike, reason = CASES[case]
    graph.until(lambda: bool(graph.truth) and graph.truth[-1].speed_mps > 1.97, "2 m/s")
    graph.catch_up()
    struck = graph.truth[-1]
    strike(graph)

    def rest() -> Odom | None:
        later = (o for o in graph.truth if o.stamp_ns > struck.stamp_ns and abs(o.speed_mps) < 0.02)
        return next(later, None)

    graph.until(lambda: rest() is not None, "at rest")
    at_rest = rest()
    assert at_rest is not None
    assert (at_rest.stamp_ns - struck.stamp_ns) / NS <= 1.0
    assert math.dist((struck.x_m, struck.y_m), (at_rest.x_m, at_rest.y_m)) <= 1.2
    if reason is not None:
        graph.until(lambda: graph.safety[-1].decision.reason == reason, reason.name)
        assert graph.safety[-1].decision.level == Level.STOP
