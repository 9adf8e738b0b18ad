"""The simulated robot: worlds, sensors, tasks, Gymnasium environments and the ROS bridge."""
