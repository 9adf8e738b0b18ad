"""Building a learner: for a robot and an observation layout, or for any flat observation."""

from __future__ import annotations

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, TermSpec
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot
from dsac_robot.learn.dsac_t import DsacT, DsacTConfig
from dsac_robot.learn.fast import FastDsacT
from dsac_robot.learn.networks import Features


def make(features: Features, action_dim: int, config: DsacTConfig) -> DsacT:
    """A fresh learner on the engine that ``config`` names. Raises ParameterError for bf16 on the plain one."""
    if config.engine == "plain" and config.precision != "fp32":
        raise ParameterError(f"learner: precision {config.precision} needs engine fast; the plain one is fp32")
    return (FastDsacT if config.engine == "fast" else DsacT)(features, action_dim, config)


def make_learner(robot: Robot, layout: ObservationLayout, config: DsacTConfig) -> DsacT:
    """A fresh learner whose inputs and outputs fit ``robot`` and ``layout``."""
    actions = ActionMap.of(robot.limits)
    return make(Features(ObservationBuilder(robot, layout).specs, actions), 2, config)


def make_plain_learner(observation_dim: int, action_dim: int, config: DsacTConfig) -> DsacT:
    """A fresh learner whose networks see the observation as it is: one term without a rule, no robot."""
    no_twist = ActionMap((-1.0, -1.0), (1.0, 1.0))  # scales twist terms only, and there is none
    return make(Features((TermSpec("observation", (observation_dim,), ""),), no_twist), action_dim, config)
