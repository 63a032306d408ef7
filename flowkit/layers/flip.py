"""Flip: the channels in reverse."""

from __future__ import annotations

from torch import Tensor

from flowkit.contract import Bijection, Cond, Example, require_channels, zero_logdet


class Flip(Bijection):
    """y[:, i] = x[:, C-1-i],  log|det| = 0: what one coupling kept, the next one changes.

    For (B, C, *S) with any C. Dinh et al., NICE, 2015, arXiv:1410.8516, §3.2.

    >>> import torch
    >>> Flip()(torch.tensor([[1.0, 2.0, 3.0]]))[0]
    tensor([[3., 2., 1.]])
    """

    conditional = False

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        return x.flip(1), zero_logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self.forward(y, cond)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls, (3, 2)), Example(cls, (2,))]
