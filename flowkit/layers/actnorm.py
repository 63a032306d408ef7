"""Activation normalisation: one shift and one scale per channel, set from data once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.bijection import Bijection, Cond, Example, logdet_dtype, require_image
from flowkit.nets import init_scale_and_shift


class ActNorm(Bijection):
    """y = (x + bias)·exp(log_scale),  log|det| = H·W·Σ log_scale.

    `flowkit.initialize` sets both so that y has mean 0 and standard deviation 1 per channel; before
    that the layer is the identity.

    Args:
        channels: C of the input (B, C, H, W).

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, x, self.channels)
        bias, log_scale, logdet = self._broadcast(x)
        return (x.to(bias.dtype) + bias) * log_scale.exp(), logdet

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, y, self.channels)
        bias, log_scale, logdet = self._broadcast(y)
        return y.to(bias.dtype) * (-log_scale).exp() - bias, -logdet

    def _broadcast(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dtype = logdet_dtype(x)
        bias = self.bias.to(dtype)[:, None, None]
        log_scale = self.log_scale.to(dtype)[:, None, None]
        logdet = x.shape[2] * x.shape[3] * log_scale.sum()
        return bias, log_scale, logdet.expand(x.shape[0])

    @torch.no_grad()
    def initialize_from(self, x: Tensor) -> None:
        bias, log_scale = init_scale_and_shift(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(lambda: cls(3), (3, 2, 2))]
