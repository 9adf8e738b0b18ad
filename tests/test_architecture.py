"""The import rules between the rooms of the code, and what keeps the command quick to start."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROS = frozenset({"rclpy", "ament_index_python", "rpyutils", "tf2_ros", "std_srvs"})
ROS_SUFFIXES = ("_msgs", "_interfaces")
ANY = frozenset({"*"})


@dataclass(frozen=True)
class Rule:
    """What one room may import beside itself, the standard library and numpy."""

    rooms: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()
    ros: bool = False


# The rooms of dsac_robot by their folder, `sim`, and "" for the modules directly in dsac_robot/.
RULES = {
    "": Rule(),
    "core": Rule(),
    "bundle": Rule(frozenset({"core"}), frozenset({"onnx", "onnxruntime", "tensorrt", "cryptography"})),
    "data": Rule(
        frozenset({"core"}),
        # rosbags, MCAP and Minari, and what these store with
        frozenset({"rosbags", "mcap", "minari", "h5py", "gymnasium", "lz4", "zstandard"}),
    ),
    "learn": Rule(
        frozenset({"core", "data", "bundle"}),
        frozenset({"torch", "onnx", "onnxscript", "tensorboard", "gymnasium"}),
    ),
    "sim": Rule(frozenset({"core"}), frozenset({"mujoco", "gymnasium"})),
    "nodes": Rule(frozenset({"core", "bundle"}), ros=True),
    "apps": Rule(frozenset({"core", "bundle", "data", "learn", "nodes", "sim"}), ANY, ros=True),
}

# Files that may import more than their room.
EXTRA = {
    "dsac_robot/core/files.py": Rule(libraries=frozenset({"yaml"})),
    "dsac_robot/core/compiled.py": Rule(libraries=frozenset({"numba"})),
    "dsac_robot/nodes/recorder.py": Rule(frozenset({"data"})),
    "sim/ros_bridge.py": Rule(frozenset({"nodes"}), ros=True),
    "sim/ros_truth.py": Rule(frozenset({"nodes"}), ros=True),
}

# Parsed in one place, so that every file is checked the same way.
ONE_FILE_ONLY = {"yaml": "dsac_robot/core/files.py"}

# What an application may import only inside the function that needs it.
HEAVY = {"av", "gymnasium", "matplotlib", "minari", "mujoco", "numba", "onnx", "onnxruntime", "pandas", "ray", "rclpy"}
HEAVY |= {"rliable", "rosbags", "scipy", "tensorboard", "tensorrt", "torch"}


@dataclass(frozen=True)
class Import:
    """One imported module, by its absolute name."""

    module: str
    line: int
    on_load: bool  # runs when the file itself is imported: not in a function, not for type checkers only


def room_of(path: str) -> str:
    """Return the room of a file by its path relative to the root of the tree."""
    parts = path.split("/")
    if parts[0] == "sim":
        return "sim"
    return parts[1] if len(parts) > 2 else ""


def is_type_checking(test: ast.expr) -> bool:
    """Tell whether an if's condition is TYPE_CHECKING or typing.TYPE_CHECKING."""
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def imported_modules(node: ast.AST, path: str) -> list[str]:
    """Return the absolute names that one statement or call imports; an empty list for anything else."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = path.split("/")[: -node.level] if node.level else []
        base = ".".join([*package, *filter(None, [node.module])])
        # `from dsac_robot import learn` names the room in the alias
        return [f"{base}.{alias.name}" for alias in node.names] if base == "dsac_robot" else [base]
    if isinstance(node, ast.Call) and node.args:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        name = getattr(node.args[0], "value", None)
        if called in ("import_module", "__import__") and isinstance(name, str):
            return [name]
    return []


def imports(node: ast.AST, path: str, on_load: bool = True) -> Iterator[Import]:
    """Yield every import below node, however deep."""
    for child in ast.iter_child_nodes(node):
        for module in imported_modules(child, path):
            yield Import(module, getattr(child, "lineno", 0), on_load)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(child, path, False)
        elif isinstance(child, ast.If) and is_type_checking(child.test):
            for part in child.body:
                yield from imports(ast.Module([part], []), path, False)
            for part in child.orelse:
                yield from imports(ast.Module([part], []), path, on_load)
        else:
            yield from imports(child, path, on_load)


def is_allowed(path: str, module: str) -> bool:
    """Tell whether the file may import the module at all, wherever in it."""
    top, *rest = module.split(".")
    if top in sys.stdlib_module_names or top == "numpy":
        return True
    if top in ONE_FILE_ONLY:
        return path == ONE_FILE_ONLY[top]
    own_room = room_of(path)
    rules = [RULES[own_room], EXTRA.get(path, Rule())]
    if top in ("sim", "dsac_robot"):
        room = "sim" if top == "sim" else rest[0] if rest and rest[0] in RULES else ""
        return room in ("", own_room) or any(room in rule.rooms for rule in rules)
    if top in ROS or top.endswith(ROS_SUFFIXES):
        return any(rule.ros for rule in rules)
    return any(top in rule.libraries or rule.libraries == ANY for rule in rules)


def violations(path: str, source: str) -> list[str]:
    """Return one sentence for each import in source, a file at path, that the rules forbid."""
    room = room_of(path)
    if room not in RULES:
        return [f"{path}: the folder {room} is no room of the design; rooms are {', '.join(filter(None, RULES))}"]
    found = []
    for item in imports(ast.parse(source), path):
        if not is_allowed(path, item.module):
            found.append(f"{path}:{item.line} imports {item.module}, which is not for room {room or 'dsac_robot'}")
        elif room == "apps" and item.on_load and item.module.split(".")[0] in HEAVY:
            found.append(f"{path}:{item.line} imports {item.module} on load; import it in the function that needs it")
    return found


def source_files() -> list[Path]:
    return sorted([*(ROOT / "dsac_robot").rglob("*.py"), *(ROOT / "sim").rglob("*.py")])


def test_every_file_imports_only_what_its_room_may() -> None:
    files = source_files()
    assert len(files) > 10
    found = []
    for file in files:
        found += violations(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dsac_robot/core/guard.py", "import scipy"),
        ("dsac_robot/core/guard.py", "import yaml"),
        ("dsac_robot/core/guard.py", "from dsac_robot.data import bags"),
        ("dsac_robot/core/guard.py", "from ..learn import dsac_t"),
        ("dsac_robot/core/guard.py", "from dsac_robot import learn"),
        ("dsac_robot/core/guard.py", "def f():\n    import torch"),
        ("dsac_robot/core/guard.py", "import importlib\nimportlib.import_module('torch')"),
        ("dsac_robot/core/guard.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("dsac_robot/share.py", "from dsac_robot.apps import cli"),
        ("dsac_robot/bundle/runtime.py", "import torch"),
        ("dsac_robot/data/reader.py", "import rclpy"),
        ("dsac_robot/learn/train.py", "from sim.envs import make"),
        ("dsac_robot/learn/train.py", "import mujoco"),
        ("dsac_robot/nodes/policy.py", "import torch"),
        ("dsac_robot/nodes/policy.py", "from sim import worlds"),
        ("dsac_robot/nodes/policy.py", "from dsac_robot.data import reader"),
        ("dsac_robot/nodes/policy.py", "from dsac_robot.learn.export import save"),
        ("dsac_robot/apps/train.py", "import torch"),
        ("dsac_robot/apps/train.py", "try:\n    import rclpy\nexcept ImportError:\n    pass"),
        ("dsac_robot/apps/train.py", "class A:\n    from matplotlib import pyplot"),
        ("dsac_robot/apps/up.py", "def run():\n    import yaml"),
        ("sim/env.py", "import rclpy"),
        ("sim/env.py", "from dsac_robot.nodes.convert import scan_from_message"),
        ("sim/env.py", "import sensor_msgs.msg"),
        ("dsac_robot/vision/net.py", "import math"),
    ],
)
def test_a_forbidden_import_is_caught(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dsac_robot/core/guard.py", "import math\nimport numpy as np\nfrom dsac_robot.core.values import Twist"),
        ("dsac_robot/core/guard.py", "from . import values\nfrom .values import Twist\nfrom dsac_robot import core"),
        ("dsac_robot/core/files.py", "import yaml"),
        ("dsac_robot/bundle/card.py", "import dsac_robot\nfrom dsac_robot import __version__\nimport onnx"),
        ("dsac_robot/nodes/recorder.py", "from dsac_robot.data import writer\nimport rclpy"),
        ("dsac_robot/nodes/policy.py", "from sensor_msgs.msg import LaserScan\nfrom dsac_robot.share import share_dir"),
        ("dsac_robot/apps/train.py", "def run():\n    import torch\n    from sim.env import Env"),
        ("dsac_robot/apps/train.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("sim/ros_bridge.py", "import rclpy\nfrom dsac_robot.nodes.convert import scan_to_message\nimport mujoco"),
        ("sim/env.py", "import mujoco\nfrom sim.robot import build\nfrom .robot import build"),
    ],
)
def test_an_allowed_import_passes(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_the_help_of_the_command_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from dsac_robot.apps.cli import main\n"
        "sys.argv = ['dsac-robot', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as exit:\n    assert not exit.code, exit.code\n"
        f"print('LOADED', sorted({HEAVY!r} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "LOADED []"
