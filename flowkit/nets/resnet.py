"""Residual network, a deep conditioner for vectors, sequences and images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import require_at_least, require_real
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.places import layer, require_axes
from flowkit.nets.zero import ZeroConv


class ResNet(Conditioner):
    """h₀ = A·x,  hₖ = hₖ₋₁ + Cₖ·σ(Bₖ·σ(hₖ₋₁)),  net = gain·Z·σ(h) with σ = SiLU and a Z that starts
    at zero; A, B, C, Z are linear on vectors, convolutions of width 3 on sequences and images.

    The condition is added to h₀ and inside every block, by one linear map that is done once for all
    samples of a condition.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: channels between.
        blocks: number of blocks, at least 1.
        axes: of S: 0 for vectors (B, C), 1 for sequences (B, C, T), 2 for images (B, C, H, W), 3
            for volumes.
        gain: of the output; below 1 an optimiser of fixed steps, such as Adam, moves it less.

    Takes (B, c_in, *S) and a condition (B, D) or (B, D, *S), gives (B, c_out, *S). He et al.,
    Identity mappings in deep residual networks, 2016, arXiv:1603.05027, fig. 4e, without its norms.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        cond_channels: int = 0,
        hidden: int = 64,
        blocks: int = 2,
        axes: int = 0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        require_axes(self, axes)
        require_real(self, gain=gain)
        require_at_least(self, "hidden", hidden, 1)
        require_at_least(self, "blocks", blocks, 1)
        self.cond_channels, self.axes, self.gain = cond_channels, axes, gain
        self.first = layer(axes, c_in, hidden)
        self.first_cond = None
        if cond_channels:
            self.first_cond = layer(axes, cond_channels, hidden * (1 + blocks), bias=False)
        self.into = nn.ModuleList(layer(axes, hidden, hidden) for _ in range(blocks))
        self.out_of = nn.ModuleList(layer(axes, hidden, hidden) for _ in range(blocks))
        self.last = ZeroConv(hidden, c_out, axes=axes)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        count = 1 + len(self.into)
        own, *shares = [0.0] * count if share is None else share.chunk(count, dim=1)
        h = self.first(x) + own
        for into, out_of, added in zip(self.into, self.out_of, shares, strict=True):
            h = h + out_of(F.silu(into(F.silu(h)) + added))
        return self.gain * self.last(F.silu(h))

    def extra_repr(self) -> str:
        return "" if self.gain == 1 else f"gain={self.gain:g}"
