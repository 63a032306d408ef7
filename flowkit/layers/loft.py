"""LOFT: far numbers drawn in by a logarithm."""

from __future__ import annotations

import math

from torch import Tensor

from flowkit.contract import Example, require_real
from flowkit.layers.fixed import Fixed


class LOFT(Fixed):
    """y = sign(x)·(log(1 + max(|x| - τ, 0)) + min(|x|, τ)),  log dy/dx = -log(1 + max(|x| - τ, 0)).

    The log soft extension: the identity on [-τ, τ], beyond which it grows as a logarithm.
    `Inverse(LOFT(τ))` as a flow's first layer, next to the data, keeps samples from far off, which
    steadies training by samples in many dimensions; `LOFT(τ)` there draws in outliers of the data.
    The inverse grows as an exponential and is infinite from τ + 88 on in float32.

    Args:
        threshold: τ.

    Raises:
        ValueError: threshold isn't positive and finite.

    Andrade, Stable training of normalizing flows for high-dimensional variational inference, 2024,
    arXiv:2402.16408.
    """

    def __init__(self, threshold: float = 100.0) -> None:
        super().__init__()
        require_real(self, threshold=threshold)
        if not 0 < threshold < math.inf:
            raise ValueError(f"LOFT: expected threshold > 0, got {threshold}")
        self.threshold = threshold

    def value(self, x: Tensor) -> Tensor:
        within = x.clamp(-self.threshold, self.threshold)
        return within + (x - within).sign() * (x - within).abs().log1p()

    def value_back(self, y: Tensor) -> Tensor:
        within = y.clamp(-self.threshold, self.threshold)
        return within + (y - within).sign() * (y - within).abs().expm1()

    def log_slope(self, x: Tensor, y: Tensor) -> Tensor:
        return -(y.abs() - self.threshold).clamp(min=0)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls(3.0), (2,), name="vectors"),
            Example(lambda: cls(1.0), (2, 2, 3), name="images"),
        ]
