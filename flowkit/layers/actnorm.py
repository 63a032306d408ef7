"""Activation normalisation: one shift and one scale per channel, set from data once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    positions,
    require_at_least,
    require_channels,
    require_shape,
    same_logdet,
    wide,
)
from flowkit.statistics import normalizing, scaled


class ActNorm(Bijection):
    """y = (x + bias)·exp(log_scale),  log|det| = |S|·Σ log_scale, |S| the number of places.

    `flowkit.initialize` sets both so that y has mean 0 and standard deviation 1 per channel; before
    that the layer is the identity.

    Args:
        channels: C of the input (B, C, *S).

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.1.

    >>> layer, x = ActNorm(3), 5 + torch.rand(64, 3)
    >>> layer.initialize_from(x)
    >>> layer(x)[0].mean().abs() < 1e-4
    tensor(True)
    """

    conditional = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        self.channels = channels
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x, self.channels)
        x = wide(x)
        bias, log_scale = self.bias.to(x.dtype), self.log_scale.to(x.dtype)
        scale = log_scale.exp()
        return scaled(x, scale, bias * scale), same_logdet(x, positions(x) * log_scale.sum())

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels)
        y = wide(y)
        bias, log_scale = self.bias.to(y.dtype), self.log_scale.to(y.dtype)
        x = scaled(y, (-log_scale).exp(), -bias)
        return x, same_logdet(y, -positions(y) * log_scale.sum())

    @torch.no_grad()
    def initialize_from(self, x: Tensor) -> None:
        require_channels(self, x, self.channels)
        bias, log_scale = normalizing(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}"

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls(3), (3, 2, 3), name="images"),
            Example(lambda: cls(3), (3,), name="vectors"),
        ]
