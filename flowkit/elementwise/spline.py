"""Rational-quadratic spline, the identity outside of its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from flowkit.contract import require_at_least, require_real
from flowkit.ops.spline.api import rational_quadratic, rational_quadratic_inverse
from flowkit.ops.spline.knots import Knots


@dataclass(frozen=True)
class RationalQuadraticSpline:
    """A monotone spline of K rational-quadratic bins on [-bound, bound], the identity outside.

    In a bin of width w, height h, slope s = h/w and end slopes d₀, d₁, with ξ = (x - x₀)/w:

        y = y₀ + h·(s·ξ² + d₀·ξ(1-ξ)) / (s + (d₀ + d₁ - 2s)·ξ(1-ξ))
        dy/dx = s²·(d₁·ξ² + 2s·ξ(1-ξ) + d₀·(1-ξ)²) / (s + (d₀ + d₁ - 2s)·ξ(1-ξ))²

    Args:
        bins: K.
        bound: of the interval, on both sides of the map.
        least: of a bin's share of the interval, and of a slope; below 1/K.

    Takes 3K - 1 numbers for each element: K widths, K heights, K - 1 slopes; all 0 is the identity.
    `BoundedSpline` is for data on an interval, `CircularSpline` for angles.
    Durkan et al., Neural spline flows, 2019, arXiv:1906.04032, §3.1, eq. 4-8, and appendix A.
    """

    bins: int = 8
    bound: float = 5.0
    least: float = 1e-3
    knots: Knots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_at_least(self, "bins", self.bins, 2)
        require_real(self, bound=self.bound, least=self.least)
        if not 0 < self.bound < math.inf or not 0 < self.least < 1 / self.bins:
            raise ValueError(
                "RationalQuadraticSpline: expected bound > 0 and 0 < least < 1/bins, got "
                f"{self.bound} and {self.least} with {self.bins} bins"
            )
        object.__setattr__(
            self, "knots", Knots(self.bins, -self.bound, self.bound, self.least, "identity")
        )

    @property
    def count(self) -> int:
        return self.knots.count

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic(x, params, self.knots)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic_inverse(y, params, self.knots)
