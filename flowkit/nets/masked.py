"""Masked autoencoder: a net each of whose outputs sees only the inputs before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.conditions import Unchanged
from flowkit.contract import HoldsCondition, repeated
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

    def __init__(
        self, channels: int, count: int, *, cond_channels: int = 0, hidden: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"MADE: expected depth >= 1, got {depth}")
        self.cond_channels = cond_channels
        inputs = torch.arange(1, channels + 1)
        between = torch.arange(hidden) % max(1, channels - 1) + 1
        outputs = inputs.repeat(count)
        self.first = MaskedLinear((between[:, None] >= inputs).float())
        self.first_cond = nn.Linear(cond_channels, hidden, bias=False) if cond_channels else None
        self.between = nn.ModuleList(
            MaskedLinear((between[:, None] >= between).float()) for _ in range(depth - 1)
        )
        self.last = MaskedLinear((outputs[:, None] > between).float())
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        # Output 0 sees no unit, so it can only know the condition by a way of its own.
        self.last_cond = None
        if cond_channels:
            self.last_cond = nn.Linear(cond_channels, count * channels, bias=False)
            nn.init.zeros_(self.last_cond.weight)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        if self.first_cond is None or self.last_cond is None:
            return self.rest(self.first(x))
        assert cond is not None
        return self.rest(self.first(x) + self.first_cond(cond)) + self.last_cond(cond)

    def rest(self, x: Tensor) -> Tensor:
        """What follows the first layer."""
        for layer in self.between:
            x = layer(F.silu(x))
        return self.last(F.silu(x))

    def given(self, cond: Tensor) -> nn.Module:
        return GivenMADE(self, cond) if type(self) is MADE else super().given(cond)


class GivenMADE(nn.Module, HoldsCondition):
    """A `MADE` whose layers of the condition are done."""

    def __init__(self, net: MADE, cond: Tensor) -> None:
        super().__init__()
        assert net.first_cond is not None
        assert net.last_cond is not None
        self.net = net
        self.shares = net.first_cond(cond), net.last_cond(cond)
        parameters = [*net.first_cond.parameters(), *net.last_cond.parameters()]
        self.unchanged = Unchanged("MADE", parameters)

    def forward(self, x: Tensor) -> Tensor:
        self.unchanged.require()
        first, last = (repeated(self.net, share, x) for share in self.shares)
        return self.net.rest(self.net.first(x) + first) + last
