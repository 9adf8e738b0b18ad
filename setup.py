"""Builds dsac_robot for pip and, as an ament_python package, for colcon.

This file is the authority for both; pyproject.toml configures tools only. Versions here are lower bounds;
the exact ones that the tests ran with are in constraints.txt.
"""

import ast
from pathlib import Path

from setuptools import find_packages, setup

NAME = "dsac_robot"
HERE = Path(__file__).resolve().parent

# The ROS 2 wheels on PyPI exist for x86-64 Linux only; elsewhere ROS comes from the system.
ROS_WHEELS_MARKER = 'platform_system == "Linux" and platform_machine == "x86_64"'
ROS_WHEELS = [
    "ros-rclpy",
    "ros-rmw-fastrtps-cpp",
    "ros-fastdds",
    "ros-builtin-interfaces",
    "ros-diagnostic-msgs",
    "ros-geometry-msgs",
    "ros-lifecycle-msgs",
    "ros-nav-msgs",
    "ros-rcl-interfaces",
    "ros-rosgraph-msgs",
    "ros-sensor-msgs",
    "ros-std-msgs",
    "ros-std-srvs",
]

EXTRAS = {
    "ros": [f"{wheel}; {ROS_WHEELS_MARKER}" for wheel in ROS_WHEELS],
    "sim": ["mujoco>=3.2", "gymnasium>=1.0", "imageio>=2.14"],  # imageio: Gymnasium's own MuJoCo tasks import it
    "train": ["torch>=2.6", "tensorboard>=2.15", "onnx>=1.16", "onnxscript>=0.2", "gymnasium>=1.0"],
    "deploy": ["onnxruntime>=1.17", "cryptography>=41"],
    "data": ["rosbags>=0.10.5", "mcap>=1.2", "minari[hdf5]>=0.5.2"],
    "video": ["mujoco>=3.2", "av>=12"],
    "report": ["matplotlib>=3.8", "rliable>=1.2", "pandas<3"],
    "ray": ["ray>=2.9"],
    "dev": [
        "cffi>=1.16",
        "colcon-common-extensions>=0.3",
        "colcon-ros>=0.5",
        "hypothesis>=6.100",
        "jsonschema>=4.18",
        "mypy>=1.11",
        "pytest>=9.0",
        "pytest-rerunfailures>=16.0",
        "pytest-xdist>=3.6",
        "ruff>=0.8",
        "setuptools>=70.1,<80",
        "types-PyYAML",
    ],
}
EXTRAS["all"] = sorted({requirement for group in EXTRAS.values() for requirement in group})


def version():
    """Return the value of __version__ in dsac_robot/__init__.py without importing the package."""
    for node in ast.parse((HERE / NAME / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [target.id for target in node.targets] == ["__version__"]:
            return ast.literal_eval(node.value)
    raise RuntimeError(f"{NAME}/__init__.py assigns no __version__: add one, for example __version__ = '0.1.0'")


def share_tree(folder):
    """Return data_files entries that copy every file below folder to share/dsac_robot, keeping the folders."""
    paths = sorted(path for path in (HERE / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    by_folder = {}
    for path in paths:
        relative = path.relative_to(HERE)
        by_folder.setdefault(f"share/{NAME}/{relative.parent.as_posix()}", []).append(relative.as_posix())
    return list(by_folder.items())


setup(
    name=NAME,
    version=version(),
    description="DSAC-T driving policies for wheeled robots under ROS 2, behind a safety guard",
    maintainer="dsac_robot maintainers",
    maintainer_email="maintainers@users.noreply.github.com",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*", "sim", "sim.*"]),
    package_data={"": ["py.typed", "*.html", "*.css", "*.js", "*.json"]},
    install_requires=["numba>=0.56", "numpy>=1.21", "pyyaml>=5.4"],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["dsac-robot = dsac_robot.apps.cli:main"]},
    # `ros2 run` looks in lib/<package>, where pip installs no entry points: hence scripts as data files.
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"lib/{NAME}", sorted(f"scripts/{path.name}" for path in (HERE / "scripts").iterdir() if path.is_file())),
        *share_tree("launch"),
        *share_tree("config"),
    ],
    zip_safe=False,
)
