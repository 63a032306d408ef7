"""Cubic-rational: a bump or a dent around a centre, inverted in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowkit.contract import require_real
from flowkit.elementwise.numerical import refined
from flowkit.ops.coupling.scale import ExpScale, Scale, scale_and_log


@dataclass(frozen=True)
class CubicRational:
    """y = x + α·z / (1 + β·z²) with z = x - c,  dy/dx = 1 + α·(1 - β·z²) / (1 + β·z²)².

    Smooth, and the identity far from the centre c. It increases for -1 < α < 8. The inverse is the
    only real root of a cubic, by Cardano's formula, and two Newton steps against its rounding.

    Args:
        narrowness: the map from raw numbers to (β, log β), bounded away from 0 and ∞.
        least: of the slope, which is at most 9: α is kept in (-(1 - least), 8·(1 - least)).

    Takes 3 numbers for each element: raw α, raw β and c; all 0 is the identity. Chain it with
    `Affine` and others of its kind, which it does without.
    Gerdes & Cheng, Analytic bijections for smooth and interpretable normalizing flows, 2026,
    arXiv:2601.10774.
    """

    narrowness: Scale = field(default_factory=ExpScale)
    least: float = 1e-3
    count = 3

    def __post_init__(self) -> None:
        require_real(self, least=self.least)
        if not 0 < self.least < 1:
            raise ValueError(f"CubicRational: expected 0 < least < 1, got {self.least}")

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta, centre = self._numbers(params)
        z = x - centre
        share = 1 / (1 + beta * z**2)
        # (1 - βz²)/(1 + βz²)² as what can't overflow.
        return x + alpha * z * share, (alpha * share * (2 * share - 1)).log1p()

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta, centre = self._numbers(params)
        with torch.no_grad():
            root = centre + _root(y - centre, alpha, beta)
        return refined(lambda x: self.forward(x, params), y, root)

    def _numbers(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alpha = (1 - self.least) * (9 * torch.sigmoid(params[:, 0] - math.log(8)) - 1)
        return alpha, scale_and_log(self.narrowness, params[:, 1])[0], params[:, 2]


def _root(w: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """z with z + α·z / (1 + β·z²) = w, which is z³ - w·z² + (1 + α)/β·z - w/β = 0."""
    # In units of √(w² + 1/β) all coefficients are at most 9, so that no power overflows.
    radius = beta.rsqrt()
    unit = torch.hypot(w, radius)
    e, g = w / unit, (radius / unit) ** 2
    p = (1 + alpha) * g - e**2 / 3
    q = e * (g * (alpha - 2) / 3 - 2 * e**2 / 27)
    # There is one real root only, so what is under the root is negative by rounding alone.
    large = (q.abs() / 2 + ((q / 2) ** 2 + (p / 3) ** 3).clamp(min=0).sqrt()) ** (1 / 3)
    large = torch.where(q > 0, -large, large)
    return unit * (large - p / (3 * large) + e / 3)
