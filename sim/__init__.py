"""The simulated robot: worlds, sensors, tasks, Gymnasium environments and the ROS bridge."""

from sim.registration import register_envs

register_envs()
