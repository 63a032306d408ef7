"""Leaky ReLU: two slopes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowkit.contract import Example, require_real
from flowkit.layers.fixed import Fixed


class LeakyReLU(Fixed):
    """y = x for x >= 0 and slope·x below;  log dy/dx = 0 or log slope.

    Args:
        slope: positive; more than 1 stretches.

    Raises:
        ValueError: slope isn't positive and finite.
    """

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        require_real(self, slope=slope)
        if not 0 < slope < math.inf:
            raise ValueError(f"LeakyReLU: expected slope > 0, got {slope}")
        self.slope = slope

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, self.slope * x, x)

    def value_back(self, y: Tensor) -> Tensor:
        return torch.where(y < 0, y / self.slope, y)

    def log_slope(self, x: Tensor, y: Tensor) -> Tensor:
        return math.log(self.slope) * (x < 0).to(x.dtype)

    def extra_repr(self) -> str:
        return f"slope={self.slope}"

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls, (2, 2, 3), name="images"),
            Example(lambda: cls(0.5), (2,), name="vectors"),
        ]
