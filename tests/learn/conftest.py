"""One torch thread, and small networks over the real robot's observation."""

import pytest
import torch

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, TermSpec
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.learn.networks import Actor, Features

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def robot() -> Robot:
    return load_robot("jackal")


@pytest.fixture(scope="session")
def specs(robot: Robot) -> tuple[TermSpec, ...]:
    return ObservationBuilder(robot, ObservationLayout()).specs


@pytest.fixture
def actor(robot: Robot, specs: tuple[TermSpec, ...]) -> Actor:
    torch.manual_seed(5)
    return Actor(Features(specs, ActionMap.of(robot.limits)), 2, (32, 32))
