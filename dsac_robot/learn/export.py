"""From torch to ONNX: raw SI terms in, SI command out. Normalisation, squashing and scaling are inside the model."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from dsac_robot.bundle.runtime import Runtime, TensorSpec
from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import TermSpec
from dsac_robot.core.values import Floats32
from dsac_robot.learn.networks import Actor

OPSET, IR_VERSION = 18, 8  # pinned: what TensorRT 10 and onnxruntime 1.17 read


class DeployedActor(nn.Module):
    """The actor's mode as a function of the named terms. # (B, *shape) each -> command (B, 2)"""

    def __init__(self, actor: Actor, actions: ActionMap, forward_only: bool = False) -> None:
        super().__init__()
        self.actor = actor
        self.register_buffer("low", torch.tensor(actions.low, dtype=torch.float32))
        self.register_buffer("span", torch.tensor(actions.high, dtype=torch.float32) - self.low)
        least = (0.0, actions.low[1]) if forward_only else actions.low
        self.register_buffer("least", torch.tensor(least, dtype=torch.float32))

    def forward(self, *terms: Tensor) -> Tensor:
        """Command in SI."""
        flat = torch.cat([term.flatten(1) for term in terms], dim=1)
        return torch.maximum(self.low + 0.5 * (self.actor.mode(flat) + 1.0) * self.span, self.least)


class DensityMonitor(nn.Module):
    """How far (observation, command) is from those of ordinary drives: two Mahalanobis distances.

    ``sensing``: of the input features (range profile with its recent past, goal, twist); a sensor that lies breaks
    the correlations between sectors and frames. ``behaviour``: of the actor's last hidden layer and the command.
    Each is the root of the mean square of the whitened vector, so that about 1 is ordinary.
    """

    def __init__(self, actor: Actor, actions: ActionMap) -> None:
        super().__init__()
        self.actor = actor
        self.register_buffer("low", torch.tensor(actions.low, dtype=torch.float32))
        self.register_buffer("span", torch.tensor(actions.high, dtype=torch.float32) - self.low)
        self.mean = nn.ParameterList()
        self.whiten = nn.ParameterList()

    def vectors(self, observation: Tensor, command: Tensor) -> tuple[Tensor, Tensor]:
        """The two vectors whose density is judged. # (B, D), (B, 2) -> (B, F), (B, H + 2)"""
        features = self.actor.features(observation)
        hidden = self.actor.net[:-1](features)
        action = 2.0 * (command - self.low) / self.span - 1.0
        return torch.cat([features, action], dim=1), torch.cat([hidden, action], dim=1)

    def fit(self, observations: Floats32, commands: Floats32, ridge: float = 1e-3) -> None:
        """Estimate both densities from ordinary drives. # (N, D), (N, 2)"""
        self.mean, self.whiten = nn.ParameterList(), nn.ParameterList()
        with torch.no_grad():
            for vector in self.vectors(torch.from_numpy(observations), torch.from_numpy(commands)):
                values = vector.double()
                mean = values.mean(dim=0)
                centred = values - mean
                covariance = centred.T @ centred / len(values)
                eigenvalues, basis = torch.linalg.eigh(covariance)
                floor = ridge * eigenvalues.mean()
                self.mean.append(nn.Parameter(mean.float(), requires_grad=False))
                white = basis / torch.sqrt(eigenvalues.clamp_min(0.0) + floor)
                self.whiten.append(nn.Parameter(white.float(), requires_grad=False))

    def scores(self, observation: Tensor, command: Tensor) -> Tensor:
        """Both distances. # (B, D), (B, 2) -> (B, 2)"""
        parts = []
        for vector, mean, whiten in zip(self.vectors(observation, command), self.mean, self.whiten, strict=True):
            white = (vector - mean) @ whiten
            parts.append(torch.sqrt((white * white).mean(dim=1, keepdim=True)))
        return torch.cat(parts, dim=1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The named terms and the command, in order. # -> (B, 2)"""
        *terms, command = inputs
        return self.scores(torch.cat([term.flatten(1) for term in terms], dim=1), command)


MONITOR_SCORES = ("sensing", "behaviour")


def to_onnx(module: nn.Module, specs: Sequence[TermSpec], output: str, with_command: bool) -> bytes:
    """The module as ONNX bytes: inputs named as the terms (and ``command``), batch dimension ``batch``."""
    module = module.eval()
    shapes = [(spec.name, spec.shape) for spec in specs] + ([("command", (2,))] if with_command else [])
    names = [name for name, _ in shapes]
    example = tuple(torch.ones(2, *shape) for _, shape in shapes)
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        example,
        buffer,
        input_names=names,
        output_names=[output],
        opset_version=OPSET,
        dynamic_axes={name: {0: "batch"} for name in (*names, output)},
        dynamo=False,
        do_constant_folding=True,
    )
    model = onnx.load_from_string(buffer.getvalue())
    model.ir_version = IR_VERSION
    for node in model.graph.node:  # traces of where the code lay
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def split_terms(specs: Sequence[TermSpec], observations: Floats32) -> dict[str, Floats32]:
    """Flat observations as named terms. # (N, D) -> (N, *shape) each"""
    terms, start = {}, 0
    for spec in specs:
        size = math.prod(spec.shape)
        terms[spec.name] = np.ascontiguousarray(observations[:, start : start + size]).reshape(-1, *spec.shape)
        start += size
    return terms


def runtime_of(
    model: bytes, specs: Sequence[TermSpec], output: str, shape: tuple[int, ...], with_command: bool
) -> Runtime:
    """The runtime that the robot uses, for one of the models here. Raises BundleError where they do not fit."""
    inputs = [TensorSpec(spec.name, spec.shape) for spec in specs]
    inputs += [TensorSpec("command", (2,))] if with_command else []
    return Runtime(model, inputs, TensorSpec(output, shape), f"{output} model")


def parity(
    module: nn.Module, model: bytes, specs: Sequence[TermSpec], observations: Floats32, commands: Floats32 | None = None
) -> float:
    """Largest difference between torch and the runtime that the robot uses, over the given rows. # (N, D), (N, 2)

    Raises BundleError for a model whose inputs or output are not those of a bundle.
    """
    arrays = split_terms(specs, observations) | ({} if commands is None else {"command": commands})
    with torch.no_grad():
        expected: Floats32 = module(*(torch.from_numpy(array) for array in arrays.values())).numpy()
    output = "command" if commands is None else "scores"
    runtime = runtime_of(model, specs, output, expected.shape[1:], commands is not None)
    rows = ({name: array[i] for name, array in arrays.items()} for i in range(len(observations)))
    return max(float(np.abs(runtime.run(row) - wanted).max()) for row, wanted in zip(rows, expected, strict=True))
