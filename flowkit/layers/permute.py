"""Permute: a fixed reordering of the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    require_channels,
    require_shape,
    zero_logdet,
)
from flowkit.layers.order import permutation


class Permute(Bijection):
    """y[:, i] = x[:, order[i]],  log|det| = 0.

    Args:
        order: a permutation of 0 … C-1 for input (B, C, *S). `torch.randperm(C).tolist()` shuffles
            the channels. It is a buffer, not a parameter.

    Raises:
        TypeError, ValueError: it is none; or, on use, the input has another number of channels.

    Dinh et al., NICE, 2015, arXiv:1410.8516, §3.2.

    >>> import torch
    >>> Permute([2, 0, 1])(torch.tensor([[1.0, 2.0, 3.0]]))[0]
    tensor([[3., 1., 2.]])
    """

    conditional = False
    order: Tensor
    inverse_order: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor(permutation(self, order)))
        self.register_buffer("inverse_order", torch.argsort(self.order))

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x, len(self.order))
        return x.index_select(1, self.order), zero_logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, len(self.order))
        return y.index_select(1, self.inverse_order), zero_logdet(y)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, len(self.order))

    def extra_repr(self) -> str:
        return f"{len(self.order)} channels"  # the order is a buffer, saved and loaded

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls([2, 0, 3, 1]), (4, 1, 2)),
            Example(lambda: cls([1, 2, 0]), (3,)),
        ]
