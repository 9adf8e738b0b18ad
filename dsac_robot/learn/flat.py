"""The parameters of a network as slices of one tensor, likewise their gradients and Adam's state.

One kernel then steps the whole network, one moves its target, and one copies it to another precision. Parameters and
optimiser keep their names and shapes, and so do checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

_ALIGN = 16  # numbers: each slice starts on a cache line; what lies between stays zero under every step


class Flat:
    """The storage of ``parameters``, and of their state in ``optimizer`` (None for a target), from now on."""

    def __init__(
        self, parameters: Iterable[nn.Parameter | Tensor], optimizer: torch.optim.Adam | None = None, half: bool = False
    ) -> None:
        self.parameters = list(parameters)
        self._shapes = [parameter.shape for parameter in self.parameters]
        padded = [-(-math.prod(shape) // _ALIGN) * _ALIGN for shape in self._shapes]
        self._starts = [sum(padded[:k]) for k in range(len(padded))]
        self.values = torch.zeros(sum(padded))
        for parameter, view in zip(self.parameters, self.views(self.values), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        self.half = self.values.bfloat16() if half else None
        if optimizer is not None:
            self._take_over(optimizer)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Slices of a tensor like ``values``, in the shapes of the parameters."""
        slices = zip(self._starts, self._shapes, strict=True)
        return [flat[start : start + math.prod(shape)].view(shape) for start, shape in slices]

    def _take_over(self, optimizer: torch.optim.Adam) -> None:
        self._optimizer = optimizer
        self._steps = torch.zeros(len(self.parameters))
        self._gradient, self._mean, self._square = (torch.zeros_like(self.values) for _ in range(3))
        parts = zip(
            self.parameters, self._steps, *map(self.views, (self._gradient, self._mean, self._square)), strict=True
        )
        for parameter, step, gradient, mean, square in parts:
            state = optimizer.state[parameter]
            for name, part in (("step", step), ("exp_avg", mean), ("exp_avg_sq", square)):
                if name in state:
                    part.copy_(state[name])
                state[name] = part
            parameter.grad = gradient

    def step(self) -> None:
        """One step of the optimiser on the gradients that lie in the parameters' ``grad``."""
        group = self._optimizer.param_groups[0]
        adam(
            [self.values],
            [self._gradient],
            [self._mean],
            [self._square],
            [],
            [self._steps[0]],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        self._steps[1:] = self._steps[0]  # each parameter has its own in a checkpoint
        self.refresh()

    def follow(self, source: Flat, rate: float) -> None:
        """Move towards ``source`` by ``rate`` of the way."""
        self.values.lerp_(source.values, rate)
        self.refresh()

    def refresh(self) -> None:
        """Bring the copy in half precision up to date."""
        if self.half is not None:
            self.half.copy_(self.values)
