"""Forward and backward passes of a few networks of one shape, written out, into buffers that are made once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from dsac_robot.learn.flat import Flat

_gelu = torch.ops.aten.gelu.out
_gelu_backward = torch.ops.aten.gelu_backward.grad_input
Split = Callable[[list[Tensor]], tuple[list[Tensor], list[Tensor]]]


class Layers:
    """N networks as batched matrix products: the parameters of ``flat``, for batches of ``batch``.

    ``split`` brings tensors in the parameters' shapes into weights (N, in, out) and biases (N, 1, out), as views. The
    last layer is few columns wide, which a product handles badly: it is computed transposed, and so outputs and their
    gradient are (N, out, B). Products and activations are in the precision that ``flat`` keeps its copy in.
    """

    def __init__(self, flat: Flat, split: Split, batch: int, *, trained: bool) -> None:
        used = flat.values if flat.half is None else flat.half
        self._w, self._b = split(flat.views(used))
        self._last_bias = split(flat.views(flat.values))[1][-1].transpose(1, 2)
        self.dtype, self.count = used.dtype, self._w[0].shape[0]
        self._wt = [w.transpose(1, 2) for w in self._w]
        shapes = [(self.count, batch, w.shape[2]) for w in self._w[:-1]]
        self._h = [torch.empty(shape, dtype=self.dtype) for shape in shapes]  # after the activation
        self._ht = [h.transpose(1, 2) for h in self._h]
        self._x = torch.empty(0)
        self._z = self._h  # before the activation: the same place, where nothing goes back
        if trained:
            self._z = [torch.empty(shape, dtype=self.dtype) for shape in shapes]
            self._g = [torch.empty(shape, dtype=self.dtype) for shape in shapes]  # gradient of either
            self._dw, self._db = split([p.grad for p in flat.parameters if p.grad is not None])
            direct = flat.half is None  # products are gradients already, not yet to be brought to fp32
            self._products = [dw if direct else torch.empty(dw.shape, dtype=self.dtype) for dw in self._dw]
            self._picked = [torch.empty(shape[1:], dtype=self.dtype) for shape in shapes]

    def forward(self, x: Tensor) -> Tensor:
        """# (B, in), the same for all networks -> (N, out, B), fp32"""
        hidden = self._x = x.to(self.dtype).expand(self.count, -1, -1)
        for weight, bias, z, h in zip(self._w, self._b, self._z, self._h, strict=False):
            hidden = _gelu(torch.baddbmm(bias, hidden, weight, out=z), out=h)
        return torch.bmm(self._wt[-1], self._ht[-1]).float().add_(self._last_bias)

    def backward(self, gradient: Tensor) -> None:
        """Write the gradients of the parameters, given that of the last output. # (N, out, B)"""
        torch.sum(gradient, 2, keepdim=True, out=self._db[-1].transpose(1, 2))
        g = gradient.to(self.dtype)
        self._dw[-1].copy_(torch.bmm(g, self._h[-1]).transpose(1, 2))
        g = g.transpose(1, 2)
        for k in reversed(range(len(self._h))):
            g = torch.bmm(g, self._wt[k + 1], out=self._g[k])
            _gelu_backward(g, self._z[k], grad_input=g)
            torch.sum(g, 1, keepdim=True, dtype=torch.float32, out=self._db[k])
            torch.bmm(self._ht[k - 1] if k else self._x.transpose(1, 2), g, out=self._products[k])
            if self._products[k] is not self._dw[k]:
                self._dw[k].copy_(self._products[k])

    def input_gradient(self, output: int, chosen: Tensor, columns: int) -> Tensor:
        """Gradient of one output of network ``chosen[b]`` for sample b by the last ``columns`` inputs.

        Samples are sorted by network, so that each network's products are of its own samples alone.
        # (B,) -> (B, columns), fp32
        """
        order = torch.argsort(chosen, stable=True)
        ordered = chosen[order]
        ends = torch.searchsorted(ordered, torch.arange(self.count + 1)).tolist()
        rows = ordered * len(chosen) + order  # of (N, B, width) as (N B, width)
        g = self._w[-1][:, :, output].index_select(0, ordered)
        for k in reversed(range(len(self._h))):
            z = torch.index_select(self._z[k].flatten(0, 1), 0, rows, out=self._picked[k])
            _gelu_backward(g, z, grad_input=g)
            down = self._g[k - 1][0] if k else torch.empty(len(chosen), columns, dtype=self.dtype)
            for i, (start, end) in enumerate(itertools.pairwise(ends)):
                weight = self._wt[k][i] if k else self._wt[0][i, :, -columns:]
                torch.mm(g[start:end], weight, out=down[start:end])
            g = down
        return torch.empty_like(g, dtype=torch.float32).index_copy_(0, order, g.float())
