"""Masked autoencoder: a net each of whose outputs sees only the inputs before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.nets.conditioner import Conditioner


class MaskedLinear(nn.Linear):
    """y = (w∘m)·x + b with a fixed mask m (c_out, c_in) of zeros and ones."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(Conditioner):
    """`count` numbers for each of n inputs, which depend on the inputs before it alone.

    Input i has degree i + 1, a unit between sees inputs up to its own degree, output i units of
    lower degree than i + 1. The condition is seen by every unit.

    Args:
        channels: n.
        count: numbers for each.
        cond_channels: D of the condition, 0 for none.
        hidden: width of the layers between.
        depth: number of the layers between, at least 1.

    Takes x (B, n) and a condition (B, D), gives (B, count·n): number k of input i is at k·n + i.
    It is 0 until training moves the last layer. Germain et al., MADE, 2015, arXiv:1502.03509, eq.
    12-13, with degrees in turn instead of drawn.
    """

    axes = 0

    def __init__(
        self, channels: int, count: int, *, cond_channels: int = 0, hidden: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"MADE: expected depth >= 1, got {depth}")
        self.cond_channels, self.hidden = cond_channels, hidden
        inputs = torch.arange(1, channels + 1)
        between = torch.arange(hidden) % max(1, channels - 1) + 1
        outputs = inputs.repeat(count)
        self.first = MaskedLinear((between[:, None] >= inputs).float())
        self.first_cond = None
        if cond_channels:
            # The first output sees no unit, so the outputs have a way of their own as well.
            self.first_cond = nn.Linear(cond_channels, hidden + len(outputs), bias=False)
            nn.init.zeros_(self.first_cond.weight[hidden:])
        self.between = nn.ModuleList(
            MaskedLinear((between[:, None] >= between).float()) for _ in range(depth - 1)
        )
        self.last = MaskedLinear((outputs[:, None] > between).float())
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x = self.first(x) if share is None else self.first(x) + share[:, : self.hidden]
        for layer in self.between:
            x = layer(F.silu(x))
        y = self.last(F.silu(x))
        return y if share is None else y + share[:, self.hidden :]
