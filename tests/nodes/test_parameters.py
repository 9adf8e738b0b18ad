"""Parameters of the nodes: declared once, refused by name, read-only after configure."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.parameter import Parameter

from dsac_robot.core.files import load_yaml, share_path
from dsac_robot.core.params import ParameterError, infos, param
from dsac_robot.nodes import interfaces
from dsac_robot.nodes.base import BaseNode
from dsac_robot.nodes.compose import compose
from dsac_robot.nodes.lifecycle import StackNode
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from dsac_robot.nodes.recorder import Recorder
from dsac_robot.nodes.safety_guard import GuardNode

NODES = (PolicyNode, MonitorNode, GuardNode, Recorder, BaseNode)
CONFIG = share_path("config")
FILES = ["policy.yaml", "ood_monitor.yaml", "safety_guard_dynamic.yaml", "safety_guard_static.yaml"]
FILES += ["recorder.yaml", "base.yaml"]


@pytest.fixture
def make(context: Context):
    made: list[StackNode] = []

    def make_node(cls: Callable, *arguments: str) -> StackNode:
        made.append(cls(arguments=["--ros-args", *arguments], context=context))
        return made[-1]

    yield make_node
    for node in made:
        node.close()


@pytest.mark.parametrize("cls", NODES)
def test_the_ros_parameters_are_the_declared_ones_with_their_help_default_and_range(make, cls) -> None:
    node = make(cls)
    declared = {info.name: info for c in node.parameter_classes for info in infos(c)}
    own = {"use_sim_time", "start_type_description_service"}
    assert set(node.get_parameters_by_prefix("")) - own == set(declared)
    for name, info in declared.items():
        described = node.describe_parameter(name)
        assert info.help in described.description
        assert node.get_parameter(name).value == info.default
        for bounds in (*described.floating_point_range, *described.integer_range):
            assert info.low in (None, bounds.from_value)
            assert info.high in (None, bounds.to_value)
        if info.low is not None or info.high is not None:
            assert len(described.floating_point_range) + len(described.integer_range) == 1


@pytest.mark.parametrize("cls", NODES)
def test_an_unknown_key_is_refused_by_its_name(make, cls) -> None:
    with pytest.raises(ParameterError, match=r"unknown parameter goal_tolerence_m; known: .*autostart"):
        make(cls, "-p", "goal_tolerence_m:=0.5")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("margin_m:=2.0", r"margin_m = 2.0 m is outside \[0.0, 1.0\]"),
        ("margin_m:=wide", "margin_m = 'wide' must be of type float"),
        ("margin_m:=.nan", "margin_m = nan must be finite"),
        ("blank_is_fault:=1", "blank_is_fault = 1 must be of type bool"),
        ("cmd_vel_type:=Wrench", "cmd_vel_type = 'Wrench' must be one of TwistStamped, Twist"),
    ],
)
def test_a_bad_value_is_refused_by_its_name_and_what_is_allowed(make, argument: str, says: str) -> None:
    with pytest.raises(ParameterError, match=f"/safety_guard: {says}"):
        make(GuardNode, "-p", argument)


def test_a_whole_number_is_taken_for_a_float(make) -> None:
    node = make(GuardNode, "-p", "obstacle_speed_mps_max:=1")
    assert node.get_parameter("obstacle_speed_mps_max").value == 1.0


@dataclass(frozen=True)
class Needy:
    """A parameter without default, and lists."""

    name: str = param(unit="", help="must be given")
    sizes: tuple[float, ...] = param((1.0, 2.0), unit="m", low=0.0, high=9.0, help="some sizes")
    tags: tuple[str, ...] = param(("a",), unit="", help="some tags")
    count: int = param(3, unit="", low=1, high=5, help="how many")


class NeedyNode(StackNode):
    """A node with such parameters."""

    def __init__(self, arguments: list[str] | None = None, context: Context | None = None) -> None:
        super().__init__("needy", Needy, live=("count",), arguments=arguments, context=context)


def test_a_parameter_without_default_must_be_given_and_lists_are_tuples(make) -> None:
    with pytest.raises(ParameterError, match="/needy: parameter name is missing"):
        make(NeedyNode)
    with pytest.raises(ParameterError, match=r"sizes = 10.0 m is outside"):
        make(NeedyNode, "-p", "name:=x", "-p", "sizes:=[1.0, 10.0]")
    node = make(NeedyNode, "-p", "name:=x", "-p", "sizes:=[3.0, 4.0]")
    assert node.values(Needy) == Needy("x", (3.0, 4.0), ("a",), 3)


def test_before_configure_a_parameter_can_be_set_within_its_range_and_afterwards_only_a_live_one(make) -> None:
    node = make(NeedyNode, "-p", "name:=x")

    def put(name: str, value: object) -> SetParameters.Response:
        return node.set_parameters([Parameter(name, value=value)])[0]

    assert put("name", "y").successful
    refused = put("count", 6)  # rclpy itself, by the descriptor
    assert not refused.successful
    assert "count" in refused.reason
    node.trigger_configure()
    refused = put("name", "z")
    assert not refused.successful
    assert "name is read-only after configure" in refused.reason
    assert put("count", 5).successful
    node.trigger_cleanup()
    assert put("name", "z").successful
    assert node.values(Needy) == Needy("z", count=5)


@pytest.mark.parametrize("guard", ["dynamic", "static"])
def test_the_shipped_parameter_files_are_read_in_any_namespace(context: Context, guard: str) -> None:
    files = [CONFIG / name for name in FILES if "guard" not in name or guard in name]
    composition = compose(NODES, files, namespace="fleet/robot_1", context=context)
    try:
        node = composition.nodes["safety_guard"]
        assert node.get_fully_qualified_name() == "/fleet/robot_1/safety_guard"
        speed = node.get_parameter("obstacle_speed_mps_max").value
        assert (speed == 0.0) == (guard == "static")
    finally:
        composition.close()


def test_every_shipped_parameter_file_is_under_test() -> None:
    assert sorted(path.name for path in CONFIG.glob("*.yaml")) == sorted(FILES)
    for name in FILES:
        assert load_yaml(CONFIG / name)


def test_the_interfaces_page_is_fresh() -> None:
    page = (CONFIG.parent / "docs" / "interfaces.md").read_text(encoding="utf-8")
    assert page == interfaces.interfaces_markdown(), "python -m dsac_robot.nodes.interfaces > docs/interfaces.md"


def test_the_interfaces_page_has_every_parameter_of_every_node(make) -> None:
    page = interfaces.interfaces_markdown()
    for cls in NODES:
        for declared in make(cls).parameter_classes:
            assert all(f"| `{info.name}` |" in page for info in infos(declared))
