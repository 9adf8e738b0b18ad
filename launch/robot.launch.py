"""The stack on a robot whose own drivers publish scan and odom and take cmd_vel: see docs/bring_up.md."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

STACK = Path(__file__).with_name("stack.launch.py")


def generate_launch_description():
    arguments = {"base": "robot"}
    source = PythonLaunchDescriptionSource(str(STACK))
    return LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments.items())])
