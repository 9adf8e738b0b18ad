"""Bundles of every supported card version, committed once: each later release loads them and gives the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.bundle.card import CARD_VERSION, OLDEST_CARD_VERSION, Card
from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle, model_inputs
from dsac_robot.bundle.keys import load_trusted_keys
from dsac_robot.bundle.runtime import Runtime, TensorSpec
from dsac_robot.core.robot import Robot, load_robot
from tests.golden.robots import robot_of_card

GOLDEN = Path(__file__).parent
VERSIONS = range(OLDEST_CARD_VERSION, CARD_VERSION + 1)
TOLERANCE = 2e-6  # float32, other orders of summation in other versions of onnxruntime


def loaded(version: int):
    folder = GOLDEN / f"card_{version}"
    return load_bundle(folder / "bundle", load_trusted_keys(folder)), json.loads((folder / "io.json").read_text())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_golden_bundle_of_each_supported_card_version_loads_with_its_signature(version: int) -> None:
    bundle, recorded = loaded(version)
    folder = GOLDEN / f"card_{version}" / "bundle"
    assert json.loads((folder / "card.json").read_text())["card_version"] == version
    assert bundle.signed_by is not None and bundle.digest == recorded["digest"]
    if version == CARD_VERSION:
        assert Card.from_json(bundle.card.to_json()) == bundle.card


@pytest.mark.parametrize("version", VERSIONS)
def test_the_golden_bundle_gives_the_recorded_commands_and_scores(version: int) -> None:
    bundle, recorded = loaded(version)
    models = model_inputs(bundle)
    policy = Runtime(*models["policy.onnx"], TensorSpec("command", (2,)))
    monitor = Runtime(*models["monitor.onnx"], TensorSpec("scores", (2,)))
    assert len(recorded["inputs"]) == 16
    for row, command, scores in zip(recorded["inputs"], recorded["commands"], recorded["scores"], strict=True):
        values = {name: np.array(value, np.float32) for name, value in row.items()}
        found = policy.run(values)
        np.testing.assert_allclose(found, command, atol=TOLERANCE, rtol=TOLERANCE)
        judged = {**values, "command": np.array(command, np.float32)}
        np.testing.assert_allclose(monitor.run(judged), scores, rtol=1e-4)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_golden_bundle_drives_on_the_robot_of_its_card(version: int) -> None:
    bundle, _ = loaded(version)
    robot: Robot = robot_of_card(load_robot("jackal"), bundle.card)
    assert DeployedPolicy(bundle, robot).card == bundle.card == DeployedMonitor(bundle, robot).card
