"""Softplus: all numbers onto the positive ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from flowkit.contract import Example
from flowkit.layers.fixed import Fixed


class Softplus(Fixed):
    """y = log(1 + eˣ), positive;  log dy/dx = log σ(x).

    `Inverse(Softplus())` is a first layer for positive data: it leaves large numbers as they are,
    where a logarithm would not.

    Raises (on use, by the inverse):
        ValueError: y isn't positive, see `Fixed`.
    """

    codomain = (0.0, torch.inf)
    advice = "very negative x round to 0"

    def value(self, x: Tensor) -> Tensor:
        # Exact everywhere, unlike F.softplus, which takes x itself from 20 on.
        return -F.logsigmoid(-x)

    def value_back(self, y: Tensor) -> Tensor:
        return y + (-torch.expm1(-y)).log()

    def log_slope(self, x: Tensor, y: Tensor) -> Tensor:
        return F.logsigmoid(x)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls, (2,), codomain=constraints.positive, name="vectors"),
            Example(cls, (2, 3), codomain=constraints.positive, name="sequences"),
        ]
