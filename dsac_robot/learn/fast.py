"""The fast learner: ``DsacT`` with forward and backward passes written out, in as few and as large steps as they allow.

Same equations, same order of random draws, same optimisers and state as the plain learner; a checkpoint of one loads
into the other. What differs: layers of all critics are one batched product each, features are computed once, gradients
go straight into fixed buffers instead of through autograd, the actor's gradient is taken only through the critic that
is the lower one of a sample, parameters of a network lie in one tensor that one kernel steps, small tensors are
(numbers, B), so that the batch is the inner loop, and with ``precision`` bf16 the products and activations are in
bfloat16 (parameters, losses, optimisers and moving averages stay fp32).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dsac_robot.learn.dsac_t import EPSILON, Batch, DsacT, DsacTConfig
from dsac_robot.learn.flat import Flat
from dsac_robot.learn.layers import Layers
from dsac_robot.learn.networks import LOG_STD_MAX, LOG_STD_MIN, Features

_LOG_CONSTANT = 0.5 * math.log(2.0 * math.pi) + 2.0 * math.log(2.0)  # of a normal density and of tanh's slope


def _critic_split(tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    half = len(tensors) // 2
    return tensors[:half], tensors[half:]


def _actor_split(tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    return [weight.t()[None] for weight in tensors[::2]], [bias[None, None] for bias in tensors[1::2]]


def _squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``Actor.squash``, and the standard deviation. # (A, B), (A, B), (A, B) -> (A, B), (B,), (A, B)"""
    std = log_std.exp()
    raw = torch.addcmul(mean, std, noise)
    # minus log of the density, and 2 (raw + softplus(-2 raw)) = 2 raw - 4 softplus(raw, beta=-2) of tanh's slope
    each = torch.add(log_std, nn.functional.softplus(raw, beta=-2.0), alpha=4.0)
    each.add_(raw, alpha=-2.0).addcmul_(noise, noise, value=0.5).add_(_LOG_CONSTANT)
    return torch.tanh(raw), each.sum(dim=0).neg_(), std


def _lowest(q: Tensor) -> tuple[Tensor, Tensor]:
    """``q.min(dim=0)``, quicker for two. # (N, B) -> (B,), (B,)"""
    if len(q) == 2:
        return torch.minimum(q[0], q[1]), (q[1] < q[0]).long()
    found = q.min(dim=0)
    return found.values, found.indices


