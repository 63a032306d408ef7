"""Transformer each of whose outputs sees only the places before it."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from flowkit.contract import require_bool
from flowkit.nets.attention import KeysAndValues
from flowkit.nets.rotary import coordinates
from flowkit.nets.transformer import Transformer


class CausalTransformer(Transformer):
    """`Transformer`, but the numbers for a place depend on the places before it alone, row by row,
    or with `reverse` on those after it; for the first one, on a learned start token. The condition
    is seen by all.

    The token for a place is made of the place before; its positions are those of the place that it
    is to tell about. `decoding` gives the same numbers place by place.

    Args: see `Transformer`; reverse: whether the last place is the first one.

    Zhai et al., Normalizing flows are capable generative models (TarFlow), 2024, arXiv:2412.06329,
    §2.2; with a start token as in Gu et al., STARFlow, 2025, arXiv:2506.06276.
    """

    def __init__(self, c_in: int, c_out: int, *, reverse: bool = False, **options: Any) -> None:
        super().__init__(c_in, c_out, **options)
        require_bool(self, reverse=reverse)
        self.reverse = reverse
        hidden = self.first.out_features
        self.start = nn.Parameter(torch.randn(hidden) / hidden**0.5)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        places = tuple(x.shape[2:])
        tokens = self._ordered(rearrange(x.flatten(2), "b c t -> b t c"))
        start = self.start.expand(tokens.shape[0], 1, -1)
        h = torch.cat([start, self.first(tokens[:, :-1])], dim=1)
        where = self._ordered(coordinates(places, x)[None])[0]
        answer, _ = self.run(h, where, share, causal=True)
        answer = rearrange(self._ordered(answer), "b t c -> b c t")
        return answer.unflatten(2, places)

    def decoding(
        self, places: tuple[int, ...], like: Tensor, share: Tensor | None = None
    ) -> Decoding:
        """The same numbers, for some places after the others.

        Args:
            places: S.
            like: (B, ...), on the net's device.
            share: what `first_cond` made of the condition.
        """
        return Decoding(self, places, like, share)

    def extra_repr(self) -> str:
        return super().extra_repr() + (", reverse=True" if self.reverse else "")

    def _ordered(self, tokens: Tensor) -> Tensor:
        """(B, T, C) in the order in which places follow, and back."""
        return tokens.flip(1) if self.reverse else tokens


class Decoding:
    """A `CausalTransformer` along the places in order, with the keys and values of those before,
    which are kept here, not by the net. See `CausalTransformer.decoding`."""

    def __init__(
        self, net: CausalTransformer, places: tuple[int, ...], like: Tensor, share: Tensor | None
    ) -> None:
        self.net, self.done = net, 0
        self.times = 2 if net.guidance and share is not None else 1
        _, self.share = net.with_and_without(like[:, :1], share)
        self.where = net._ordered(coordinates(places, like)[None])[0]
        self.past: list[KeysAndValues] | None = None
        self.seen: list[KeysAndValues] = []

    def ahead(self, before: Tensor) -> Tensor:
        """The numbers (B, n, c_out) for the next n places, given what is at the place before each
        of them: before (B, n, c_in), or (B, n - 1, c_in) at the start, where there is none."""
        net = self.net
        h = net.first(torch.cat([before.to(net.start.dtype)] * self.times))
        if not self.done:
            h = torch.cat([net.start.expand(h.shape[0], 1, -1), h], dim=1)
        where = self.where[self.done : self.done + h.shape[1]]
        answer, self.seen = net.run(h, where, self.share, self.past, causal=h.shape[1] > 1)
        return net.mixed(answer)

    def keep(self, count: int) -> None:
        """Go on behind the first `count` of the places that were asked about last."""
        self.done += count
        self.past = [(key[:, :, : self.done], value[:, :, : self.done]) for key, value in self.seen]
