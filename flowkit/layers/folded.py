"""What an invertible linear map is for inference: constant, its inverse worked out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    positions,
    require_channels,
    require_shape,
    same_logdet,
    wide_dtype,
)
from flowkit.ops.linear.api import linear_map


class FoldedLinear(Bijection):
    """y = W·x + b at every place with constant W and b; W⁻¹ and log|det W| are worked out once, in
    float64, and again when the layer's precision changes or it is loaded. Writing into W isn't
    noticed (looking would make a GPU wait at every call): fold the layer it came from again.

    Args:
        weight: W (C, C).
        bias: b (C,), 0 if None.
    """

    conditional = False
    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        weight = weight.detach().clone()
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().clone()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias.to(weight.dtype))
        self._bake()

    def _bake(self) -> None:
        weight = self.weight.double()
        self.inverse_weight = torch.linalg.inv(weight)
        self.inverse_bias = -self.inverse_weight @ self.bias.double()
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
        inverse, bias = self.inverse_weight.to(dtype), self.inverse_bias.to(dtype)
        return linear_map(y, inverse, bias), -self._logdet(y)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, len(self.weight))

    def _logdet(self, x: Tensor) -> Tensor:
        return same_logdet(x, (positions(x) * self.logabsdet).to(wide_dtype(x)))

    @classmethod
    def examples(cls) -> list[Example]:
        def build() -> FoldedLinear:
            return cls(torch.tensor([[1.0, 2.0], [0.5, 3.0]]), torch.tensor([1.0, -1.0]))

        return [Example(build, (2, 2, 3))]
