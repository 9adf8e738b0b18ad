"""Everything that the launch files name exists. They are only parsed here: this runs without `launch`."""

import ast
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsac_robot.apps.cli import parser
from dsac_robot.core.files import load_yaml
from dsac_robot.core.params import ParamInfo, infos
from dsac_robot.nodes.inputs import BundleParams, RobotParams
from dsac_robot.nodes.interfaces import PARAMETERS
from sim.ros_bridge import SimBridgeParams

ROOT = Path(__file__).resolve().parent.parent.parent
LAUNCH = ROOT / "launch"
STACK = "stack.launch.py"
FILES = sorted(path.name for path in LAUNCH.glob("*.py"))
OF_ROS = {"use_sim_time"}  # parameters that every ROS node has
COMMON = {"robot", "bundle", "namespace", "use_sim_time", "log_level", "guard_profile", "record"}


def tree(file: str) -> ast.Module:
    return ast.parse((LAUNCH / file).read_text(encoding="utf-8"))


def calls(file: str, name: str) -> Iterator[ast.Call]:
    """Yield the calls of a function in a launch file, by the function's last name."""
    for found in ast.walk(tree(file)):
        if isinstance(found, ast.Call) and name in (getattr(found.func, "id", ""), getattr(found.func, "attr", "")):
            yield found


def texts(node: ast.AST) -> list[str]:
    """Return all string constants below a node."""
    return [found.value for found in ast.walk(node) if isinstance(found, ast.Constant) and isinstance(found.value, str)]


def declared(file: str) -> dict[str, ast.Call]:
    """Return the calls that declare a file's own launch arguments, by the argument's name."""
    return {texts(call.args[0])[0]: call for call in calls(file, "DeclareLaunchArgument")}


def keyword(call: ast.Call, name: str) -> object:
    """Return a keyword of a call, evaluated: a literal, or a constant of the file."""
    constants = {
        statement.targets[0].id: statement.value
        for statement in tree(STACK).body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }
    (value,) = [item.value for item in call.keywords if item.arg == name]
    return ast.literal_eval(constants[value.id] if isinstance(value, ast.Name) else value)


def read_arguments() -> set[str]:
    """Return the names of all launch arguments that the stack reads."""
    names = set()
    for reader in ("argument", "text", "LaunchConfiguration"):
        names |= {call.args[0].value for call in calls(STACK, reader) if isinstance(call.args[0], ast.Constant)}
    return names


def passed(file: str) -> dict[str, str]:
    """Return the launch arguments that a file gives to the stack."""
    found = [
        statement.value
        for statement in ast.walk(tree(file))
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "arguments"
    ]
    return dict(ast.literal_eval(found[0])) if found else {}  # robot.launch.py only declares more of them


def guard_configs() -> dict[str, str]:
    """Return the guard's parameter file by profile."""
    (found,) = [
        statement.value
        for statement in ast.walk(tree(STACK))
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "guard_config"
    ]
    return dict(ast.literal_eval(found))


def nodes() -> dict[str, ast.Call]:
    """Return the calls that make a node in the stack, by executable."""
    return {call.args[0].value: call for call in calls(STACK, "node") if isinstance(call.args[0], ast.Constant)}


def configs(executable: str) -> list[str]:
    """Return the parameter files that a node may be given."""
    if executable == "safety_guard":
        return list(guard_configs().values())
    return [text for argument in nodes()[executable].args[1:] for text in texts(argument)]


def parameters_of(executable: str) -> dict[str, ParamInfo]:
    """Return the parameters that a node declares."""
    classes = [SimBridgeParams] if executable == "sim_bridge" else []
    for names, group in PARAMETERS.items():
        if names == "all nodes" or executable in names.split(", "):
            classes += group
    return {info.name: info for cls in classes for info in infos(cls)}


EXECUTABLES = ["policy", "ood_monitor", "safety_guard", "recorder", "sim_bridge", "base"]


def test_the_stack_starts_every_node_of_the_package() -> None:
    assert sorted(nodes()) == sorted(EXECUTABLES) == sorted(path.name for path in (ROOT / "scripts").iterdir())


@pytest.mark.parametrize("executable", EXECUTABLES)
def test_each_executable_is_one_that_setup_installs(executable: str) -> None:
    assert os.access(ROOT / "scripts" / executable, os.X_OK)
    assert '"lib/{NAME}"' in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_the_package_is_this_one_and_declares_what_its_launch_files_import() -> None:
    package = ElementTree.parse(ROOT / "package.xml")
    (name,) = [
        ast.literal_eval(statement.value)
        for statement in tree(STACK).body
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "PACKAGE"
    ]
    assert name == package.findtext("name")
    depends = {element.text for element in package.iter("exec_depend")}
    imported = {
        found.module.split(".")[0]
        for file in FILES
        for found in ast.walk(tree(file))
        if isinstance(found, ast.ImportFrom) and found.module
    }
    assert imported - sys.stdlib_module_names <= depends


