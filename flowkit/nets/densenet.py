"""Densely connected network, a conditioner each of whose layers sees all before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import require_at_least
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.places import layer, require_axes
from flowkit.nets.zero import ZeroConv


class DenseNet(Conditioner):
    """h₀ = A₀·x,  hₖ = Aₖ·σ([h₀ … hₖ₋₁]),  net = Z·σ([h₀ … h_depth]) with σ = SiLU and a Z that
    starts at zero; A, Z are linear on vectors and convolutions of width 3 on sequences and images.

    The condition is added to every hₖ, by one linear map that is done once for all samples of a
    condition.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: channels of each hₖ, the network's growth.
        depth: number of layers after the first, at least 1.
        axes: of S: 0 for vectors (B, C), 1 for sequences (B, C, T), 2 for images (B, C, H, W), 3
            for volumes.

    Takes (B, c_in, *S) and a condition (B, D) or (B, D, *S), gives (B, c_out, *S). Huang et al.,
    Densely connected convolutional networks, 2017, arXiv:1608.06993, eq. 2, without its norms.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        cond_channels: int = 0,
        hidden: int = 64,
        depth: int = 3,
        axes: int = 0,
    ) -> None:
        super().__init__()
        require_axes(self, axes)
        require_at_least(self, "hidden", hidden, 1)
        require_at_least(self, "depth", depth, 1)
        self.cond_channels, self.axes = cond_channels, axes
        self.first = layer(axes, c_in, hidden)
        self.first_cond = None
        if cond_channels:
            self.first_cond = layer(axes, cond_channels, hidden * (1 + depth), bias=False)
        self.between = nn.ModuleList(layer(axes, k * hidden, hidden) for k in range(1, 1 + depth))
        self.last = ZeroConv((1 + depth) * hidden, c_out, axes=axes)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        count = 1 + len(self.between)
        own, *shares = [0.0] * count if share is None else share.chunk(count, dim=1)
        h = self.first(x) + own
        for between, added in zip(self.between, shares, strict=True):
            h = torch.cat([h, between(F.silu(h)) + added], dim=1)
        return self.last(F.silu(h))
