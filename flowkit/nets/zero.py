"""Last layers that start at zero, and norms inside nets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import along_channels
from flowkit.statistics import normalizing, scaled

CONVOLUTION = {0: F.linear, 1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class ChannelNorm(nn.Module):
    """y = (x + bias)·exp(log_scale) per channel of x (B, C, *S): ActNorm inside a net, where no
    log-det is owed.

    Unlike batch norm it is the same map for every batch, which an invertible layer needs of its
    net. `flowkit.initialize` sets it from data; before that it is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialize_from(self, x: Tensor) -> None:
        bias, log_scale = normalizing(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.log_scale.exp()
        return scaled(x, scale, self.bias * scale)


class ZeroConv(nn.Module):
    """y = (w∗x + b)·exp(3·log_scale), a convolution of width 3 that starts at zero.

    Args:
        c_in, c_out: channels.
        axes: of S in x (B, c_in, *S); 0 is a linear layer on vectors.

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.3; the learned output scale is from the code
    that they released.
    """

    def __init__(self, c_in: int, c_out: int, *, axes: int = 2) -> None:
        super().__init__()
        self.axes = axes
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, *[3] * axes))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.log_scale = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        padding = {"padding": 1} if self.axes else {}
        y = CONVOLUTION[self.axes](x, self.weight, self.bias, **padding)
        return y * along_channels((3 * self.log_scale).exp(), y)
