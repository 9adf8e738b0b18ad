"""The tests on the real `ros2 launch` run where it is installed: it is no part of the ROS wheels of PyPI.

`launch_ros` is asked for, since the folder launch/ of this tree is found under the name `launch` everywhere.
"""

from importlib.util import find_spec

collect_ignore = [] if find_spec("launch_ros") and find_spec("ros2launch") else ["test_launch_real.py"]
