"""Noise that is averaged over frames where nothing moves."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 5  # pixels, of the place over which a change is looked for
STILL, MOVED = 2.0, 6.0  # a change's square over what noise makes it
LEAST = 0.25  # share of a frame where nothing moves: noise of sqrt(1/7)
BLOCK = 16  # pixels a side, in which noise is measured


class Calm:
    """A running mean of frames, which follows at once what changes by more than noise does:

        m += s·(x - m),   s from 1/4 to 1 as d² / v goes from 2 to 6

    with d the mean of x - m over 5×5 pixels and v the variance that noise alone gives d. What moves
    unseen is fainter than the noise of single pixels: |d| < sqrt(6·1.15 / 25)·σ, half of it.
    """

    def __init__(self) -> None:
        self.mean: Tensor | None = None

    def restart(self) -> None:
        """Forget: the next frame stays as it is."""
        self.mean = None

    def next(self, frame: Tensor) -> Tensor:
        """(3, H, W) -> the mean of it and those before."""
        if self.mean is None:
            self.mean = frame
            return frame
        change = frame - self.mean
        noise = min(noise_of(frame), _median(change.square().mean(0)))
        # A mean that has forgotten all but a quarter a frame has a seventh of the noise.
        expected = max(noise * (1 + LEAST / (2 - LEAST)) / SIDE**2, 1e-12)
        local = F.avg_pool2d(change[None], SIDE, 1, SIDE // 2, count_include_pad=False)[0]
        moved = (local.square().mean(0) / expected - STILL) / (MOVED - STILL)
        self.mean = self.mean + (LEAST + (1 - LEAST) * moved.clamp(0, 1)) * change
        return self.mean


def noise_of(frame: Tensor) -> float:
    """The variance of a frame's noise, as its less restless half has it.

        σ² = π/2·(mean of |N * x| / 6)²,   N = (1 -2 1)ᵀ(1 -2 1)

    in 16×16 blocks, of which the median is taken. John Immerkær, "Fast Noise Variance Estimation",
    Computer Vision and Image Understanding 64(2), 1996.
    """
    if min(frame.shape[1:]) < 3:
        return 0.0
    line = torch.tensor([1.0, -2.0, 1.0])
    kernel = (line[:, None] * line)[None, None]
    restless = F.conv2d(frame[:, None], kernel).abs().mean((0, 1))[None]
    size = min(BLOCK, *restless.shape[1:])
    blocks = F.avg_pool2d(restless, size) / 6
    return math.pi / 2 * _median(blocks) ** 2


def _median(values: Tensor) -> float:
    return values.flatten().median().item()
