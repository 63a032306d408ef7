"""Rational-quadratic spline of a circle onto itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from flowkit.contract import require_at_least, require_real
from flowkit.ops.spline.api import rational_quadratic, rational_quadratic_inverse
from flowkit.ops.spline.knots import Knots, require_bins


@dataclass(frozen=True)
class CircularSpline:
    """`RationalQuadraticSpline` of angles in [low, high), whose ends are one point: it stays where
    it is, and the slope is the same on both sides of it.

    An angle some turns on is mapped to one as many turns on, f(x + P) = f(x) + P with the period
    P = high - low, so that it is a smooth map of all numbers.

    A net that sees another angle x as a number has a seam where x begins anew, and so has the
    density: let it see cos and sin of 2π·x/P instead.

    Args:
        bins: K.
        low, high: the interval, on both sides of the map.
        least: of a bin's share of the interval, and of a slope; below 1/K.

    Takes 3K numbers for each element: K widths, K heights, K slopes; all 0 is the identity.
    Rezende et al., Normalizing flows on tori and spheres, 2020, arXiv:2002.02428, §2.1.
    """

    bins: int = 8
    low: float = -math.pi
    high: float = math.pi
    least: float = 1e-3
    knots: Knots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_at_least(self, "bins", self.bins, 2)
        require_real(self, low=self.low, high=self.high, least=self.least)
        require_bins(self, self.bins, self.low, self.high, self.least)
        object.__setattr__(
            self, "knots", Knots(self.bins, self.low, self.high, self.least, "circular")
        )

    @property
    def count(self) -> int:
        return self.knots.count

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic(x, params, self.knots)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic_inverse(y, params, self.knots)
