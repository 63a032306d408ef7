"""Tanh: all numbers onto those between -1 and 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from flowkit.contract import Example
from flowkit.layers.fixed import Fixed


class Tanh(Fixed):
    """y = tanh x, in (-1, 1);  log dy/dx = log(1 - y²).

    Raises (on use, by the inverse):
        ValueError: y isn't in (-1, 1), see `Fixed`. The ends themselves are what a large x rounds
            to, in float32 from 9 on.
    """

    codomain = (-1.0, 1.0)
    advice = "large x round to the ends"

    def value(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def value_back(self, y: Tensor) -> Tensor:
        return torch.atanh(y)

    def log_slope(self, x: Tensor, y: Tensor) -> Tensor:
        # 1 - y² = 4·σ(2x)·σ(-2x), which rounds to 0 in the former way.
        return F.logsigmoid(2 * x) + F.logsigmoid(-2 * x) + math.log(4)

    @classmethod
    def examples(cls) -> list[Example]:
        within = constraints.interval(-1.0, 1.0)
        return [
            Example(cls, (2,), codomain=within, name="vectors"),
            Example(cls, (2, 3), codomain=within, name="sequences"),
        ]
