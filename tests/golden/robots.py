"""The robot that a card was made for: what the card says, over the description of today."""

from dataclasses import fields, replace

from dsac_robot.bundle.card import Card
from dsac_robot.core.robot import Robot


def robot_of_card(robot: Robot, card: Card) -> Robot:
    """``robot`` with lidar, geometry and limits of the card."""
    lidar = {f.name: getattr(card.lidar, f.name) for f in fields(card.lidar)}
    base = {f.name: getattr(card.geometry, f.name) for f in fields(card.geometry)}
    limits = replace(
        robot.limits,
        speed_mps_min=card.action.low[0],
        speed_mps_max=card.action.high[0],
        yaw_rate_radps_max=card.action.high[1],
    )
    return replace(robot, lidar=replace(robot.lidar, **lidar), base=replace(robot.base, **base), limits=limits)