@pytest.mark.parametrize("executable", EXECUTABLES)
def test_each_parameter_file_exists_and_is_for_that_node(executable: str) -> None:
    for name in configs(executable):
        sections = load_yaml(ROOT / "config" / name)
        (section,) = sections
        inner = sections[section]
        target = section if "ros__parameters" in inner else f"{section}/{next(iter(inner))}"
        assert target == f"/**/{executable}", f"{name} is for {target}"


def test_each_node_but_the_simulated_robot_has_a_parameter_file() -> None:
    assert [executable for executable in EXECUTABLES if not configs(executable)] == ["sim_bridge"]


@pytest.mark.parametrize("executable", EXECUTABLES)
def test_each_parameter_that_a_node_is_given_is_declared_by_it(executable: str) -> None:
    (maker,) = [found for found in ast.walk(tree(STACK)) if getattr(found, "name", "") == "node"]
    keys = {
        key.value
        for found in ast.walk(maker)
        if isinstance(found, ast.Dict)
        for key in found.keys
        if isinstance(key, ast.Constant)
    }
    given = {item.arg for item in nodes()[executable].keywords} | keys
    assert {"exit_with_parent", "cmd_vel_type"} <= given
    assert given - OF_ROS <= set(parameters_of(executable))


def test_the_profiles_on_offer_are_those_with_a_parameter_file() -> None:
    assert keyword(declared(STACK)["guard_profile"], "choices") == list(guard_configs())


def test_choices_and_defaults_are_those_of_the_parameters() -> None:
    robot, bundle = ({info.name: info for info in infos(cls)} for cls in (RobotParams, BundleParams))
    simulated = {info.name: info for info in infos(SimBridgeParams)}
    arguments = declared(STACK)
    assert keyword(arguments["robot"], "default_value") == robot["robot"].default
    assert keyword(arguments["bundle"], "default_value") == bundle["bundle"].default
    assert keyword(arguments["cmd_vel_type"], "default_value") == robot["cmd_vel_type"].default
    assert keyword(arguments["cmd_vel_type"], "choices") == list(robot["cmd_vel_type"].choices)
    assert keyword(declared("sim.launch.py")["world"], "default_value") == simulated["world"].default


@pytest.mark.parametrize(
    ("file", "own"),
    [("robot.launch.py", set()), ("sim.launch.py", {"world"}), ("replay.launch.py", {"bag", "rate"})],
)
def test_each_launch_file_has_the_arguments_of_the_design_and_the_stack_reads_them(file: str, own: set[str]) -> None:
    offered = set(declared(file)) | set(declared(STACK))
    assert offered >= COMMON | own
    assert offered | set(passed(file)) <= read_arguments()


def test_each_argument_that_the_stack_reads_is_declared_somewhere() -> None:
    known = {name for file in FILES for name in declared(file)} | set(passed("robot.launch.py"))
    assert read_arguments() == known


@pytest.mark.parametrize("file", [file for file in FILES if file != STACK])
def test_each_file_that_is_included_exists(file: str) -> None:
    (include,) = calls(file, "with_name")
    assert (LAUNCH / texts(include)[0]).is_file()


def test_a_robot_is_guarded_for_moving_obstacles_in_real_time_and_recorded() -> None:
    defaults = {name: keyword(declared(STACK)[name], "default_value") for name in declared(STACK)}
    assert (defaults["guard_profile"], defaults["use_sim_time"], defaults["record"]) == ("dynamic", "false", "true")
    assert keyword(declared("robot.launch.py")["base"], "default_value") == "robot"


def test_topics_are_moved_by_the_namespace_alone() -> None:
    for file in FILES:
        assert not [
            item for call in ast.walk(tree(file)) for item in getattr(call, "keywords", []) if item.arg == "remappings"
        ]


def test_the_replay_command_exists_with_its_options() -> None:
    (command,) = [
        found
        for found in ast.walk(tree(STACK))
        if isinstance(found, ast.List) and found.elts and getattr(found.elts[0], "value", "") == "dsac-robot"
    ]
    words = [getattr(part, "value", "0.5") for part in command.elts[1:-1]]
    assert words == ["bag", "replay", "0.5", "--rate", "0.5"]
    args = parser().parse_args([*words, "--to-namespace=robot1"])
    assert (args.rate, args.to_namespace) == (0.5, "robot1")
