"""The simulated robot: worlds, sensors, tasks, Gymnasium environments and the ROS bridge."""

import dsac_robot  # noqa: F401  # before numpy, which takes its number of threads from it
from sim.registration import register_envs

register_envs()
