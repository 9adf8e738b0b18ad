"""DSAC-T on a page: Distributional Soft Actor-Critic with Three Refinements (Duan et al., 2023, arXiv:2310.05858).

Twin Gaussian value distributions Z_i ~ N(Q_i, sigma_i^2), a target copy of each critic and of the actor. The three
refinements: expected value substitution (the mean is pulled to y_q, which has no sampling noise), twin value
distribution learning (targets come from the critic with the lower mean), variance-based gradient adjustment (the
clipping bound b and the gradient scale omega follow sigma, so that reward scale does not matter).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsac_robot.core.params import param
from dsac_robot.learn.networks import Actor, Features, TwinCritics

EPSILON = 0.1  # the paper's epsilon and epsilon_omega


@dataclass(frozen=True)
class DsacTConfig:
    """Hyper-parameters; the defaults are the paper's."""

    hidden: tuple[int, ...] = param((256, 256, 256), unit="", low=1, high=8192, help="widths of the hidden layers")
    critic_lr: float = param(1e-4, unit="", low=1e-7, high=1.0, help="learning rate of the critics")
    actor_lr: float = param(1e-4, unit="", low=1e-7, high=1.0, help="learning rate of the actor")
    alpha_lr: float = param(3e-4, unit="", low=1e-7, high=1.0, help="learning rate of the temperature")
    gamma: float = param(0.99, unit="1/step", low=0.0, high=1.0, help="discount")
    tau: float = param(0.005, unit="1/update", low=0.0, high=1.0, help="rate of target networks and moving averages")
    policy_delay: int = param(2, unit="updates", low=1, high=100, help="actor, alpha and targets step every so many")
    log_alpha_init: float = param(1.0, unit="", low=-20.0, high=20.0, help="log of the first temperature")
    n_step: int = param(1, unit="steps", low=1, high=100, help="rewards summed before the value takes over")
    expected_value: bool = param(True, unit="", help="refinement 1: the mean follows y_q; off: the sampled y_z")
    twin: bool = param(True, unit="", help="refinement 2: two distributions, the lower one counts; off: one")
    variance_adjusted: bool = param(True, unit="", help="refinement 3: clipping and scale follow sigma; off: constants")
    clip_bound: float = param(10.0, unit="", low=1e-6, high=1e9, help="bound of y_z - Q where refinement 3 is off")
    engine: str = param("fast", unit="", choices=("fast", "plain"), help="plain: autograd; fast: the same by hand")
    precision: str = param("fp32", unit="", choices=("fp32", "bf16"), help="of the fast engine's matrix products")


@dataclass(frozen=True)
class Batch:
    """Transitions over n steps; ``done`` is 1 where the episode terminated within them (a truncation bootstraps)."""

    observation: Tensor  # (B, D)
    action: Tensor  # (B, A)
    reward: Tensor  # (B,) sum of gamma^k r_k over the n steps
    next_observation: Tensor  # (B, D) after the n steps
    done: Tensor  # (B,)
    steps: Tensor  # (B,) n, fewer where the episode ended before


