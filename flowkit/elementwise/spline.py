"""Rational-quadratic spline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


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
    Durkan et al., Neural spline flows, 2019, arXiv:1906.04032, §3.1, eq. 4-8, and appendix A.
    """

    bins: int = 8
    bound: float = 5.0
    least: float = 1e-3

    def __post_init__(self) -> None:
        if self.bins < 2 or not self.bound > 0 or not 0 < self.least < 1 / self.bins:
            raise ValueError(
                "RationalQuadraticSpline: expected bins >= 2, bound > 0 and 0 < least < 1/bins, "
                f"got {self.bins}, {self.bound} and {self.least}"
            )

    @property
    def count(self) -> int:
        return 3 * self.bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside, (x0, w, y0, h, d0, d1) = self._bin(x, params, by=0)
        s = h / w
        xi = torch.where(inside, (x - x0) / w, 0.5).clamp(0, 1)
        top = s * xi**2 + d0 * xi * (1 - xi)
        y = y0 + h * top / (s + (d0 + d1 - 2 * s) * xi * (1 - xi))
        return torch.where(inside, y, x), torch.where(inside, _log_slope(xi, s, d0, d1), 0.0)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside, (x0, w, y0, h, d0, d1) = self._bin(y, params, by=1)
        s, up = h / w, torch.where(inside, y - y0, h / 2)
        curve = up * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + curve, h * d0 - curve, -s * up
        # The larger root in the form that never cancels, eq. 29 f.; negative only by rounding.
        xi = 2 * c / (-b - (b**2 - 4 * a * c).clamp(min=0).sqrt())
        xi = xi.clamp(0, 1)
        log_slope = torch.where(inside, -_log_slope(xi, s, d0, d1), 0.0)
        return torch.where(inside, x0 + xi * w, y), log_slope

    def _bin(self, x: Tensor, params: Tensor, by: int) -> tuple[Tensor, list[Tensor]]:
        """Whether x is inside, and its bin: left, width, bottom, height, slopes at both ends."""
        widths, heights, slopes = params.split([self.bins, self.bins, self.bins - 1], dim=1)
        sizes = [
            2 * self.bound * (self.least + (1 - self.least * self.bins) * raw.softmax(1))
            for raw in (widths, heights)
        ]
        starts = [size.cumsum(1) - size - self.bound for size in sizes]
        one = math.log(math.expm1(1 - self.least))
        slopes = self.least + F.softplus(slopes + one)
        ends = torch.ones_like(slopes[:, :1])
        slopes = torch.cat([ends, slopes, ends], dim=1)
        index = (x[:, None] >= starts[by][:, 1:]).sum(1, keepdim=True)
        parts = [starts[0], sizes[0], starts[1], sizes[1], slopes[:, :-1], slopes[:, 1:]]
        return x.abs() < self.bound, [part.gather(1, index)[:, 0] for part in parts]


def _log_slope(xi: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    top = d1 * xi**2 + 2 * s * xi * (1 - xi) + d0 * (1 - xi) ** 2
    return 2 * s.log() + top.log() - 2 * (s + (d0 + d1 - 2 * s) * xi * (1 - xi)).log()
