"""The deployed policy as an ONNX graph of as few operators as it takes.

At batch 1 what an operator costs is the call, not the arithmetic: what torch traces of the same function takes one and
a half times as long. Hence constants are folded into the layers beside them: the scales of terms into the first layer,
the map to SI into one affine layer after the squashing. The half of the last layer that gives the standard deviation is
left out. One logarithm serves the ranges and the goal: with n = (x, y, f) / d and d = |(x, y, f)|, f the floor of the
distance, log(1 + d) = log(n_3 + f) - log(n_3), and the direction is n's first two.

The function is ``DeployedActor``'s but for rounding, which the parity gate measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from dsac_robot.core.observation import TermSpec
from dsac_robot.learn.export import IR_VERSION, OPSET, DeployedActor

RANGE_OFFSET_M = 0.1  # of networks.Features: log(range + 0.1)
DISTANCE_FLOOR_M = 1e-3  # of networks.Features: sqrt(x^2 + y^2 + 1e-6)
HALF_MAX = 65504.0

Array = npt.NDArray[np.float64]


def policy_onnx(deployed: DeployedActor, specs: Sequence[TermSpec], precision: str = "fp32") -> bytes:
    """The policy as ONNX bytes: inputs named as the terms, output ``command``, batch dimension ``batch``.

    ``precision`` "fp16" keeps the features, the squashing and the map to SI in float32 and computes the layers between
    them in float16; inputs and output are float32 always. Raises ValueError for another precision, and for weights that
    float16 cannot hold.
    """
    if precision not in ("fp32", "fp16"):
        raise ValueError(f"precision {precision!r} is not one of fp32, fp16")
    graph = _Graph(np.float16 if precision == "fp16" else np.float32)
    layers = [layer for layer in deployed.actor.net if hasattr(layer, "weight")]
    features, weight = _features(graph, specs, _array(layers[0].weight), _array(deployed.actor.features.scale))
    hidden = graph.to_hidden(features)
    for layer in layers[:-1]:
        hidden = graph.gelu(graph.gemm(hidden, weight, _array(layer.bias), graph.hidden))
        weight = _array(layers[layers.index(layer) + 1].weight)
    actions = len(deployed.low)
    mean = graph.gemm(hidden, weight[:actions], _array(layers[-1].bias)[:actions], graph.hidden)
    squashed = graph.add("Tanh", graph.from_hidden(mean))
    low, half = _array(deployed.low), 0.5 * _array(deployed.span)
    command = graph.gemm(squashed, np.diag(half), low + half, np.float32)
    if not np.array_equal(_array(deployed.least), low):
        command = graph.add("Max", command, graph.constant(_array(deployed.least), np.float32))
    graph.nodes[-1].output[0] = "command"
    return graph.model(specs, actions)


@dataclass
class _Graph:
    """Nodes and constants so far; ``hidden`` is the type of the layers."""

    hidden: type[np.float16] | type[np.float32]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, **attributes: int) -> str:
        """One node; the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value: npt.ArrayLike, kind: type[np.float16] | type[np.float32]) -> str:
        """An initializer; its name."""
        array = np.asarray(value)
        if kind is np.float16 and np.abs(array).max(initial=0.0) > HALF_MAX:
            raise ValueError(f"a weight of {np.abs(array).max():g} is more than float16 holds ({HALF_MAX:g})")
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, kind), name))
        return name

    def gemm(self, values: str, weight: Array, bias: Array, kind: type[np.float16] | type[np.float32]) -> str:
        """``values`` @ weight.T + bias. # (B, I), (O, I), (O,) -> (B, O)"""
        return self.add("Gemm", values, self.constant(weight, kind), self.constant(bias, kind), transB=1)

    def gelu(self, values: str) -> str:
        """The exact GELU, as operators that every runtime has and fuses."""
        erf = self.add("Erf", self.add("Div", values, self.constant(math.sqrt(2.0), self.hidden)))
        whole = self.add("Mul", values, self.add("Add", erf, self.constant(1.0, self.hidden)))
        return self.add("Mul", whole, self.constant(0.5, self.hidden))

    def to_hidden(self, values: str) -> str:
        """In the type of the layers."""
        return values if self.hidden is np.float32 else self.add("Cast", values, to=TensorProto.FLOAT16)

    def from_hidden(self, values: str) -> str:
        """In float32."""
        return values if self.hidden is np.float32 else self.add("Cast", values, to=TensorProto.FLOAT)

    def model(self, specs: Sequence[TermSpec], actions: int) -> bytes:
        """The whole as ONNX bytes, checked."""
        inputs = [helper.make_tensor_value_info(s.name, TensorProto.FLOAT, ["batch", *s.shape]) for s in specs]
        outputs = [helper.make_tensor_value_info("command", TensorProto.FLOAT, ["batch", actions])]
        graph = helper.make_graph(self.nodes, "policy", inputs, outputs, self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="dsac_robot")
        made.ir_version = IR_VERSION
        onnx.checker.check_model(made, full_check=True)
        return bytes(made.SerializeToString(deterministic=True))


def _features(graph: _Graph, specs: Sequence[TermSpec], weight: Array, scale: Array) -> tuple[str, Array]:
    """The input of the first layer, and that layer's weight for it: columns are reordered and scaled to fit."""
    logs: list[tuple[str, Array, Array]] = []  # what to take the logarithm of, an offset, columns of the weight
    plain: list[tuple[str, Array]] = []
    start = 0
    for spec in specs:
        size = math.prod(spec.shape) + (spec.name == "goal_in_base")  # direction and distance: one more
        columns = weight[:, start : start + size]
        start += size
        flat = spec.name if len(spec.shape) == 1 else graph.add("Flatten", spec.name, axis=1)
        if spec.name == "scan_sectors":
            logs.append((flat, np.full(size, RANGE_OFFSET_M), columns))
        elif spec.name == "goal_in_base":
            unit = graph.gemm(flat, np.eye(3, 2), np.array([0.0, 0.0, DISTANCE_FLOOR_M]), np.float32)
            unit = graph.add("LpNormalization", unit, axis=1, p=2)
            third = np.array([[0.0, 0.0, 1.0]] * 2)
            twice = graph.gemm(unit, third, np.array([DISTANCE_FLOOR_M, 0.0]), np.float32)
            logs.append((twice, np.zeros(2), columns[:, 2:] * np.array([1.0, -1.0])))
            plain.append((unit, np.pad(columns[:, :2], ((0, 0), (0, 1)))))
        else:
            plain.append((flat, columns / scale if spec.name in ("twist", "last_command") else columns))
    parts = [name for name, _ in plain]
    if logs:
        joined = graph.add("Concat", *(name for name, _, _ in logs), axis=1) if len(logs) > 1 else logs[0][0]
        offset = graph.constant(np.concatenate([offset for _, offset, _ in logs]), np.float32)
        parts.insert(0, graph.add("Log", graph.add("Add", joined, offset)))
    whole = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    return whole, np.concatenate([columns for *_, columns in (*logs, *plain)], axis=1)


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().cpu().numpy(), np.float64)
