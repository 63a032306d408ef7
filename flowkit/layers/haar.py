"""Haar: sums and differences of neighbours, in place of neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    require_channels,
    require_shape,
    wide,
    zero_logdet,
)


class Haar(Bijection):
    """(B, C, H, W) -> (B, 4C, H/2, W/2), the Haar wavelet of each 2×2 block; log|det| = 0. On
    sequences (B, C, T) -> (B, 2C, T/2), on volumes 8C channels, and so on.

    Along one axis after the other a pair (a, b) of neighbours becomes

        low = (a + b)/√2,  high = (a - b)/√2,

    an orthogonal map. The channels are those of all lows, then those of all highs, of the first
    axis within those of the last, so the first C ones hold the picture at half its size, twice as
    bright: `Chain(Haar(), split(C, rest, prior))` makes the details noise given the coarse.

    Raises (on use):
        ValueError: S has no axis, or an odd size.

    Haar, Zur Theorie der orthogonalen Funktionensysteme, 1910; in flows, Ardizzone et al., Guided
    image generation with conditional invertible neural networks, 2019, arXiv:1907.02392.
    """

    conditional = False

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        self.shape(tuple(x.shape[1:]))
        y = wide(x)
        for axis in range(2, x.dim()):
            a, b = y.unflatten(axis, (-1, 2)).unbind(axis + 1)
            y = torch.cat([a + b, a - b], dim=1) * math.sqrt(0.5)
        return y, zero_logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y)
        self.shape(tuple(y.shape[1:]), inverse=True)
        x = wide(y)
        for axis in reversed(range(2, y.dim())):
            low, high = x.chunk(2, dim=1)
            x = torch.stack([low + high, low - high], dim=axis + 1) * math.sqrt(0.5)
            x = x.flatten(axis, axis + 1)
        return x, zero_logdet(y)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        channels, *places = require_shape(self, shape)
        bands = 2 ** len(places)
        if not places:
            raise ValueError(f"Haar: expected samples (C, *S) with places, got {tuple(shape)}")
        if inverse and channels % bands:
            raise ValueError(
                f"Haar.inverse: expected channels a multiple of {bands}, got samples of shape "
                f"{tuple(shape)}"
            )
        if inverse:
            return channels // bands, *(2 * size for size in places)
        if any(size % 2 for size in places):
            raise ValueError(
                f"Haar: expected even sizes, got samples of shape {tuple(shape)}; crop or pad them"
            )
        return bands * channels, *(size // 2 for size in places)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls, (2, 4, 2), name="images"),
            Example(cls, (2, 6), name="sequences"),
            Example(cls, (1, 2, 2, 2), name="volumes"),
        ]
