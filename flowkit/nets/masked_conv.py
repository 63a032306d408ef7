"""Masked convolutions: a net each of whose outputs sees only what comes before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import require_at_least
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.conv import CONV
from flowkit.nets.zero import CONVOLUTION


class MaskedConvolution(nn.Module):
    """y = (w∘m)∗x + b: a place sees the places before it, in rows, and of itself the channels that
    `centre` (c_out, c_in) allows."""

    mask: Tensor

    def __init__(self, centre: Tensor, width: int, axes: int) -> None:
        super().__init__()
        taps = width**axes
        mask = torch.zeros(*centre.shape, taps)
        mask[..., : taps // 2] = 1
        mask[..., taps // 2] = centre
        self.axes, self.padding = axes, width // 2
        mask = mask.reshape(*centre.shape, *[width] * axes)
        self.register_buffer("mask", mask, persistent=False)
        self.weight = nn.Parameter(torch.empty(self.mask.shape))
        self.bias = nn.Parameter(torch.zeros(len(centre)))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.mask
        return CONVOLUTION[self.axes](x, weight, self.bias, padding=self.padding)

    def extra_repr(self) -> str:
        c_out, c_in, *widths = self.mask.shape
        return f"{c_in}, {c_out}, width={widths[0]}, axes={self.axes}"


class MaskedConv(Conditioner):
    """`count` numbers for each element of x (B, C, *S), which depend on those before it alone: the
    channels before it at its own place, and the places before that, from row to row; on sequences
    those earlier in time.

    A masked convolution of `width`, `depth` residual ones of width 3, one of width 1. The units
    between see from none to C - 1 channels of their own place, in equal shares. The condition is
    seen by all of them, at its own place and beside it, earlier or not.

    How far back an output sees is width // 2 + depth places on each axis. In pictures it sees a
    cone above it and so nothing far to the right of that (the blind spot of PixelCNN): one layer
    sees `reach` columns ahead in the rows above, reach = max(width // 2, 1).

    Args:
        channels: C.
        count: numbers for each.
        cond_channels: D of the condition, 0 for none.
        hidden: channels between.
        depth: number of the layers of width 3, at least 1.
        width: of the first convolution, odd.
        axes: 1 for sequences (B, C, T), 2 for images (B, C, H, W), 3 for volumes.

    Takes (B, C, *S) and a condition (B, D) or (B, D, *S), gives (B, count·C, *S): number k of
    channel c at k·C + c. It is 0 until training moves the last layer. van den Oord et al., Pixel
    recurrent neural networks, 2016, arXiv:1601.06759, §3.4-3.5 (masks A and B).
    """

    def __init__(
        self,
        channels: int,
        count: int,
        *,
        cond_channels: int = 0,
        hidden: int = 64,
        depth: int = 3,
        width: int = 5,
        axes: int = 2,
    ) -> None:
        super().__init__()
        require_at_least(self, "hidden", hidden, 1)
        require_at_least(self, "depth", depth, 1)
        require_at_least(self, "width", width, 1)
        if axes not in CONV or width % 2 == 0:
            raise ValueError(
                "MaskedConv: expected axes among 1, 2, 3 and an odd width, got "
                f"{axes} and {width} (vectors: MADE)"
            )
        self.cond_channels, self.axes = cond_channels, axes
        self.reach = max(width // 2, 1)
        inputs = torch.arange(channels)
        units = (torch.arange(hidden) * channels // hidden)[:, None]
        outputs = inputs.repeat(count)[:, None]
        self.first = MaskedConvolution(units > inputs, width, axes)
        self.first_cond = None
        if cond_channels:
            self.first_cond = CONV[axes](cond_channels, hidden, 3, padding=1, bias=False)
        self.between = nn.ModuleList(
            MaskedConvolution(units >= units.T, 3, axes) for _ in range(depth)
        )
        self.last = MaskedConvolution(outputs >= units.T, 1, axes)
        nn.init.zeros_(self.last.weight)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x = self.first(x) if share is None else self.first(x) + share
        for layer in self.between:
            x = x + layer(F.silu(x))
        return self.last(F.silu(x))
