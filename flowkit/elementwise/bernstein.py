"""Bernstein polynomial, straight on outside of its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from flowkit.contract import require_at_least, require_real
from flowkit.elementwise.numerical import bisected, refined
from flowkit.ops.coupling.scale import ExpScale, Scale, scale_and_log
from flowkit.ops.spline.straight import straight_on


@dataclass(frozen=True)
class Bernstein:
    """y = Σᵢ θᵢ·bᵢ,ₘ(u) with u = (x + bound)/(2·bound), i = 0 … M, an increasing polynomial on
    [-bound, bound] of degree M. Outside it goes straight on along the tangents.

        bᵢ,ₘ(u) = (M choose i)·uⁱ·(1-u)ᴹ⁻ⁱ,  dy/dx = Σⱼ sⱼ·bⱼ,ₘ₋₁(u),  sⱼ = M·(θⱼ₊₁ - θⱼ)/(2·bound)

    The slope is a mean of the sⱼ, and as bounded as they are. The inverse is found numerically, by
    bisection.

    Args:
        degree: M.
        bound: of the interval.
        slope: the map from raw numbers to (sⱼ, log sⱼ), bounded away from 0 and ∞.

    Takes M + 1 numbers for each element: (θ₀ + θₘ)/2, and M raw slopes; all 0 is the identity.
    Sick et al., Deep transformation models, 2020, arXiv:2004.00464; Arpogaus et al., Short-term
    density forecasting of low-voltage load using Bernstein-polynomial normalizing flows, 2022,
    arXiv:2204.13939.
    """

    degree: int = 16
    bound: float = 5.0
    slope: Scale = field(default_factory=ExpScale)

    def __post_init__(self) -> None:
        # Beyond 64 the outermost polynomials underflow in float32 over much of the interval.
        require_at_least(self, "degree", self.degree, 1)
        require_real(self, bound=self.bound)
        if self.degree > 64 or not 0 < self.bound < math.inf:
            raise ValueError(
                "Bernstein: expected 1 <= degree <= 64 and bound > 0, got "
                f"{self.degree} and {self.bound}"
            )

    @property
    def count(self) -> int:
        return self.degree + 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        theta, slopes = self._coefficients(params)

        def polynomial(x: Tensor) -> tuple[Tensor, Tensor]:
            u = self._unit(x)
            return _mean(theta, u), _mean(slopes, u).log()

        first, last = ((theta[:, end], slopes[:, end].log()) for end in (0, -1))
        return straight_on(polynomial, x, -self.bound, self.bound, first, last)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        theta, slopes = self._coefficients(params)
        # Beyond the ends of the polynomial the solution is one of these two.
        low = (y - theta[:, 0]).clamp(max=0) / slopes[:, 0] - self.bound
        high = (y - theta[:, -1]).clamp(min=0) / slopes[:, -1] + self.bound
        x = bisected(lambda x: _mean(theta, self._unit(x).clamp(0, 1)), y, low, high)
        return refined(lambda x: self.forward(x, params), y, x)

    def _unit(self, x: Tensor) -> Tensor:
        return (x + self.bound) / (2 * self.bound)

    def _coefficients(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """θ (B, M + 1, n, *S) and s (B, M, n, *S)."""
        middle, raw = params[:, :1], params[:, 1:]
        slopes, _ = scale_and_log(self.slope, raw)
        ends = (slopes * (2 * self.bound / self.degree)).cumsum(1)
        ends = torch.cat([torch.zeros_like(middle), ends], dim=1)
        return middle + ends - ends[:, -1:] / 2, slopes


def _mean(points: Tensor, u: Tensor) -> Tensor:
    """Σᵢ pointsᵢ·bᵢ(u) for points (B, N + 1, n, *S) and u (B, n, *S)."""
    degree = points.shape[1] - 1
    choose = u.new_tensor([math.comb(degree, i) for i in range(degree + 1)])
    choose = choose.reshape(-1, *[1] * (u.dim() - 1))
    return (points * choose * _powers(u, degree) * _powers(1 - u, degree).flip(1)).sum(1)


def _powers(u: Tensor, degree: int) -> Tensor:
    """uⁱ (B, N + 1, n, *S) for i = 0 … N."""
    # Not u**i with a tensor i, whose second derivative is NaN at 0.
    return torch.stack([*accumulate([u] * degree, torch.mul, initial=torch.ones_like(u))], dim=1)
