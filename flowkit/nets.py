"""Conditioner networks: what turns one half and the condition into shift and scale."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.statistics import channel_mean_std


def init_scale_and_shift(x: Tensor) -> tuple[Tensor, Tensor]:
    """`(bias, log_scale)`, each (C,), such that (x + bias)·exp(log_scale) has mean 0 and standard
    deviation 1 in every channel of `x` (B, C, H, W). A channel that is constant over the batch says
    nothing about its scale and keeps 1. Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.1.
    """
    mean, std = channel_mean_std(x)
    return -mean, -torch.where(std > 1e-6, std, torch.ones_like(std)).log()


class ChannelNorm(nn.Module):
    """y = (x + bias)·exp(log_scale) per channel: ActNorm inside a net, where no log-det is owed.

    Unlike batch norm it is the same map for every batch, which an invertible layer needs of its
    net. `flowkit.initialize` sets it from data; before that it is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialize_from(self, x: Tensor) -> None:
        bias, log_scale = init_scale_and_shift(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bias[:, None, None]) * self.log_scale.exp()[:, None, None]


class ZeroConv(nn.Module):
    """y = (w∗x + b)·exp(3·log_scale), a 3x3 convolution that starts as the zero map (Glow, §3.3)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.log_scale = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, padding=1)
        return y * (3 * self.log_scale).exp()[:, None, None]


class ConvNet(nn.Sequential):
    """conv 3x3 – norm – ReLU – conv 1x1 – norm – ReLU – zero conv 3x3: Glow's conditioner.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        hidden: channels between.

    Takes (B, c_in, H, W), gives (B, c_out, H, W). Kingma & Dhariwal, 2018, arXiv:1807.03039, §3.3.
    """

    def __init__(self, c_in: int, c_out: int, *, hidden: int = 64) -> None:
        super().__init__(
            nn.Conv2d(c_in, hidden, 3, padding=1, bias=False),
            ChannelNorm(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1, bias=False),
            ChannelNorm(hidden),
            nn.ReLU(),
            ZeroConv(hidden, c_out),
        )
        for conv in (self[0], self[3]):
            nn.init.normal_(conv.weight, std=0.05)

    def fold(self) -> nn.Sequential:
        """The same map as five plain layers: norms and output scale merged into the convolutions."""
        return nn.Sequential(
            _folded(self[0], scale=self[1].log_scale.exp(), shift=self[1].bias),
            nn.ReLU(),
            _folded(self[3], scale=self[4].log_scale.exp(), shift=self[4].bias),
            nn.ReLU(),
            _folded(self[6], scale=(3 * self[6].log_scale).exp(), shift=self[6].bias),
        )


def _folded(conv: nn.Conv2d | ZeroConv, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """x -> (w∗x + shift)·scale as one frozen convolution, its weights worked out in float64."""
    c_out, c_in, size, _ = conv.weight.shape
    folded = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    folded.weight = nn.Parameter(
        (conv.weight.double() * scale.double()[:, None, None, None]).to(conv.weight.dtype), False
    )
    folded.bias = nn.Parameter((shift.double() * scale.double()).to(conv.weight.dtype), False)
    return folded.requires_grad_(False)


def fold_net(net: nn.Module) -> nn.Module:
    """`net.fold()` where the net offers it, else a frozen copy."""
    fold = getattr(net, "fold", None)
    return fold() if callable(fold) else copy.deepcopy(net).requires_grad_(False)
