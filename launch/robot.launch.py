"""The stack on a robot, whose base is driven by its own drivers or by our firmware: see docs/bring_up.md."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

STACK = Path(__file__).with_name("stack.launch.py")


def generate_launch_description():
    source = PythonLaunchDescriptionSource(str(STACK))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "base",
                default_value="robot",
                choices=["robot", "firmware"],
                description="who drives the wheels: the robot's own drivers, or our base node and firmware",
            ),
            DeclareLaunchArgument(
                "base_port", default_value="/dev/ttyACM0", description="base:=firmware: device, or socket://HOST:PORT"
            ),
            IncludeLaunchDescription(source),
        ]
    )