class DsacT:
    """The learner's networks, optimisers and moving averages, and one update."""

    def __init__(self, features: Features, action_dim: int, config: DsacTConfig) -> None:
        self.config = config
        self.critics = TwinCritics(features, action_dim, config.hidden, 2 if config.twin else 1)
        self.actor = Actor(features, action_dim, config.hidden)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.log_alpha = torch.tensor(config.log_alpha_init, requires_grad=True)
        self.target_entropy = -float(action_dim)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), config.critic_lr, fused=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.net.parameters(), config.actor_lr, fused=True)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], config.alpha_lr, fused=True)
        self.sigma_mean = torch.zeros(self.critics.count)  # moving average of E[sigma_i]; b_i is 3 times it
        self.sigma_square = torch.zeros(self.critics.count)  # moving average of E[sigma_i^2] = omega_i
        self.updates = 0

    # --- the equations -------------------------------------------------------------------------------------------

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """y_q and y_z. # (B,), (B,)"""
        with torch.no_grad():
            action, log_prob = self.target_actor.sample(batch.next_observation)  # a' ~ target policy(s')
            q, sigma = self.target_critics(batch.next_observation, action)
            return self.bellman(batch, log_prob, q, sigma)

    def bellman(self, batch: Batch, log_prob: Tensor, q: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """y_q = r + gamma^n (1 - d) (min Q - alpha log pi'), and y_z with Z' ~ N(Q, sigma^2) of the critic with the
        lower mean, sample by sample, its noise within 3 sigma. # (B,), (2, B), (2, B) -> (B,), (B,)"""
        lower = q.argmin(dim=0, keepdim=True)
        q_min, sigma_min = q.gather(0, lower)[0], sigma.gather(0, lower)[0]
        z = q_min + sigma_min * torch.randn_like(q_min).clamp(-3.0, 3.0)
        entropy = self.log_alpha.detach().exp() * log_prob
        discount = self.config.gamma**batch.steps * (1.0 - batch.done)
        return batch.reward + discount * (q_min - entropy), batch.reward + discount * (z - entropy)

    @torch.no_grad()
    def critic_gradient(self, q: Tensor, sigma: Tensor, y_q: Tensor, y_z: Tensor) -> tuple[Tensor, Tensor]:
        """dJ/dQ_i and dJ/dsigma_i of each sample. # (2, B), (2, B), (B,), (B,) -> (2, B), (2, B)

        dJ/dQ_i = -(omega_i + e) (y_q - Q_i) / (sigma_i^2 + e) / B
        dJ/dsigma_i = -(omega_i + e) ((Q_i - y_i)^2 - sigma_i^2) / (sigma_i^3 + e) / B,
        y_i = Q_i + clip(y_z - Q_i, -b_i, b_i), b_i = 3 E[sigma_i], omega_i = E[sigma_i^2], e = 0.1
        """
        if self.config.variance_adjusted:
            bound, scale = 3.0 * self.sigma_mean[:, None], (self.sigma_square + EPSILON)[:, None]
        else:
            bound, scale = torch.full((q.shape[0], 1), self.config.clip_bound), torch.ones(q.shape[0], 1)
        mean_target = y_q if self.config.expected_value else y_z
        error = (y_z - q).clamp(-bound, bound)
        d_q = -scale * (mean_target - q) / (sigma**2 + EPSILON) / q.shape[1]
        d_sigma = -scale * (error**2 - sigma**2) / (sigma**3 + EPSILON) / q.shape[1]
        return d_q, d_sigma

    def critic_loss(self, q: Tensor, sigma: Tensor, y_q: Tensor, y_z: Tensor) -> Tensor:
        """A scalar whose gradient is ``critic_gradient``. # (2, B), (2, B), (B,), (B,) -> ()"""
        d_q, d_sigma = self.critic_gradient(q, sigma, y_q, y_z)
        return (d_q * q + d_sigma * sigma).sum()

    def average_sigma(self, sigma: Tensor) -> None:
        """Move E[sigma_i] and E[sigma_i^2] towards this batch's. # (2, B)"""
        mean, square = sigma.mean(dim=1), (sigma**2).mean(dim=1)
        rate = self.config.tau if self.updates else 1.0  # the first batch sets them
        self.sigma_mean += rate * (mean - self.sigma_mean)
        self.sigma_square += rate * (square - self.sigma_square)

    # --- one update ----------------------------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step on the critics and, every ``policy_delay`` updates, on actor, temperature and targets."""
        y_q, y_z = self.targets(batch)
        metrics = self._update_critics(batch, y_q, y_z)
        self.updates += 1
        if self.updates % self.config.policy_delay == 0:
            metrics |= self._update_actor(batch)
            self._update_targets()
        return metrics

    def _update_critics(self, batch: Batch, y_q: Tensor, y_z: Tensor) -> dict[str, Tensor]:
        q, sigma = self.critics(batch.observation, batch.action)
        self.average_sigma(sigma.detach())
        loss = self.critic_loss(q, sigma, y_q, y_z)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return {"q": q.detach().mean(), "sigma": sigma.detach().mean(), "y_q": y_q.mean()}

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        self.critics.requires_grad_(False)
        action, log_prob = self.actor.sample(batch.observation)
        q, _ = self.critics(batch.observation, action)
        alpha = self.log_alpha.detach().exp()
        loss = (alpha * log_prob - q.min(dim=0).values).mean()
        self.actor_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.actor_optimizer.step()
        self.critics.requires_grad_(True)
        return self._update_alpha(log_prob.detach()) | {"actor_loss": loss.detach()}

    def _update_alpha(self, log_prob: Tensor) -> dict[str, Tensor]:
        entropy, alpha = -log_prob.mean(), self.log_alpha.detach().exp()
        self.log_alpha.grad = entropy - self.target_entropy  # of log_alpha (entropy - target)
        self.alpha_optimizer.step()
        return {"entropy": entropy, "alpha": alpha}

    @torch.no_grad()
    def _update_targets(self) -> None:
        for target, source in ((self.target_critics, self.critics), (self.target_actor, self.actor)):
            torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), self.config.tau)

    def state_dict(self) -> dict[str, Any]:
        """All state that affects the next update, the moving averages and optimisers included."""
        return {
            "critics": self.critics.state_dict(),
            "actor": self.actor.state_dict(),
            "target_critics": self.target_critics.state_dict(),
            "target_actor": self.target_actor.state_dict(),
            "log_alpha": self.log_alpha.detach().clone(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "sigma_mean": self.sigma_mean.clone(),
            "sigma_square": self.sigma_square.clone(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave; the next update is then the one that would have followed."""
        for name in ("critics", "actor", "target_critics", "target_actor"):
            getattr(self, name).load_state_dict(state[name])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        for name in ("critic_optimizer", "actor_optimizer", "alpha_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.sigma_mean.copy_(state["sigma_mean"])
        self.sigma_square.copy_(state["sigma_square"])
        self.updates = int(state["updates"])
