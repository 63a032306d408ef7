"""Rational-quadratic spline of an interval onto itself, its end slopes free."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from flowkit.contract import require_at_least, require_real
from flowkit.ops.spline.api import rational_quadratic, rational_quadratic_inverse
from flowkit.ops.spline.knots import Knots, require_bins


@dataclass(frozen=True)
class BoundedSpline:
    """`RationalQuadraticSpline` on [low, high], which it maps onto itself; the slopes at the ends
    are free. For data on an interval and noise on the same one, such as a uniform base.

    Outside of the interval it goes straight on along the tangents, so that it is a smooth map of
    all numbers, and none inside leaves.

    Args:
        bins: K.
        low, high: the interval, on both sides of the map.
        least: of a bin's share of the interval, and of a slope; below 1/K.

    Takes 3K + 1 numbers for each element: K widths, K heights, K + 1 slopes; all 0 is the identity.
    Durkan et al., Neural spline flows, 2019, arXiv:1906.04032, §3.1.
    """

    bins: int = 8
    low: float = 0.0
    high: float = 1.0
    least: float = 1e-3
    knots: Knots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_at_least(self, "bins", self.bins, 2)
        require_real(self, low=self.low, high=self.high, least=self.least)
        require_bins(self, self.bins, self.low, self.high, self.least)
        object.__setattr__(
            self, "knots", Knots(self.bins, self.low, self.high, self.least, "straight")
        )

    @property
    def count(self) -> int:
        return self.knots.count

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic(x, params, self.knots)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic_inverse(y, params, self.knots)
