"""A small signed bundle, so that the tests of the whole graph depend on no training, and a ROS context."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rclpy.context import Context

from dsac_robot.bundle.card import Card, Recorded
from dsac_robot.bundle.keys import generate_key, public_of
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.ood import MonitorSpec, ScoreSpec
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.nodes.run import init
from tests.bundle.conftest import dense_graph, model_bytes, monitor_bytes

QUIET = MonitorSpec((ScoreSpec("distance", 5e3, 1e4), ScoreSpec("speed", 1e3, 2e3)), raise_after=2, clear_after=3)


@dataclass(frozen=True)
class Signer:
    """Writes signed bundles whose policy always asks for 2 m/s straight on and whose monitor never minds."""

    key: Ed25519PrivateKey
    keys: Path  # folder with the public half

    def write(self, folder: Path, robot: Robot, layout: ObservationLayout = ObservationLayout()) -> Path:
        """The bundle in ``folder``, for that robot and layout."""
        terms = ObservationBuilder(robot, layout).specs
        size = sum(int(np.prod(term.shape)) for term in terms)
        policy = model_bytes(dense_graph(terms, "command", np.zeros((size, 2)), [2.0, 0.0], [2.0, 0.0]))
        card = Card.of("straight_on", "navigate", robot, layout, QUIET, Recorded())
        return write_bundle(folder, card, policy, monitor_bytes(terms), self.key)

    def parameters(self, bundle: Path) -> dict[str, object]:
        """Node parameters that name the bundle and believe its signature."""
        return {"bundle": str(bundle), "trusted_keys": str(self.keys)}


@pytest.fixture(scope="session")
def robot() -> Robot:
    return load_robot("jackal")


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    made = Signer(generate_key(), tmp_path_factory.mktemp("keys"))
    (made.keys / "test.pub").write_text(public_of(made.key, "test").to_line())
    return made


@pytest.fixture(scope="session")
def straight_on(signer: Signer, robot: Robot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signer.write(tmp_path_factory.mktemp("bundle") / "straight_on", robot)


@pytest.fixture
def context() -> Iterator[Context]:
    made = Context()
    init([], made)
    yield made
    made.try_shutdown()
