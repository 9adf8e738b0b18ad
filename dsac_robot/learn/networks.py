"""Networks: a Gaussian tanh actor and value distributions, both behind one fixed map from raw SI to features."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import TermSpec

LOG_STD_MIN, LOG_STD_MAX = -20.0, 0.5  # DSAC-T, reference hyper-parameters


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Fully connected network with GELU between layers and a linear output."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.GELU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class Features(nn.Module):
    """Raw SI terms, flattened in order, to well-scaled features. Has no parameters; it is exported with the policy.

    Ranges enter as log(r + 0.1): 10 cm matter near the robot and not far from it. The goal enters as direction and
    log(1 + distance). Twists are divided by the command limits. Terms without a rule pass unchanged.
    """

    def __init__(self, specs: tuple[TermSpec, ...], actions: ActionMap) -> None:
        super().__init__()
        self.specs = specs
        self.register_buffer("scale", torch.tensor(actions.high, dtype=torch.float32))
        self.inputs = sum(math.prod(spec.shape) for spec in specs)
        self.outputs = sum(3 if spec.name == "goal_in_base" else math.prod(spec.shape) for spec in specs)

    def forward(self, observation: Tensor) -> Tensor:  # (B, D) -> (B, F)
        parts, start = [], 0
        for spec in self.specs:
            size = math.prod(spec.shape)
            term = observation[:, start : start + size]
            start += size
            if spec.name == "scan_sectors":
                term = torch.log(term + 0.1)
            elif spec.name == "goal_in_base":
                distance = torch.sqrt((term * term).sum(dim=1, keepdim=True) + 1e-6)
                term = torch.cat([term / distance, torch.log1p(distance)], dim=1)
            elif spec.name in ("twist", "last_command"):
                term = term / self.scale
            parts.append(term)
        return torch.cat(parts, dim=1)


class Actor(nn.Module):
    """Tanh-squashed Gaussian policy over normalised actions."""

    def __init__(self, features: Features, action_dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.features = features
        self.net = mlp(features.outputs, hidden, 2 * action_dim)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before squashing. # (B, D) -> (B, A), (B, A)"""
        mean, log_std = self.net(self.features(observation)).chunk(2, dim=1)
        return mean, torch.clamp(log_std, LOG_STD_MIN, LOG_STD_MAX)

    def sample(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Action in [-1, 1] and log pi of it, reparameterised. # (B, D) -> (B, A), (B,)"""
        mean, log_std = self(observation)
        return self.squash(mean, log_std, torch.randn_like(mean))

    @staticmethod
    def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The action that normal ``noise`` gives, and log pi of it. # (B, A), (B, A), (B, A) -> (B, A), (B,)"""
        raw = mean + log_std.exp() * noise
        log_prob = (-0.5 * noise * noise - log_std - 0.5 * math.log(2.0 * math.pi)).sum(dim=1)
        # log det of tanh: 2 (log 2 - x - softplus(-2 x)), stable for large |x|
        log_prob = log_prob - (2.0 * (math.log(2.0) - raw - nn.functional.softplus(-2.0 * raw))).sum(dim=1)
        return torch.tanh(raw), log_prob

    def mode(self, observation: Tensor) -> Tensor:
        """The policy without noise. # (B, D) -> (B, A)"""
        return torch.tanh(self(observation)[0])


class TwinCritics(nn.Module):
    """Independent Gaussian value distributions Z_i ~ N(Q_i, sigma_i^2), computed together as batched layers.

    There are two; ``count`` 1 is for the ablation without twins.
    """

    def __init__(self, features: Features, action_dim: int, hidden: tuple[int, ...], count: int = 2) -> None:
        super().__init__()
        self.features, self.count = features, count
        sizes = (features.outputs + action_dim, *hidden, 2)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            bound = 1.0 / math.sqrt(fan_in)  # nn.Linear's own initialisation
            self.weights.append(nn.Parameter(torch.empty(count, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(count, 1, fan_out).uniform_(-bound, bound)))

    def forward(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each distribution. # (B, D), (B, A) -> (count, B), (count, B)"""
        hidden = torch.cat([self.features(observation), action], dim=1).expand(self.count, -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = nn.functional.gelu(torch.baddbmm(bias, hidden, weight))
        out = torch.baddbmm(self.biases[-1], hidden, self.weights[-1])  # (count, B, 2)
        return out[..., 0], nn.functional.softplus(out[..., 1])
