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
            DeclareLaunchArgument(
                "world",
                default_value="clutter:0",
                description="empty, barn:FOLDER:N, or KIND:SEED[:DIFFICULTY] with KIND clutter, corridors, offices, "
                "pedestrians, mix or track",
            ),
            # Other defaults than on a robot: nothing moves by itself in the default worlds.
            DeclareLaunchArgument("guard_profile", default_value="static", description="dynamic or static"),
            DeclareLaunchArgument("use_sim_time", default_value="true", description="take the time from /clock"),
            DeclareLaunchArgument("record", default_value="false", description="record a bag, below ./bags"),
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
        ]
    )
