"""The bins that rational-quadratic splines share."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.elementwise.numerical import Map


class Bins(NamedTuple):
    """A monotone map of an interval onto itself, by K rational-quadratic pieces for each element.

    In a bin of width w, height h, slope s = h/w and end slopes d₀, d₁, with ξ = (x - x₀)/w:

        y = y₀ + h·(s·ξ² + d₀·ξ(1-ξ)) / (s + (d₀ + d₁ - 2s)·ξ(1-ξ))
        dy/dx = s²·(d₁·ξ² + 2s·ξ(1-ξ) + d₀·(1-ξ)²) / (s + (d₀ + d₁ - 2s)·ξ(1-ξ))²

    left, width, bottom and height are (B, K, n, *S), slope (B, K + 1, n, *S); no result is outside
    of [low, high]. Durkan et al., Neural spline flows, 2019, arXiv:1906.04032, §3.1, eq. 4-8, and
    appendix A.
    """

    left: Tensor
    width: Tensor
    bottom: Tensor
    height: Tensor
    slope: Tensor
    low: float
    high: float

    @staticmethod
    def of(
        widths: Tensor, heights: Tensor, slope: Tensor, low: float, high: float, least: float
    ) -> Bins:
        """From raw widths and heights, whose softmax are the shares of [low, high]."""
        count = widths.shape[1]
        width, height = (
            (high - low) * (least + (1 - least * count) * raw.softmax(1))
            for raw in (widths, heights)
        )
        left, bottom = (low + (size.cumsum(1) - size) for size in (width, height))
        return Bins(left, width, bottom, height, slope, low, high)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx for x (B, n, *S) in the interval."""
        x0, w, y0, h, d0, d1 = self._at(x, self.left)
        s, xi = h / w, _within((x - x0) / w, 0, 1)
        top = s * xi**2 + d0 * xi * (1 - xi)
        y = y0 + h * top / (s + (d0 + d1 - 2 * s) * xi * (1 - xi))
        return _within(y, self.low, self.high), _log_slope(xi, s, d0, d1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dy for y (B, n, *S) in the interval."""
        x0, w, y0, h, d0, d1 = self._at(y, self.bottom)
        s, up = h / w, y - y0
        curve = up * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + curve, h * d0 - curve, -s * up
        # The larger root in the form that never cancels, eq. 29 f.; negative only by rounding. At
        # 0 itself the root's derivative would be infinite.
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        xi = _within(2 * c / (-b - root), 0, 1)
        return _within(x0 + xi * w, self.low, self.high), -_log_slope(xi, s, d0, d1)

    def _at(self, value: Tensor, starts: Tensor) -> list[Tensor]:
        """Left, width, bottom, height and the slopes at both ends of the bin of each element."""
        index = (value[:, None] >= starts[:, 1:]).sum(1, keepdim=True)
        parts = [*self[:4], self.slope[:, :-1], self.slope[:, 1:]]
        return [part.gather(1, index)[:, 0] for part in parts]


def _within(value: Tensor, low: float, high: float) -> Tensor:
    """value in [low, high], beyond which it may be by rounding; its derivative stays at the ends
    too."""
    return value.clamp(low, high).detach() + (value - value.detach())


def _log_slope(xi: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    top = d1 * xi**2 + 2 * s * xi * (1 - xi) + d0 * (1 - xi) ** 2
    return 2 * s.log() + top.log() - 2 * (s + (d0 + d1 - 2 * s) * xi * (1 - xi)).log()


def positive_slope(raw: Tensor, least: float) -> Tensor:
    """least + log(1 + e^(raw + offset)), which is 1 at raw = 0."""
    return least + F.softplus(raw + math.log(math.expm1(1 - least)))


End = tuple[Tensor | float, Tensor]
"""Value and logarithm of the slope, (B, n, *S), at an end of an interval."""


def straight_on(
    function: Map, x: Tensor, low: float, high: float, first: End, last: End
) -> tuple[Tensor, Tensor]:
    """A map of [low, high] beyond it, along the tangents at its ends, `first` and `last`.

    (Rounding may lead the map itself far off there, where it bends sharply.)
    """
    y, log_slope = function(x.clamp(low, high))
    for beyond, end, (value, log) in ((x < low, low, first), (x > high, high, last)):
        y = torch.where(beyond, value + (x - end) * log.exp(), y)
        log_slope = torch.where(beyond, log, log_slope)
    return y, log_slope


def require_bins(who: object, bins: int, low: float, high: float, least: float) -> None:
    """Raise unless there can be such bins.

    Raises:
        ValueError: there can't.
    """
    finite = math.isfinite(low) and math.isfinite(high)
    if bins < 2 or not low < high or not finite or not 0 < least < 1 / bins:
        raise ValueError(
            f"{type(who).__name__}: expected bins >= 2, low < high and 0 < least < 1/bins, "
            f"got {bins}, {low}, {high} and {least}"
        )
