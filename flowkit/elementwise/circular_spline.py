"""Rational-quadratic spline of a circle onto itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowkit.elementwise.bins import Bins, positive_slope, require_bins
from flowkit.elementwise.numerical import Map


@dataclass(frozen=True)
class CircularSpline:
    """`RationalQuadraticSpline` of angles in [low, high), whose ends are one point: it stays where
    it is, and the slope is the same on both sides of it.

    An angle some turns on is mapped to one as many turns on, f(x + P) = f(x) + P with the period
    P = high - low, so that it is a smooth map of all numbers.

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

    def __post_init__(self) -> None:
        require_bins(self, self.bins, self.low, self.high, self.least)

    @property
    def count(self) -> int:
        return 3 * self.bins

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._each_turn(self._bins(params).forward, x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._each_turn(self._bins(params).inverse, y)

    def _each_turn(self, function: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        period = self.high - self.low
        turned = period * ((x - self.low) / period).floor()
        y, log_slope = function(x - turned)
        return y + turned, log_slope

    def _bins(self, params: Tensor) -> Bins:
        widths, heights, slopes = params.chunk(3, dim=1)
        slope = positive_slope(torch.cat([slopes, slopes[:, :1]], dim=1), self.least)
        return Bins.of(widths, heights, slope, self.low, self.high, self.least)
