"""The policy's ONNX graph: torch's function in few operators, in the precision that was asked for."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from dsac_robot.apps import bundling
from dsac_robot.bundle.card import Recorded
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.onnx_check import check_model
from dsac_robot.bundle.precision import to_int8, wide_layers
from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import LAYOUTS, ObservationBuilder, ObservationLayout, TermSpec
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Floats32
from dsac_robot.learn.export import IR_VERSION, OPSET, DeployedActor, parity, split_terms
from dsac_robot.learn.networks import Actor, Features
from dsac_robot.learn.policy_graph import policy_onnx

Specs = tuple[TermSpec, ...]


def rows(specs: Specs, count: int, seed: int = 0) -> Floats32:
    """Raw SI, goals and twists of both signs. # (N, D)"""
    rng = np.random.default_rng(seed)
    size = sum(int(np.prod(spec.shape)) for spec in specs)
    values = rng.uniform(-2.0, 2.0, (count, size))
    scans = int(np.prod(specs[0].shape))  # the scan comes first in every task
    values[:, :scans] = rng.uniform(0.0, 10.0, (count, scans))
    return values.astype(np.float32)


def actor_of(specs: Specs, robot: Robot, hidden: tuple[int, ...] = (64, 64)) -> Actor:
    torch.manual_seed(3)
    return Actor(Features(specs, ActionMap.of(robot.limits)), 2, hidden)


@pytest.mark.parametrize("task", list(LAYOUTS))
@pytest.mark.parametrize("forward_only", [False, True])
def test_the_graph_computes_what_torch_does_for_every_task(robot: Robot, task: str, forward_only: bool) -> None:
    specs = ObservationBuilder(robot, LAYOUTS[task]).specs
    deployed = DeployedActor(actor_of(specs, robot), ActionMap.of(robot.limits), forward_only)
    values = rows(specs, 100)
    values[0] = 0.0  # at the goal, everything touching
    assert parity(deployed, policy_onnx(deployed, specs), specs, values) < 2e-6


@pytest.mark.parametrize("terms", [("twist",), ("goal_in_base",), ("scan_sectors",), ("last_command", "goal_in_base")])
def test_the_graph_takes_any_choice_and_order_of_terms(robot: Robot, terms: tuple[str, ...]) -> None:
    specs = ObservationBuilder(robot, ObservationLayout(terms=terms)).specs
    deployed = DeployedActor(actor_of(specs, robot), ActionMap.of(robot.limits))
    size = sum(int(np.prod(spec.shape)) for spec in specs)
    values = np.random.default_rng(0).uniform(0.1, 2.0, (20, size)).astype(np.float32)
    assert parity(deployed, policy_onnx(deployed, specs), specs, values) < 2e-6


def test_the_goal_far_and_near_is_as_exact_as_torch(robot: Robot, specs: Specs) -> None:
    deployed = DeployedActor(actor_of(specs, robot), ActionMap.of(robot.limits))
    values = rows(specs, 40)
    values[:, 108:110] = np.outer(np.geomspace(1e-4, 1e3, 40), [0.6, -0.8])
    assert parity(deployed, policy_onnx(deployed, specs), specs, values) < 5e-6


def test_opset_and_ir_version_are_pinned_and_operators_are_few(robot: Robot, specs: Specs) -> None:
    actor = actor_of(specs, robot, (64, 64, 64))
    model = onnx.load_from_string(policy_onnx(DeployedActor(actor, ActionMap.of(robot.limits)), specs))
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (IR_VERSION, [("", OPSET)])
    gelus = 3 * 5  # runtimes fuse the five operators of each into one
    assert len(model.graph.node) - gelus <= 15


def test_fp16_is_in_the_types_of_the_onnx_and_keeps_inputs_and_output_float32(robot: Robot, specs: Specs) -> None:
    deployed = DeployedActor(actor_of(specs, robot), ActionMap.of(robot.limits))
    model = policy_onnx(deployed, specs, "fp16")
    proto = onnx.load_from_string(model)
    shapes = {tensor.name: tensor for tensor in proto.graph.initializer}
    wide = [shapes[n.input[1]] for n in proto.graph.node if n.op_type == "Gemm" and max(shapes[n.input[1]].dims) >= 64]
    assert len(wide) == 3 and {tensor.data_type for tensor in wide} == {onnx.TensorProto.FLOAT16}
    assert {item.type.tensor_type.elem_type for item in (*proto.graph.input, *proto.graph.output)} == {1}
    assert 1e-6 < parity(deployed, model, specs, rows(specs, 100)) < 5e-3
    check_model(model, "policy.onnx")


def test_weights_beyond_float16_are_refused(robot: Robot, specs: Specs) -> None:
    actor = actor_of(specs, robot)
    with torch.no_grad():
        actor.net[0].weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="more than float16 holds"):
        policy_onnx(DeployedActor(actor, ActionMap.of(robot.limits)), specs, "fp16")


def test_int8_quantises_the_wide_layers_within_the_standard_domain(robot: Robot, specs: Specs) -> None:
    deployed = DeployedActor(actor_of(specs, robot), ActionMap.of(robot.limits))
    plain, visited = policy_onnx(deployed, specs), rows(specs, 200)
    model = to_int8(plain, split_terms(specs, visited))
    proto = onnx.load_from_string(model)
    operators = Counter(node.op_type for node in proto.graph.node)
    assert operators["QuantizeLinear"] > 0 and operators["DequantizeLinear"] > 0
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)] and proto.ir_version == IR_VERSION
    check_model(model, "policy.onnx")
    assert len(wide_layers(onnx.load_from_string(plain))) == 2
    assert len(model) < 0.5 * len(plain)
    assert 1e-5 < parity(deployed, model, specs, rows(specs, 50, seed=1)) < 0.2


def test_int8_without_states_to_calibrate_on_is_refused(robot: Robot, specs: Specs) -> None:
    plain = policy_onnx(DeployedActor(actor_of(specs, robot), ActionMap.of(robot.limits)), specs)
    with pytest.raises(BundleError, match="at least 16 visited states to calibrate on, got 3"):
        to_int8(plain, split_terms(specs, rows(specs, 3)))


def test_a_precision_that_changes_the_commands_too_much_is_refused(robot: Robot, specs: Specs) -> None:
    actor = actor_of(specs, robot)
    with torch.no_grad():
        for layer in (0, 2):
            actor.net[layer].weight *= 30.0  # rounding becomes a difference of what is commanded
    trained = bundling.Trained("test", actor, robot, ObservationLayout(), Recorded())
    values = rows(specs, 200)
    commands = np.zeros((200, 2), np.float32)
    bundling.fitted_models(trained, values, commands)
    with pytest.raises(ParameterError, match=r"differ \(fp16\): command_max_abs = .*the limit is 0\.05"):
        bundling.fitted_models(trained, values, commands, "fp16")
