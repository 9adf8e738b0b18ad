"""Building a learner for a robot and an observation layout."""

from __future__ import annotations

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.robot import Robot
from dsac_robot.learn.dsac_t import DsacT, DsacTConfig
from dsac_robot.learn.networks import Features


def make_learner(robot: Robot, layout: ObservationLayout, config: DsacTConfig) -> DsacT:
    """A fresh learner whose inputs and outputs fit ``robot`` and ``layout``."""
    actions = ActionMap.of(robot.limits)
    return DsacT(Features(ObservationBuilder(robot, layout).specs, actions), 2, config)