class FastDsacT(DsacT):
    """``DsacT``, faster. Built for one batch size at a time: another one makes the buffers again."""

    def __init__(self, features: Features, action_dim: int, config: DsacTConfig) -> None:
        super().__init__(features, action_dim, config)
        self._batch = 0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """As ``DsacT.update``."""
        with torch.no_grad():
            if len(batch.reward) != self._batch:
                self._allocate(*batch.action.shape)
            return super().update(batch)

    def load_state_dict(self, state: dict[str, object]) -> None:
        """As ``DsacT.load_state_dict``."""
        super().load_state_dict(state)
        self._batch = 0  # the optimisers hold tensors of their own again, and copies in another precision are stale

    def _allocate(self, batch: int, action_dim: int) -> None:
        self._batch, half = batch, self.config.precision == "bf16"
        self._flat_q = Flat(self.critics.parameters(), self.critic_optimizer, half)
        self._flat_pi = Flat(self.actor.net.parameters(), self.actor_optimizer, half)
        self._flat_target_q = Flat(self.target_critics.parameters(), half=half)
        self._flat_target_pi = Flat(self.target_actor.net.parameters(), half=half)
        self._flat_alpha = Flat([self.log_alpha], self.alpha_optimizer)
        self._q = Layers(self._flat_q, _critic_split, batch, trained=True)
        self._pi = Layers(self._flat_pi, _actor_split, batch, trained=True)
        self._target_q = Layers(self._flat_target_q, _critic_split, batch, trained=False)
        self._target_pi = Layers(self._flat_target_pi, _actor_split, batch, trained=False)
        width = self.actor.features.outputs
        self._input = torch.empty(batch, width + action_dim)  # of the critics
        self._seen, self._done = self._input[:, :width], self._input[:, width:]
        self._d_q = torch.empty(self.critics.count, 2, batch)
        self._d_pi = torch.empty(1, 2 * action_dim, batch)

    def _noise(self) -> Tensor:
        """As the plain learner draws it, sample by sample. # (A, B)"""
        return torch.randn(self._done.shape).t().contiguous()

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As ``DsacT.targets``."""
        self._seen.copy_(self.actor.features(batch.next_observation))
        mean, log_std = self._target_pi.forward(self._seen)[0].chunk(2)
        action, log_prob, _ = _squash(mean, log_std.clamp_(LOG_STD_MIN, LOG_STD_MAX), self._noise())
        self._done.copy_(action.t())
        out = self._target_q.forward(self._input)
        q_min, lower = _lowest(out[:, 0])
        sigma = nn.functional.softplus(out[:, 1].gather(0, lower[None])[0])
        z = sigma.mul_(torch.randn(self._batch).clamp_(-3.0, 3.0))  # without its mean
        self._alpha = self.log_alpha.detach().exp()
        discount = torch.pow(self.config.gamma, batch.steps).mul_(1.0 - batch.done)
        y_q = torch.addcmul(batch.reward, discount, q_min.sub_(log_prob.mul_(self._alpha)))
        return y_q, torch.addcmul(y_q, discount, z)

    def _update_critics(self, batch: Batch, y_q: Tensor, y_z: Tensor) -> dict[str, Tensor]:
        self._seen.copy_(self.actor.features(batch.observation))
        self._done.copy_(batch.action)
        out = self._q.forward(self._input)
        q, sigma = out[:, 0], nn.functional.softplus(out[:, 1])
        square = sigma * sigma
        means = sigma.mean(dim=1)
        rate = self.config.tau if self.updates else 1.0  # the first batch sets them
        self.sigma_mean.lerp_(means, rate)
        self.sigma_square.lerp_(square.mean(dim=1), rate)
        self._critic_gradient(out, sigma, square, y_q, y_z)
        metrics = {"q": q.mean(), "sigma": means.mean(), "y_q": y_q.mean()}
        self._q.backward(self._d_q)
        self._flat_q.step()
        return metrics

    def _critic_gradient(self, out: Tensor, sigma: Tensor, square: Tensor, y_q: Tensor, y_z: Tensor) -> None:
        """As ``DsacT.critic_gradient``, by the networks' outputs, into ``_d_q``."""
        q = out[:, 0]
        if self.config.variance_adjusted:
            bound = 3.0 * self.sigma_mean[:, None]
            scale = ((self.sigma_square + EPSILON) / self._batch)[:, None]
            error = (y_z - q).clamp_(-bound, bound)
        else:
            scale = torch.tensor(1.0 / self._batch)
            error = (y_z - q).clamp_(-self.config.clip_bound, self.config.clip_bound)
        difference = q - (y_q if self.config.expected_value else y_z)
        torch.div(difference.mul_(scale), square + EPSILON, out=self._d_q[:, 0])
        slope = torch.sigmoid(out[:, 1]).mul_(scale)  # softplus' = sigmoid
        cube = (square * sigma).add_(EPSILON)
        torch.div(torch.addcmul(square, error, error, value=-1.0).mul_(slope), cube, out=self._d_q[:, 1])

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        mean, log_std = self._pi.forward(self._seen)[0].chunk(2)
        held, noise = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX), self._noise()
        action, log_prob, std = _squash(mean, held, noise)
        self._done.copy_(action.t())
        lowest, chosen = _lowest(self._q.forward(self._input)[:, 0])
        loss = lowest.addcmul(self._alpha, log_prob, value=-1.0).mean().neg_()
        # a = tanh(u), u = mean + std noise, d log pi / du = 2 a, d log pi / d log std = 2 a std noise - 1
        d_action = self._q.input_gradient(0, chosen, len(action)).t()
        weight = self._alpha / self._batch
        d_mean, d_log_std = self._d_pi[0].chunk(2)
        torch.mul(action, action, out=d_mean).sub_(1.0).mul_(d_action).div_(self._batch)
        d_mean.addcmul_(action, weight, value=2.0)
        torch.mul(std.mul_(noise), d_mean, out=d_log_std).sub_(weight).mul_(held == log_std)  # none beyond the bounds
        self._pi.backward(self._d_pi)
        self._flat_pi.step()
        return self._update_alpha(log_prob) | {"actor_loss": loss}

    def _update_alpha(self, log_prob: Tensor) -> dict[str, Tensor]:
        entropy = log_prob.mean().neg_()
        assert self.log_alpha.grad is not None
        torch.sub(entropy, self.target_entropy, out=self.log_alpha.grad)
        self._flat_alpha.step()
        return {"entropy": entropy, "alpha": self._alpha}

    def _update_targets(self) -> None:
        self._flat_target_q.follow(self._flat_q, self.config.tau)
        self._flat_target_pi.follow(self._flat_pi, self.config.tau)
