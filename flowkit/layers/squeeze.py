"""Squeeze: trade resolution for channels."""

from __future__ import annotations

import math

from einops import rearrange
from torch import Tensor

from flowkit.contract import Bijection, Cond, Example, Shape, require_channels, zero_logdet


class Squeeze(Bijection):
    """(B, C, H, W) -> (B, C·f², H/f, W/f), each f×f block of a channel stacked; log|det| = 0. On
    sequences (B, C, T) -> (B, C·f, T/f), and so on for more axes.

    Output channel c·f² + dy·f + dx holds the samples at (dy, dx) of channel c's blocks.

    Args:
        factor: f for every axis of S, or one for each, e.g. (1, 2). S must be multiples of it.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, §3.6.
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
        factors = self._factors(tuple(x.shape[1:]), inverse=False)
        places, blocks, sizes = _names(factors)
        whole = " ".join(f"({s} {d})" for s, d in zip(places, blocks, strict=True))
        pattern = f"b c {whole} -> b (c {' '.join(blocks)}) {' '.join(places)}"
        return rearrange(x, pattern, **sizes), zero_logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y)
        factors = self._factors(tuple(y.shape[1:]), inverse=True)
        places, blocks, sizes = _names(factors)
        whole = " ".join(f"({s} {d})" for s, d in zip(places, blocks, strict=True))
        pattern = f"b (c {' '.join(blocks)}) {' '.join(places)} -> b c {whole}"
        return rearrange(y, pattern, **sizes), zero_logdet(y)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        factors = self._factors(shape, inverse=inverse)
        channels, *places = shape
        block = math.prod(factors)
        if inverse:
            return channels // block, *(s * f for s, f in zip(places, factors, strict=True))
        return channels * block, *(s // f for s, f in zip(places, factors, strict=True))

    def _factors(self, shape: Shape, *, inverse: bool) -> tuple[int, ...]:
        channels, *places = shape
        factors = self.factor
        if not isinstance(factors, tuple):
            factors = (factors,) * len(places)
        if not places or len(factors) != len(places):
            wanted = "at least one axis" if not isinstance(self.factor, tuple) else len(factors)
            raise ValueError(
                f"Squeeze: expected {wanted} after the channels to trade, got (C, *S) = {shape}"
            )
        if inverse and channels % math.prod(factors):
            raise ValueError(
                f"Squeeze.inverse: expected channels a multiple of {math.prod(factors)}, "
                f"got (C, *S) = {shape}"
            )
        if not inverse and any(s % f for s, f in zip(places, factors, strict=True)):
            raise ValueError(
                f"Squeeze: expected {_axes(len(places))} to be multiples of {self.factor}, "
                f"got (C, *S) = {shape} (crop or pad)"
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


def _names(factors: tuple[int, ...]) -> tuple[list[str], list[str], dict[str, int]]:
    """Names of the axes after squeezing, of those within a block, and the sizes of the latter."""
    places = [f"s{i}" for i in range(len(factors))]
    blocks = [f"d{i}" for i in range(len(factors))]
    return places, blocks, dict(zip(blocks, factors, strict=True))


def _axes(count: int) -> str:
    return {1: "T", 2: "H and W"}.get(count, "all axes of S")
