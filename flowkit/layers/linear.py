"""Invertible linear map: a learned mixing of the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    positions,
    require_at_least,
    require_channels,
    same_logdet,
    wide_dtype,
)
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
    """

    conditional = False

    def __init__(self, channels: int, weight: Callable[[int], Weight] = Full) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        self.channels = channels
        self.weight = weight(channels)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x, self.channels)
        return linear_map(x, self.weight.matrix()), self._logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels)
        return linear_map(y, self.weight.inverse()), -self._logdet(y)

    def _logdet(self, x: Tensor) -> Tensor:
        return same_logdet(x, (positions(x) * self.weight.logabsdet()).to(wide_dtype(x)))

    def fold(self) -> Bijection:
        if type(self) is not InvertibleLinear:
            return super().fold()
        return FoldedLinear(self.weight.matrix())

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls(3), (3, 2, 3), name="full"),
            Example(lambda: cls(3, PLU), (3, 2), name="PLU"),
            Example(lambda: cls(3, Orthogonal), (3,), name="orthogonal"),
        ]


class FoldedLinear(Bijection):
    """y = W·x + b at every place with constant W and b; W⁻¹ and log|det W| are worked out once, in
    float64, and again when the layer's precision changes.

    Args:
        weight: W (C, C).
        bias: b (C,), 0 if None.
    """

    conditional = False

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        weight = weight.detach().clone()
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().clone()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
        self._bake()

    def _bake(self) -> None:
        weight = self.weight.detach().double()
        self.inverse_weight = torch.linalg.inv(weight)
        self.logabsdet = torch.linalg.slogdet(weight).logabsdet

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FoldedLinear:
        super()._apply(fn, recurse)
        # W as it is stored now has an inverse of its own.
        self._bake()
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._bake()

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x, len(self.weight))
        return linear_map(x, self.weight, self.bias), self._logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, len(self.weight))
        dtype = wide_dtype(y)
        inverse = self.inverse_weight.to(dtype)
        bias = -(self.inverse_weight @ self.bias.double()).to(dtype)
        return linear_map(y, inverse, bias), -self._logdet(y)

    def _logdet(self, x: Tensor) -> Tensor:
        return same_logdet(x, (positions(x) * self.logabsdet).to(wide_dtype(x)))

    @classmethod
    def examples(cls) -> list[Example]:
        def build() -> FoldedLinear:
            return cls(torch.tensor([[1.0, 2.0], [0.5, 3.0]]), torch.tensor([1.0, -1.0]))

        return [Example(build, (2, 2, 3))]
