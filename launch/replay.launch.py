"""The stack fed from a bag, in the bag's time and without a base: see docs/bring_up.md."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

STACK = Path(__file__).with_name("stack.launch.py")


def generate_launch_description():
    arguments = {"base": "replay"}
    source = PythonLaunchDescriptionSource(str(STACK))
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="the bag's folder, which holds its metadata.yaml"),
            DeclareLaunchArgument("rate", default_value="1.0", description="speed, at most 1.0 times real time"),
            # Other defaults than on a robot.
            DeclareLaunchArgument("use_sim_time", default_value="true", description="take the time from /clock"),
            DeclareLaunchArgument("record", default_value="false", description="record a bag, below ./bags"),
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
        ]
    )
