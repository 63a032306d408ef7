"""Rational-quadratic spline of an interval onto itself, its end slopes free."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flowkit.elementwise.bins import Bins, positive_slope, require_bins, straight_on
from flowkit.elementwise.numerical import Map


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

    def __post_init__(self) -> None:
        require_bins(self, self.bins, self.low, self.high, self.least)

    @property
    def count(self) -> int:
        return 3 * self.bins + 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        bins = self._bins(params)
        first, last = bins.slope[:, 0].log(), bins.slope[:, -1].log()
        return self._straight_on(bins.forward, x, first, last)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        bins = self._bins(params)
        first, last = bins.slope[:, 0].log(), bins.slope[:, -1].log()
        return self._straight_on(bins.inverse, y, -first, -last)

    def _straight_on(
        self, function: Map, x: Tensor, first: Tensor, last: Tensor
    ) -> tuple[Tensor, Tensor]:
        low, high = self.low, self.high
        return straight_on(function, x, low, high, (low, first), (high, last))

    def _bins(self, params: Tensor) -> Bins:
        widths, heights, slopes = params.split([self.bins, self.bins, self.bins + 1], dim=1)
        slope = positive_slope(slopes, self.least)
        return Bins.of(widths, heights, slope, self.low, self.high, self.least)
