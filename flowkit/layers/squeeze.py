"""Squeeze: trade resolution for channels."""

from __future__ import annotations

import math

from einops import rearrange
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


class Squeeze(Bijection):
    """(B, C, H, W) -> (B, C·f², H/f, W/f), each f×f block of a channel stacked; log|det| = 0. On
    sequences (B, C, T) -> (B, C·f, T/f), and so on for more axes.

    Output channel c·f² + dy·f + dx holds the samples at (dy, dx) of channel c's blocks.

    Args:
        factor: f for every axis of S, or one for each, e.g. (1, 2). S must be multiples of it.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, §3.6.

    >>> import torch
    >>> Squeeze()(torch.rand(2, 3, 8, 8))[0].shape
    torch.Size([2, 12, 4, 4])
    >>> Squeeze(4)(torch.rand(2, 1, 8))[0].shape
    torch.Size([2, 4, 2])
    """

    conditional = False

    def __init__(self, factor: int | tuple[int, ...] = 2) -> None:
        super().__init__()
        factors = factor if isinstance(factor, tuple) else (factor,)
        if not factors or any(type(f) is not int or f < 1 for f in factors):
            raise ValueError(
                f"Squeeze: expected a factor of at least 1, or a tuple of such, got {factor}"
            )
        self.factor = factor

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        whole, blocks, places, sizes = _axes(self._factors(x.shape[1:], inverse=False))
        return rearrange(x, f"b c {whole} -> b (c {blocks}) {places}", **sizes), zero_logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y)
        whole, blocks, places, sizes = _axes(self._factors(y.shape[1:], inverse=True))
        return rearrange(y, f"b (c {blocks}) {places} -> b c {whole}", **sizes), zero_logdet(y)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        factors = self._factors(shape, inverse=inverse)
        channels, *places = shape
        block = math.prod(factors)
        if inverse:
            return channels // block, *(s * f for s, f in zip(places, factors, strict=True))
        return channels * block, *(s // f for s, f in zip(places, factors, strict=True))

    def _factors(self, shape: Shape, *, inverse: bool) -> tuple[int, ...]:
        channels, *places = require_shape(self, shape)
        factor = self.factor
        factors = factor if isinstance(factor, tuple) else (factor,) * len(places)
        if not places or len(factors) != len(places):
            wanted = f"{len(factors)} axes" if factors else "at least one axis"
            raise ValueError(
                f"Squeeze: expected samples with {wanted} behind the channels, got {tuple(shape)}"
            )
        if inverse and channels % math.prod(factors):
            raise ValueError(
                f"Squeeze.inverse: expected channels a multiple of {math.prod(factors)}, "
                f"got samples of shape {tuple(shape)}"
            )
        if not inverse and any(s % f for s, f in zip(places, factors, strict=True)):
            axes = {1: "T", 2: "H and W"}.get(len(places), "all axes of S")
            raise ValueError(
                f"Squeeze: expected {axes} to be multiples of {factor}, "
                f"got samples of shape {tuple(shape)}; crop or pad them"
            )
        return factors

    def extra_repr(self) -> str:
        return f"{self.factor}"

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls, (2, 4, 2), name="2"),
            Example(lambda: cls(3), (1, 3, 6), name="3"),
            Example(lambda: cls((1, 2)), (2, 3, 4), name="one axis of two"),
            Example(cls, (2, 6), name="time"),
        ]


def _axes(factors: tuple[int, ...]) -> tuple[str, str, str, dict[str, int]]:
    """Names of the whole axes, of those within a block and of those of the blocks, for einops; and
    the sizes of the second."""
    numbers = range(len(factors))
    whole = " ".join(f"(s{i} d{i})" for i in numbers)
    blocks, places = (" ".join(f"{name}{i}" for i in numbers) for name in "ds")
    return whole, blocks, places, {f"d{i}": factors[i] for i in numbers}
