"""Transformer over the places of sequences and images of any size."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from flowkit.contract import require_at_least
from flowkit.nets.attention import Block, CondKeys, KeysAndValues, planes_of
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.rotary import angles, coordinates

FREQUENCIES = 8  # of each coordinate, in what a token is told about its place


class Transformer(Conditioner):
    """A vision transformer: each place of x is a token that sees all others, and a condition's.

    Positions are rotary in attention, and told to each token in sines and cosines; both are normed
    by the size of the whole, so that one net serves any height × width.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: width of a token, a multiple of `heads`.
        depth: number of blocks, at least 1.
        heads: of attention, each of at least 2·axes numbers.
        axes: 1 for sequences (B, C, T), 2 for images (B, C, H, W), 3 for volumes.

    Takes (B, c_in, *S) and a condition (B, D), or (B, D, *S') with places of its own, at any
    resolution; gives (B, c_out, *S). A condition of zeros is as good as none: `guided` counts on a
    net that has seen such while training.

    Dosovitskiy et al., An image is worth 16x16 words, 2021, arXiv:2010.11929; positions as in Gu et
    al., STARFlow, 2025, arXiv:2506.06276.
    """

    cond_places = False
    guidance = 0.0
    """w in (1 + w)·net(x, cond) - w·net(x, 0), see `guided`."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        cond_channels: int = 0,
        hidden: int = 64,
        depth: int = 2,
        heads: int = 4,
        axes: int = 2,
    ) -> None:
        super().__init__()
        self.count = planes_of(self, hidden, heads, axes)
        require_at_least(self, "depth", depth, 1)
        self.cond_channels, self.axes = cond_channels, axes
        self.first = nn.Linear(c_in, hidden)
        self.place = nn.Linear(2 * axes * FREQUENCIES, hidden, bias=False)
        self.first_cond = None
        if cond_channels:
            self.first_cond = CondKeys(cond_channels, hidden, depth, heads, self.count, axes)
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden)
        self.last = nn.Linear(hidden, c_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def answer(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        return self.mixed(self.respond(*self.with_and_without(x, share)))

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        places = tuple(x.shape[2:])
        where = coordinates(places, x)
        tokens = rearrange(x.flatten(2), "b c t -> b t c")
        answer, _ = self.run(self.first(tokens), where, share)
        return rearrange(answer, "b t c -> b c t").unflatten(2, places)

    def run(
        self,
        h: Tensor,
        where: Tensor,
        share: Tensor | None,
        past: list[KeysAndValues] | None = None,
        *,
        causal: bool = False,
    ) -> tuple[Tensor, list[KeysAndValues]]:
        """(B, T, c_out) for tokens h (B, T, hidden) at coordinates `where`, and what later tokens
        may look at."""
        told = angles(where, FREQUENCIES)
        h = h + self.place(torch.cat([told.sin(), told.cos()], dim=1).to(h.dtype))
        angle = angles(where, self.count)
        conds: list[KeysAndValues | None] = [None] * len(self.blocks)
        if share is not None:
            assert isinstance(self.first_cond, CondKeys)
            conds = [*self.first_cond.of_blocks(share)]
        seen = []
        for number, block in enumerate(self.blocks):
            before = None if past is None else past[number]
            h, now = block(h, angle, conds[number], before, causal=causal)
            seen.append(now)
        return self.last(self.norm(h)), seen

    def with_and_without(self, x: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Under guidance x twice, the second time without its condition."""
        if not self.guidance or share is None:
            return x, share
        return torch.cat([x, x]), torch.cat([share, torch.zeros_like(share)])

    def mixed(self, answer: Tensor) -> Tensor:
        """(1 + w)·(the answer with the condition) - w·(the one without)."""
        if not self.guidance or self.first_cond is None:
            return answer
        under, without = answer.chunk(2)
        return under + self.guidance * (under - without)

    def extra_repr(self) -> str:
        guidance = f", guidance={self.guidance:g}" if self.guidance else ""
        return f"heads={self.blocks[0].attention.heads}, axes={self.axes}{guidance}"  # pyright: ignore
