"""The stack with the simulated robot, in simulated time: see docs/bring_up.md."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

STACK = Path(__file__).with_name("stack.launch.py")


def generate_launch_description():
    arguments = {"base": "sim"}
    source = PythonLaunchDescriptionSource(str(STACK))
    return LaunchDescription(
        [
            # Other defaults than on a robot: nothing in the worlds moves by itself.
            DeclareLaunchArgument("use_sim_time", default_value="true"),
            DeclareLaunchArgument("guard_profile", default_value="static"),
            DeclareLaunchArgument("record", default_value="false"),
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
        ]
    )
