"""What pip and colcon make of the source tree: both must install the code, the executables and the data files."""

import ast
import os
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

import dsac_robot

ROOT = Path(__file__).resolve().parent.parent
NODES = {"policy", "ood_monitor", "safety_guard", "recorder", "sim_bridge", "base"}
# Set by the ROS wheels for the interpreter that they live beside; another interpreter must not inherit them.
BOOTSTRAP = {"LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
WHERE = """
import dsac_robot, sim
from dsac_robot.share import share_dir
print(dsac_robot.__file__, sim.__file__, share_dir())
"""


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command in a clean environment and return its output; fail with that output where it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in BOOTSTRAP | {"PYTHONPATH"}}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def files_below(folder: str) -> set[str]:
    """Return the tracked files below a folder of the source tree."""
    return set(run("git", "ls-files", folder, cwd=ROOT).split())


def executables(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if os.access(path, os.X_OK)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tracked files, so that builds leave nothing behind in the tree."""
    copy = tmp_path_factory.mktemp("source")
    for path in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if path and (ROOT / path).is_file():
            target = copy / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / path).read_bytes())
            target.chmod((ROOT / path).stat().st_mode)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from the tree, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder, ".", cwd=source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a virtual environment that holds the wheel alone."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def install(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the install space of a colcon build of the tree."""
    folder = tmp_path_factory.mktemp("colcon")
    colcon = Path(sysconfig.get_path("scripts")) / "colcon"
    bases = ["--build-base", folder / "build", "--install-base", folder / "install"]
    build = [colcon, "--log-base", folder / "log", "build", "--base-paths", source, *bases]
    run(*build, cwd=folder, AMENT_PREFIX_PATH="", PATH=f"{colcon.parent}{os.pathsep}{os.environ['PATH']}")
    return folder / "install"


def test_the_version_is_the_same_everywhere(wheel: Path) -> None:
    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == dsac_robot.__version__
    assert wheel.name.startswith(f"dsac_robot-{dsac_robot.__version__}-")


def test_the_wheel_holds_every_module(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    modules = {path for path in files_below("dsac_robot") | files_below("sim") if path.endswith(".py")}
    assert modules
    assert modules <= packed
    assert "dsac_robot/py.typed" in packed
    assert not [path for path in packed if path.startswith(("tests/", "tools/"))]


def test_the_wheel_holds_every_data_file(wheel: Path) -> None:
    data = f"dsac_robot-{dsac_robot.__version__}.data/data/"
    packed = {path.removeprefix(data) for path in zipfile.ZipFile(wheel).namelist() if path.startswith(data)}
    shared = {f"share/dsac_robot/{path}" for path in files_below("config") | files_below("launch") | {"package.xml"}}
    assert shared <= packed
    assert "share/ament_index/resource_index/packages/dsac_robot" in packed
    assert {path for path in packed if path.startswith("lib/")} == {f"lib/dsac_robot/{name}" for name in NODES}


def test_the_wheel_declares_the_command(wheel: Path) -> None:
    member = f"dsac_robot-{dsac_robot.__version__}.dist-info/entry_points.txt"
    entry_points = zipfile.ZipFile(wheel).read(member).decode()
    assert "dsac-robot = dsac_robot.apps.cli:main" in entry_points


def test_an_installed_wheel_imports_and_finds_its_own_files(venv: Path) -> None:
    libraries = sysconfig.get_path("purelib")  # numpy and yaml; the editable install there is not seen this way
    package, sim, share = run(venv / "bin/python", "-c", WHERE, cwd=venv, PYTHONPATH=libraries).split()
    assert Path(package).is_relative_to(venv)
    assert Path(sim).is_relative_to(venv)
    assert Path(share) == venv / "share/dsac_robot"


def test_gymnasium_finds_the_envs_of_an_installed_wheel_by_module_and_name(venv: Path) -> None:
    program = (
        "import gymnasium\nenv = gymnasium.make('sim:dsac_robot/Navigate-v0').unwrapped\n"
        "import sim\nprint(env.robot.name, sim.__file__)"
    )
    libraries = sysconfig.get_path("purelib")
    robot, place = run(venv / "bin/python", "-c", program, cwd=venv, PYTHONPATH=libraries).split()
    assert robot == "jackal" and Path(place).is_relative_to(venv)


def test_code_without_its_data_files_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "dsac_robot").mkdir()
    for name in ("__init__.py", "share.py"):
        (tmp_path / "dsac_robot" / name).write_text((ROOT / "dsac_robot" / name).read_text())
    program = "from dsac_robot import share\ntry: share.share_dir()\nexcept FileNotFoundError as error: print(error)"
    message = run(sys.executable, "-c", program, cwd=tmp_path)
    assert str(tmp_path / "share/dsac_robot") in message
    assert "Install the package again" in message


def test_an_installed_wheel_has_executables_where_ros2_run_looks(venv: Path) -> None:
    assert executables(venv / "lib/dsac_robot") == NODES
    assert os.access(venv / "bin/dsac-robot", os.X_OK)


def test_colcon_builds_an_ament_package(install: Path) -> None:
    # colcon falls back to plain Python in silence where it dislikes package.xml: then there is no such hook.
    assert (install / "dsac_robot/share/dsac_robot/hook/ament_prefix_path.sh").is_file()
    assert executables(install / "dsac_robot/lib/dsac_robot") == NODES
    assert os.access(install / "dsac_robot/bin/dsac-robot", os.X_OK)


def test_a_sourced_colcon_workspace_answers_the_ament_index_and_the_code_alike(install: Path) -> None:
    program = f"{WHERE}from ament_index_python import get_package_share_directory as ask; print(ask('dsac_robot'))"
    shell = f'source "{install}/setup.bash"; exec "{sys.executable}" -c "{program}"'
    package, sim, share, index = run("bash", "-c", shell, cwd=install).split()
    assert Path(package).is_relative_to(install)
    assert Path(sim).is_relative_to(install)
    assert Path(share) == Path(index) == install / "dsac_robot/share/dsac_robot"


def test_every_executable_starts_a_main_that_exists() -> None:
    assert {path.name for path in (ROOT / "scripts").iterdir()} == NODES
    for script in (ROOT / "scripts").iterdir():
        (target,) = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.ImportFrom)]
        module = ROOT / f"{str(target.module).replace('.', '/')}.py"
        assert module.is_file(), f"{script.name} starts {target.module}, which does not exist"
        defined = {node.name for node in ast.parse(module.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert "main" in defined, f"{script.name} starts {target.module}.main, which does not exist"


def test_every_python_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    assigned = [node for node in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign)]
    values = {target.id: node.value for node in assigned for target in node.targets if isinstance(target, ast.Name)}
    groups = [node for node in ast.walk(values["EXTRAS"]) if isinstance(node, ast.List)] + [values["ROS_WHEELS"]]
    wanted = {item.value for group in groups for item in getattr(group, "elts", []) if isinstance(item, ast.Constant)}
    names = {requirement.split(">")[0].split("<")[0].split("[")[0].lower() for requirement in wanted}
    assert "torch" in names
    assert names <= pinned
