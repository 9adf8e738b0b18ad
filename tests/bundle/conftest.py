"""A small real bundle: an MLP-like policy and a monitor in ONNX, written and signed by the code that ships."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

from dsac_robot.bundle.card import Card, Recorded
from dsac_robot.bundle.keys import generate_key, public_of
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, TermSpec
from dsac_robot.core.ood import MonitorSpec, ScoreSpec
from dsac_robot.core.robot import Robot, load_robot

IR_VERSION, OPSET = 10, 17
SPEC = MonitorSpec((ScoreSpec("distance", 50.0, 100.0), ScoreSpec("spread", 40.0, 80.0)), raise_after=2, clear_after=3)


def model_bytes(graph: onnx.GraphProto, opsets: tuple[tuple[str, int], ...] = (("", OPSET),)) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets])
    model.ir_version = IR_VERSION
    return model.SerializeToString()


def dense_graph(
    terms: tuple[TermSpec, ...], output: str, weights: np.ndarray, low: list, high: list
) -> onnx.GraphProto:
    """Flatten and join the terms, multiply by weights (D, A), clip to [low, high]."""
    inputs = [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, ["batch", *t.shape]) for t in terms]
    nodes = [helper.make_node("Flatten", [t.name], [f"{t.name}_flat"], axis=1) for t in terms]
    nodes += [
        helper.make_node("Concat", [f"{t.name}_flat" for t in terms], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "weights"], ["raw"]),
        helper.make_node("Max", ["raw", "low"], ["floored"]),
        helper.make_node("Min", ["floored", "high"], [output]),
    ]
    constants = {"weights": weights, "low": np.array(low), "high": np.array(high)}
    initializers = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", weights.shape[1]])]
    return helper.make_graph(nodes, "dense", inputs, outputs, initializers)


def policy_bytes(terms: tuple[TermSpec, ...], scale: float = 0.01) -> bytes:
    size = sum(int(np.prod(t.shape)) for t in terms)
    weights = scale * np.random.default_rng(1).normal(size=(size, 2))
    return model_bytes(dense_graph(terms, "command", weights, [-0.5, -2.0], [2.0, 2.0]))


def monitor_bytes(terms: tuple[TermSpec, ...]) -> bytes:
    """Score 0 is the sum of the goal's coordinates, score 1 the commanded speed times 100."""
    terms = (*terms, TermSpec("command", (2,), "m/s, rad/s"))
    sizes = [int(np.prod(t.shape)) for t in terms]
    weights = np.zeros((sum(sizes), 2))
    start = sum(sizes[: [t.name for t in terms].index("goal_in_base")])
    weights[start : start + 2, 0] = 1.0
    weights[-2, 1] = 100.0
    return model_bytes(dense_graph(terms, "scores", weights, [-1e9, -1e9], [1e9, 1e9]))


@pytest.fixture(scope="session")
def robot() -> Robot:
    return load_robot("jackal")


@pytest.fixture(scope="session")
def layout() -> ObservationLayout:
    return ObservationLayout()


@pytest.fixture(scope="session")
def card(robot: Robot, layout: ObservationLayout) -> Card:
    recorded = Recorded(
        guard={"margin_m": 0.03, "blank_is_fault": True},
        recipe={"updates": 1000, "sizes": [256, 256]},
        recipe_digest="ab" * 32,
        seeds=(0, 1),
        data={"episodes": "cd" * 32},
        git_revision="0123abc",
        scores={"score_mean": 0.1 + 0.2},
        versions={"numpy": np.__version__},
        flags=("untuned",),
        parity={"onnxruntime": 1e-7},
    )
    return Card.of("test_navigate", "navigate", robot, layout, SPEC, recorded)


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    return generate_key()


@pytest.fixture(scope="session")
def models(robot: Robot, layout: ObservationLayout) -> tuple[bytes, bytes]:
    terms = ObservationBuilder(robot, layout).specs
    return policy_bytes(terms), monitor_bytes(terms)


@pytest.fixture
def bundle_dir(tmp_path: Path, card: Card, models: tuple[bytes, bytes], key: Ed25519PrivateKey) -> Path:
    return write_bundle(tmp_path / "bundle", card, *models, key)


@pytest.fixture
def trusted(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "release.pub").write_text(public_of(key, "test release").to_line())
    return folder
