"""Gated convolutions and self-attention in turn, Flow++'s conditioner."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import require_at_least
from flowkit.nets.attention import Attention, planes_of
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.conv import CONV
from flowkit.nets.rotary import angles, coordinates
from flowkit.nets.zero import ZeroConv


class Gate(nn.Module):
    """a∘sigmoid(b) with [a, b] = A·h, for tokens h (B, T, hidden).

    Dauphin et al., Language modeling with gated convolutional networks, 2017, arXiv:1612.08083.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.both = nn.Linear(hidden, 2 * hidden)

    def forward(self, h: Tensor) -> Tensor:
        return F.glu(self.both(h), dim=2)


class ConvAttentionBlock(nn.Module):
    """h ← norm(h + gate(σ(C·σ(h)))),  h ← norm(h + gate(attention(h))), with σ = SiLU and a
    convolution C of width 3."""

    def __init__(self, hidden: int, heads: int, axes: int) -> None:
        super().__init__()
        self.conv = CONV[axes](hidden, hidden, 3, padding=1)
        self.attention = Attention(hidden, heads)
        self.first_gate, self.second_gate = Gate(hidden), Gate(hidden)
        self.first_norm, self.second_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, h: Tensor, angle: Tensor, added: Tensor | float) -> Tensor:
        """h (B, hidden, *S) at positions turned by `angle` (T, N); `added`: a condition's share."""
        near = _tokens(F.silu(self.conv(F.silu(h)) + added))
        places, h = h.shape[2:], _tokens(h)
        h = self.first_norm(h + self.first_gate(near))
        far, _ = self.attention(h, angle, None, None, causal=False)
        h = self.second_norm(h + self.second_gate(far))
        return rearrange(h, "b t c -> b c t").unflatten(2, places)


class ConvAttentionNet(Conditioner):
    """conv 3, `blocks` of gated convolution and self-attention, zero conv 3.

    Every place sees all others, at a cost of |S|² in each block. Positions are rotary, normed by
    the size of the whole, so that one net serves any height × width. The condition is added to the
    first convolution and inside every block, by one linear map that is done once for all samples of
    a condition.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: channels between, a multiple of `heads`.
        blocks: number of blocks, at least 1.
        heads: of attention, each of at least 2·axes numbers.
        axes: 1 for sequences (B, C, T), 2 for images (B, C, H, W), 3 for volumes.

    Takes (B, c_in, *S) and a condition (B, D) or (B, D, *S), gives (B, c_out, *S). Ho et al.,
    Flow++, 2019, arXiv:1902.00275, §3.2, with SiLU and rotary positions.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        cond_channels: int = 0,
        hidden: int = 64,
        blocks: int = 2,
        heads: int = 4,
        axes: int = 2,
    ) -> None:
        super().__init__()
        self.planes = planes_of(self, hidden, heads, axes)
        require_at_least(self, "blocks", blocks, 1)
        self.cond_channels, self.axes = cond_channels, axes
        self.first = CONV[axes](c_in, hidden, 3, padding=1)
        self.first_cond = None
        if cond_channels:
            width = hidden * (1 + blocks)
            self.first_cond = CONV[axes](cond_channels, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(ConvAttentionBlock(hidden, heads, axes) for _ in range(blocks))
        self.last = ZeroConv(hidden, c_out, axes=axes)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        count = 1 + len(self.blocks)
        own, *shares = [0.0] * count if share is None else share.chunk(count, dim=1)
        h = self.first(x) + own
        angle = angles(coordinates(tuple(x.shape[2:]), x), self.planes)
        for block, added in zip(self.blocks, shares, strict=True):
            h = block(h, angle, added)
        return self.last(h)

    def extra_repr(self) -> str:
        return f"heads={self.blocks[0].attention.heads}, axes={self.axes}"  # pyright: ignore


def _tokens(h: Tensor) -> Tensor:
    """(B, C, *S) -> (B, T, C), T = ∏ S."""
    return rearrange(h.flatten(2), "b c t -> b t c")
