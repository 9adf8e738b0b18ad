"""The fast learner: ``DsacT`` with forward and backward passes written out, into buffers that are made once.

Same equations, same order of random draws, same optimisers and state as the plain learner; a checkpoint of one loads
into the other. What differs: layers of all critics are one batched product each, features are computed once, gradients
go straight into fixed buffers instead of through autograd, the actor's gradient is taken only through the critic that
is the lower one of a sample, and with ``precision`` bf16 the products and activations are in bfloat16 (parameters,
losses, optimisers and moving averages stay fp32).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dsac_robot.learn.dsac_t import Batch, DsacT, DsacTConfig
from dsac_robot.learn.networks import LOG_STD_MAX, LOG_STD_MIN, Actor, Features, TwinCritics

_gelu = torch.ops.aten.gelu.out
_gelu_backward = torch.ops.aten.gelu_backward.grad_input


class Layers:
    """N networks of one shape as batched matrix products into buffers that are used again at every call.

    ``weights`` are (N, in, out) views of the parameters, ``biases`` (N, 1, out). The last layer is few columns wide,
    which a product handles badly: it is computed transposed, and so outputs and their gradient are (N, out, B). With
    bf16 a copy of the parameters is kept in that type: call ``refresh`` whenever they have changed.
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], batch: int, precision: str) -> None:
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._fp32 = [*weights, *biases]
        copies = self._fp32 if precision == "fp32" else [tensor.to(self.dtype) for tensor in self._fp32]
        self._copies, self._w, self._b = copies, copies[: len(weights)], copies[len(weights) :]
        self.count = weights[0].shape[0]
        shapes = [(self.count, batch, w.shape[2]) for w in weights[:-1]]
        self._z = [torch.empty(shape, dtype=self.dtype) for shape in shapes]  # before the activation
        self._h = [torch.empty(shape, dtype=self.dtype) for shape in shapes]  # after it
        self._g = [torch.empty(shape, dtype=self.dtype) for shape in shapes]  # gradient of either
        self._dw = [torch.empty(w.shape, dtype=self.dtype) for w in weights[:-1]] if precision == "bf16" else []
        self._x = torch.empty(0)

    def refresh(self) -> None:
        """Follow the parameters."""
        if self._copies is not self._fp32:
            torch._foreach_copy_(self._copies, self._fp32)

    def forward(self, x: Tensor) -> Tensor:
        """# (B, in), the same for all networks -> (N, out, B), fp32"""
        hidden = self._x = x.to(self.dtype).expand(self.count, -1, -1)
        for weight, bias, z, h in zip(self._w[:-1], self._b[:-1], self._z, self._h, strict=True):
            hidden = _gelu(torch.baddbmm(bias, hidden, weight, out=z), out=h)
        out = torch.bmm(self._w[-1].transpose(1, 2), hidden.transpose(1, 2))
        return out.float() + self._b[-1].transpose(1, 2)

    def backward(self, gradient: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        """Write the gradients of the parameters, given that of the last output. # (N, out, B)"""
        torch.sum(gradient, 2, out=biases[-1][:, 0])
        g = gradient.to(self.dtype)
        weights[-1].copy_(torch.bmm(g, self._hidden(len(self._w) - 1)).transpose(1, 2))
        g = g.transpose(1, 2)
        for k in reversed(range(len(self._h))):
            g = torch.bmm(g, self._w[k + 1].transpose(1, 2), out=self._g[k])
            _gelu_backward(g, self._z[k], grad_input=g)
            torch.sum(g, 1, keepdim=True, dtype=torch.float32, out=biases[k])
            down = self._hidden(k).transpose(1, 2)
            if self._dw:
                weights[k].copy_(torch.bmm(down, g, out=self._dw[k]))
            else:
                torch.bmm(down, g, out=weights[k])

    def _hidden(self, k: int) -> Tensor:
        return self._h[k - 1] if k else self._x

    def input_gradient(self, gradient: Tensor, chosen: Tensor) -> Tensor:
        """Gradient of the input where only network ``chosen[b]`` of sample b counts. # (out, B), (B,) -> (B, in), fp32

        Samples are sorted by network, so that each network's products are of its own samples alone.
        """
        order = torch.argsort(chosen, stable=True)
        sizes = torch.bincount(chosen, minlength=self.count).tolist()
        rows = chosen[order] * len(chosen) + order  # of (N, B, width) as (N B, width)
        g = gradient.t().to(self.dtype)[order]
        for k in reversed(range(len(self._w))):
            down = torch.empty(len(order), self._w[k].shape[1], dtype=self.dtype)
            for i, (part, into) in enumerate(zip(g.split(sizes), down.split(sizes), strict=True)):
                torch.mm(part, self._w[k][i].t(), out=into)
            if k:
                _gelu_backward(down, self._z[k - 1].flatten(0, 1).index_select(0, rows), grad_input=down)
            g = down
        return torch.empty_like(g, dtype=torch.float32).index_copy_(0, order, g.float())


def _critic_layers(critics: TwinCritics, batch: int, precision: str) -> Layers:
    return Layers([w.detach() for w in critics.weights], [b.detach() for b in critics.biases], batch, precision)


def _linear(actor: Actor) -> list[nn.Linear]:
    return [layer for layer in actor.net if isinstance(layer, nn.Linear)]


def _actor_layers(actor: Actor, batch: int, precision: str) -> Layers:
    layers = _linear(actor)
    return Layers(
        [x.weight.detach().t()[None] for x in layers], [x.bias.detach()[None, None] for x in layers], batch, precision
    )


class FastDsacT(DsacT):
    """``DsacT``, faster. Built for one batch size at a time: another one makes the buffers again."""

    def __init__(self, features: Features, action_dim: int, config: DsacTConfig) -> None:
        super().__init__(features, action_dim, config)
        self._batch = 0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """As ``DsacT.update``."""
        if len(batch.reward) != self._batch:
            self._allocate(*batch.action.shape)
        with torch.no_grad():
            return super().update(batch)

    def load_state_dict(self, state: dict[str, object]) -> None:
        """As ``DsacT.load_state_dict``."""
        super().load_state_dict(state)
        self._batch = 0  # copies in another precision are stale

    def _allocate(self, batch: int, action_dim: int) -> None:
        self._batch, precision = batch, self.config.precision
        self._q = _critic_layers(self.critics, batch, precision)
        self._target_q = _critic_layers(self.target_critics, batch, precision)
        self._pi = _actor_layers(self.actor, batch, precision)
        self._target_pi = _actor_layers(self.target_actor, batch, precision)
        width = self.actor.features.outputs
        self._features = torch.empty(batch, width)
        self._input = torch.empty(batch, width + action_dim)  # of the critics
        for parameter in (*self.critics.parameters(), *self.actor.net.parameters()):
            parameter.grad = torch.empty_like(parameter)
        self._q_grads = ([w.grad for w in self.critics.weights], [b.grad for b in self.critics.biases])
        self._followed = (
            [*self.target_critics.parameters(), *self.target_actor.parameters()],
            [*self.critics.parameters(), *self.actor.parameters()],
        )
        layers = _linear(self.actor)
        self._pi_grads = ([x.weight.grad.t()[None] for x in layers], [x.bias.grad[None, None] for x in layers])

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As ``DsacT.targets``."""
        features = self.actor.features(batch.next_observation)
        mean, log_std = self._target_pi.forward(features)[0].t().contiguous().chunk(2, dim=1)
        noise = torch.randn(mean.shape)
        action, log_prob = Actor.squash(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX), noise)
        out = self._target_q.forward(torch.cat([features, action], dim=1, out=self._input))
        return self.bellman(batch, log_prob, out[:, 0], nn.functional.softplus(out[:, 1]))

    def _update_critics(self, batch: Batch, y_q: Tensor, y_z: Tensor) -> dict[str, Tensor]:
        self._features = self.actor.features(batch.observation)
        out = self._q.forward(torch.cat([self._features, batch.action], dim=1, out=self._input))
        q, sigma = out[:, 0], nn.functional.softplus(out[:, 1])
        self.average_sigma(sigma)
        d_q, d_sigma = self.critic_gradient(q, sigma, y_q, y_z)
        d_out = torch.stack([d_q, d_sigma * torch.sigmoid(out[:, 1])], dim=1)  # softplus' = sigmoid
        metrics = {"q": q.mean(), "sigma": sigma.mean(), "y_q": y_q.mean()}
        self._q.backward(d_out, *self._q_grads)
        self.critic_optimizer.step()
        self._q.refresh()
        return metrics

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        mean, log_std = self._pi.forward(self._features)[0].t().contiguous().chunk(2, dim=1)
        noise, held = torch.randn(mean.shape), log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        action, log_prob = Actor.squash(mean, held, noise)
        q = self._q.forward(torch.cat([self._features, action], dim=1, out=self._input))[:, 0]
        alpha, lowest = self.log_alpha.detach().exp(), q.min(dim=0)
        loss = (alpha * log_prob - lowest.values).mean()
        d_out = torch.zeros(2, self._batch)
        d_out[0] = -1.0 / self._batch
        d_action = self._q.input_gradient(d_out, lowest.indices)[:, -mean.shape[1] :]
        # a = tanh(u), u = mean + std noise, d log pi / du = 2 a, d log pi / d log std = 2 a std noise - 1
        weight = alpha / self._batch
        d_raw = d_action * (1.0 - action * action) + weight * 2.0 * action
        d_log_std = (d_raw * held.exp() * noise - weight) * (held == log_std)  # none beyond the bounds
        self._pi.backward(torch.cat([d_raw, d_log_std], dim=1).t()[None], *self._pi_grads)
        self.actor_optimizer.step()
        self._pi.refresh()
        return self._update_alpha(log_prob) | {"actor_loss": loss}

    def _update_targets(self) -> None:
        torch._foreach_lerp_(*self._followed, self.config.tau)
        self._target_q.refresh()
        self._target_pi.refresh()
