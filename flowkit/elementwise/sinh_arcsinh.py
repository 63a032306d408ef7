"""Sinh-arcsinh: skewness and the weight of the tails."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.contract import require_real
from flowkit.ops.coupling.scale import ExpScale, Scale, scale_and_log


@dataclass(frozen=True)
class SinhArcsinh:
    """y = sinh(δ·asinh(x) - ε),  dy/dx = δ·cosh(δ·asinh(x) - ε) / √(1 + x²).

    With y normal, ε > 0 skews x to the right, and δ < 1 makes its tails heavier than normal ones,
    δ > 1 lighter. y grows like |x| to the power of δ.

    Args:
        tails: the map from raw numbers to (δ, log δ), bounded away from 0 and ∞.
        skew: bound of ε, which is skew·tanh(raw/skew).

    Takes 2 numbers for each element: raw ε and raw δ; all 0 is the identity. By default numbers up
    to 1e6 stay finite in float32, both ways.
    Jones & Pewsey, Sinh-arcsinh distributions, Biometrika 96 (4), 2009.
    """

    tails: Scale = field(default_factory=lambda: ExpScale(1.0))
    skew: float = 5.0
    count = 2

    def __post_init__(self) -> None:
        require_real(self, skew=self.skew)
        if not 0 < self.skew < math.inf:
            raise ValueError(f"SinhArcsinh: expected skew > 0, got {self.skew}")

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        epsilon, delta, log_delta = self._numbers(params)
        u = torch.asinh(x)
        v = delta * u - epsilon
        return torch.sinh(v), log_delta + _log_cosh(v) - _log_cosh(u)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        epsilon, delta, log_delta = self._numbers(params)
        v = torch.asinh(y)
        u = (v + epsilon) / delta
        return torch.sinh(u), _log_cosh(u) - _log_cosh(v) - log_delta

    def _numbers(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        epsilon = self.skew * torch.tanh(params[:, 0] / self.skew)
        return epsilon, *scale_and_log(self.tails, params[:, 1])


def _log_cosh(x: Tensor) -> Tensor:
    return -F.logsigmoid(2 * x) + x - math.log(2)
