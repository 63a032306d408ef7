"""What transformers are made of: attention by rotary positions, a block, a condition as keys."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import require_at_least
from flowkit.nets.rotary import angles, coordinates, turned

KeysAndValues = tuple[Tensor, Tensor]
"""(B, heads, T, D) each."""


def planes_of(who: object, hidden: int, heads: int, axes: int) -> int:
    """How many planes a head turns for each axis, if that many heads share `hidden` numbers.

    Raises:
        ValueError: they can't, or there are no such axes.
    """
    name = type(who).__name__
    if axes not in (1, 2, 3):
        raise ValueError(f"{name}: expected axes among 1, 2, 3, got {axes} (vectors: MLP)")
    for what, size in (("hidden", hidden), ("heads", heads)):
        require_at_least(who, what, size, 1)
    if hidden % heads or hidden // heads < 2 * axes:
        raise ValueError(
            f"{name}: expected hidden as a multiple of heads={heads}, with at least {2 * axes} "
            f"numbers for each, got hidden={hidden}"
        )
    return hidden // heads // (2 * axes)


class Attention(nn.Module):
    """Tokens (B, T, hidden) look at one another, at a condition's and at earlier ones.

    Vaswani et al., Attention is all you need, 2017, arXiv:1706.03762, §3.2.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # Without biases: all keys moved alike change nothing.
        self.parts = nn.Linear(hidden, 3 * hidden, bias=False)
        self.joined = nn.Linear(hidden, hidden)

    def forward(
        self,
        h: Tensor,
        angle: Tensor,
        share: KeysAndValues | None,
        past: KeysAndValues | None,
        *,
        causal: bool,
    ) -> tuple[Tensor, KeysAndValues]:
        """The answer, and the keys and values that later tokens may look at.

        Args:
            h: tokens at the positions of `angle` (T, N).
            share: a condition's, which all may see.
            past: of the tokens before these.
            causal: whether each of these sees only itself and those before it.
        """
        query, key, value = rearrange(
            self.parts(h), "b t (part head d) -> part b head t d", part=3, head=self.heads
        )
        query, key = turned(query, angle), turned(key, angle)
        if past is not None:
            key, value = (torch.cat(pair, dim=2) for pair in zip(past, (key, value), strict=True))
        seen = key, value
        mask = None
        if causal:
            mask = torch.ones(h.shape[1], key.shape[2], dtype=torch.bool, device=h.device)
            mask = mask.tril(key.shape[2] - h.shape[1])
        if share is not None:
            if mask is not None:
                mask = F.pad(mask, (share[0].shape[2], 0), value=True)
            key, value = (torch.cat(pair, dim=2) for pair in zip(share, seen, strict=True))
        answer = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.joined(rearrange(answer, "b head t d -> b t (head d)")), seen


class Block(nn.Module):
    """h ← h + attention(norm(h)),  h ← h + perceptron(norm(h)).

    Xiong et al., On layer normalization in the transformer architecture, 2020, arXiv:2002.04745.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads)
        self.into, self.out_of = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(
        self,
        h: Tensor,
        angle: Tensor,
        share: KeysAndValues | None = None,
        past: KeysAndValues | None = None,
        *,
        causal: bool = False,
    ) -> tuple[Tensor, KeysAndValues]:
        """See `Attention`."""
        told, seen = self.attention(self.first_norm(h), angle, share, past, causal=causal)
        h = h + told
        return h + self.out_of(F.gelu(self.into(self.second_norm(h)))), seen


class CondKeys(nn.Module):
    """A condition as tokens that every block may look at: their keys and values for all blocks,
    worked out once.

        (B, D) or (B, D, *S) -> (B, depth·2·hidden, T), T = ∏ S, 1 for vectors

    Each place is a token, at its own position, so that a picture may have any resolution. A
    condition of zeros is worth zeros: none. S may have up to `axes` axes.
    """

    def __init__(
        self, channels: int, hidden: int, depth: int, heads: int, count: int, axes: int
    ) -> None:
        super().__init__()
        self.depth, self.heads, self.count, self.axes = depth, heads, count, axes
        self.into = nn.Linear(channels, hidden, bias=False)
        self.out_of = nn.Linear(hidden, depth * 2 * hidden, bias=False)

    def forward(self, cond: Tensor) -> Tensor:
        if cond.dim() - 2 > self.axes:
            raise ValueError(
                f"Transformer: expected a condition with at most {self.axes} axes of places, as x "
                f"has, got {tuple(cond.shape)}"
            )
        tokens = rearrange(cond.flatten(2) if cond.dim() > 2 else cond[..., None], "b c t -> b t c")
        tokens = self.out_of(F.silu(self.into(tokens)))
        if cond.dim() == 2:
            return rearrange(tokens, "b t c -> b c t")
        key, value = rearrange(
            tokens, "b t (l two h d) -> two b l h t d", two=2, l=self.depth, h=self.heads
        )
        key = turned(key, angles(coordinates(tuple(cond.shape[2:]), cond), self.count))
        return rearrange(torch.stack([key, value]), "two b l h t d -> b (l two h d) t")

    def of_blocks(self, share: Tensor) -> list[KeysAndValues]:
        """What it gave, by block."""
        parts = rearrange(
            share, "b (l two h d) t -> l two b h t d", two=2, l=self.depth, h=self.heads
        )
        return [(key, value) for key, value in parts]
