"""Transformer each of whose outputs sees only the places before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from flowkit.nets.rotary import coordinates
from flowkit.nets.transformer import Transformer


class CausalTransformer(Transformer):
    """`Transformer`, but the numbers for a place depend on the places before it alone, row by row,
    or with `reverse` on those after it; for the first one, on a learned start token. The condition
    is seen by all.

    The token for a place is made of the place before; its positions are those of the place that it
    is to tell about. `steps` gives the same numbers place by place.

    Args: see `Transformer`; reverse: whether the last place is the first one.

    Zhai et al., Normalizing flows are capable generative models (TarFlow), 2024, arXiv:2412.06329,
    §2.2; with a start token as in Gu et al., STARFlow, 2025, arXiv:2506.06276.
    """

    def __init__(self, c_in: int, c_out: int, *, reverse: bool = False, **options: Any) -> None:
        super().__init__(c_in, c_out, **options)
        self.reverse = reverse
        hidden = self.first.out_features
        self.start = nn.Parameter(torch.randn(hidden) / hidden**0.5)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x, share = self.with_and_without(x, share)
        places = tuple(x.shape[2:])
        tokens = self._ordered(rearrange(x.flatten(2), "b c t -> b t c"))
        start = self.start.expand(tokens.shape[0], 1, -1)
        h = torch.cat([start, self.first(tokens[:, :-1])], dim=1)
        where = self._ordered(coordinates(places, x)[None])[0]
        answer, _ = self.run(h, where, share, causal=True)
        answer = rearrange(self._ordered(answer), "b t c -> b c t")
        return self.mixed(answer.unflatten(2, places))

    def steps(
        self, places: tuple[int, ...], like: Tensor, share: Tensor | None = None
    ) -> Callable[[Tensor | None], Tensor]:
        """A function that is called once for each place in order, with what is at the place before
        (B, c_in), first with None, and gives the numbers (B, c_out).

        Keys and values of the places before are kept by the function, not by the net.

        Args:
            places: S.
            like: (B, ...), in the net's dtype and on its device.
            share: what `first_cond` made of the condition.
        """
        many = 2 if self.guidance and share is not None else 1
        batch = many * like.shape[0]
        _, share = self.with_and_without(like[:, :1], share)
        where = self._ordered(coordinates(places, like)[None])[0]
        number, past = 0, None

        def step(before: Tensor | None) -> Tensor:
            nonlocal number, past
            if before is None:
                h = self.start.expand(batch, 1, -1)
            else:
                h = self.first(torch.cat([before] * many))[:, None]
            answer, past = self.run(h, where[number : number + 1], share, past)
            number += 1
            return self.mixed(answer[:, 0])

        return step

    def extra_repr(self) -> str:
        return super().extra_repr() + (", reverse=True" if self.reverse else "")

    def _ordered(self, tokens: Tensor) -> Tensor:
        """(B, T, C) in the order in which places follow, and back."""
        return tokens.flip(1) if self.reverse else tokens
