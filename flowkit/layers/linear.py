"""Invertible linear map: a learned mixing of the channels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    exactly,
    positions,
    require_at_least,
    require_channels,
    require_shape,
    same_logdet,
    wide_dtype,
)
from flowkit.layers.folded import FoldedLinear
from flowkit.layers.weights import PLU, Full, Orthogonal, Weight
from flowkit.ops.linear.api import linear_map


class InvertibleLinear(Bijection):
    """y = W·x at every place,  log|det| = |S|·log|det W|, |S| the number of places: Glow's 1x1
    convolution, or a linear layer on vectors.

    Args:
        channels: C of the input (B, C, *S).
        weight: how W is parametrised: `Full`, `PLU` or `Orthogonal`. It starts as a random
            orthogonal matrix.

    A W that training has made singular has log-det -∞, and `inverse` raises
    `torch.linalg.LinAlgError`, on a GPU too; nothing is repaired.

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.2.

    >>> import torch
    >>> InvertibleLinear(3)(torch.rand(2, 3, 4, 4))[0].shape
    torch.Size([2, 3, 4, 4])
    """

    conditional = False

    def __init__(self, channels: int, weight: Callable[[int], Weight] = Full) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        self.channels = channels
        if isinstance(weight, Weight):
            raise TypeError(
                "InvertibleLinear: expected the kind of weight, got one that is made "
                f"(weight={type(weight).__name__})"
            )
        self.weight = weight(channels)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x, self.channels)
        return linear_map(x, self.weight.matrix()), self._logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels)
        return linear_map(y, self.weight.inverse()), -self._logdet(y)

    def _logdet(self, x: Tensor) -> Tensor:
        return same_logdet(x, (positions(x) * self.weight.logabsdet()).to(wide_dtype(x)))

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels)

    def fold(self) -> Bijection:
        if not exactly(self, InvertibleLinear):
            return super().fold()
        return FoldedLinear(self.weight.matrix())

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls(3), (3, 2, 3), name="full"),
            Example(lambda: cls(3, PLU), (3, 2), name="PLU"),
            Example(lambda: cls(3, Orthogonal), (3,), name="orthogonal"),
        ]
