"""What the simulated robot says of the world beyond its sensors, and obstacles put there from outside: on topics.

Places are told in the frame that odometry starts in, where drift is not counted.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point32, PointStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import ChannelFloat32, PointCloud

from dsac_robot.core.geometry import outward_distance
from dsac_robot.core.kinematics import to_base
from dsac_robot.core.values import NS, Floats, Odom
from dsac_robot.nodes.converters import ConversionError, Frames, same_frame, stamp_to_message
from dsac_robot.nodes.topics import EVENTS, LATCHED, SENSOR_DATA, Topic
from sim.robot_model import SPARE_RADIUS_M
from sim.simulator import Simulator

TRUTH = Topic("sim/truth", Odometry, SENSOR_DATA, "simulator", "true pose, in the frame that odometry starts in")
OBSTACLES = Topic(
    "sim/obstacles",
    PointCloud,
    LATCHED,
    "simulator",
    "centres of standing cylinders in `odom`, channel `radius`",
)
WALLS = Topic(
    "sim/walls",
    PointCloud,
    LATCHED,
    "simulator",
    "centres of the walls (boxes) in `odom`, channels `half_length`, `half_thickness`, `yaw` (of the length)",
)
MOVERS = Topic(
    "sim/movers",
    PointCloud,
    LATCHED,
    "simulator",
    "centres of moving cylinders in `odom`, channels `radius`, `vx`, `vy`; 10 Hz while there are any",
)
PLACE_OBSTACLE = Topic(
    "sim/place_obstacle", PointStamped, EVENTS, "tests, demos", "put a cylinder there, in `odom` or `base_link`"
)


def standing_cloud(sim: Simulator, stamp_ns: int, frames: Frames) -> PointCloud:
    """The message of ``OBSTACLES``."""
    cylinders = sim.obstacles()
    standing = cylinders[: len(cylinders) - len(sim.world.movers)]
    return _cloud(sim, stamp_ns, frames, standing, radius=standing[:, 2])


def walls_cloud(sim: Simulator, stamp_ns: int, frames: Frames) -> PointCloud:
    """The message of ``WALLS``."""
    walls = sim.world.walls_m
    along = _turned(sim, np.stack([np.cos(walls[:, 4]), np.sin(walls[:, 4])], axis=1))
    yaw = np.arctan2(along[:, 1], along[:, 0])
    return _cloud(sim, stamp_ns, frames, walls, half_length=walls[:, 2], half_thickness=walls[:, 3], yaw=yaw)


def movers_cloud(sim: Simulator, stamp_ns: int, frames: Frames) -> PointCloud:
    """The message of ``MOVERS``."""
    world = sim.world
    moving = sim.obstacles()[-len(world.movers) :] if world.movers else np.zeros((0, 3))
    time_s = sim.time_ns / NS
    velocities = _turned(sim, np.array([mover.velocity_mps(time_s) for mover in world.movers]).reshape(-1, 2))
    return _cloud(sim, stamp_ns, frames, moving, radius=moving[:, 2], vx=velocities[:, 0], vy=velocities[:, 1])


def _turned(sim: Simulator, vectors: Floats) -> Floats:
    """Directions of the world in the frame of the odometry. # (N, 2) -> (N, 2)"""
    to_odom = sim.world_to_odom
    return np.array([to_odom(x, y) for x, y in vectors.tolist()]).reshape(-1, 2) - to_odom(0.0, 0.0)


def _cloud(sim: Simulator, stamp_ns: int, frames: Frames, places: Floats, **channels: Floats) -> PointCloud:
    """Places of the world, x and y first, with a channel of one number each for each. # (N, >= 2), (N,)"""
    message = PointCloud()
    message.header.stamp = stamp_to_message(stamp_ns)
    message.header.frame_id = frames.odom
    for x, y in places[:, :2].tolist():
        x, y = sim.world_to_odom(x, y)
        message.points.append(Point32(x=x, y=y))
    message.channels = [ChannelFloat32(name=name, values=values.tolist()) for name, values in channels.items()]
    return message


def place_asked(message: PointStamped, sim: Simulator, frames: Frames) -> tuple[float, float]:
    """Where in the world a cylinder is asked for on ``PLACE_OBSTACLE``; ConversionError where none can be put."""
    frame, x, y = message.header.frame_id, message.point.x, message.point.y
    if same_frame(frame, frames.base):
        world_m = sim.base_to_world(x, y)
    elif same_frame(frame, frames.odom):
        world_m = sim.odom_to_world(x, y)
    else:
        raise ConversionError(f"frame {frame!r}: give {frames.odom!r} or {frames.base!r}")
    if not np.all(np.isfinite(world_m)):
        raise ConversionError(f"point ({x}, {y}) must be finite")
    seen_m = to_base(Odom.from_yaw(0, *sim.pose, 0.0, 0.0), *world_m)
    if outward_distance(np.array([seen_m]), sim.robot.footprint)[0] <= SPARE_RADIUS_M:
        raise ConversionError(f"point ({x}, {y}) in {frame!r} is inside the robot: put it farther away")
    return world_m
