"""Autoregressive map by places: each is mapped with numbers that depend on the places before it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import cast

import torch
from einops import rearrange
from torch import Tensor

from flowkit.conditions import tensors_of
from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    exactly,
    positions,
    require_at_least,
    require_bool,
    require_channels,
    require_real,
    wide,
    zero_logdet,
)
from flowkit.elementwise import Affine, Elementwise, apply, require_elementwise
from flowkit.layers.token_inverse import by_places, by_rounds
from flowkit.layers.with_net import WithNet
from flowkit.nets.causal_transformer import CausalTransformer
from flowkit.nets.conditioner import Net, WithShare, build
from flowkit.ops import SoftplusScale


class TokenAutoregressive(WithNet):
    """y_t = how(x_t; net(x_1, …, x_{t-1}, cond)),  log|det| = Σ log dy/dx, all channels of a place
    at once, places row by row.

    One pass for y, and for x one step a place, each with the keys and values of those before; or in
    parallel: all places at once from a guess, again and again (Jacobi's iteration), exact after as
    many rounds as there are places, and as a rule good enough after a few.

    Numbers are applied in float32 or wider. The net computes in the precision of its parameters
    (`layer.net.bfloat16()`), and autocast is off inside: steps in bf16 would round another way than
    the one pass, and so undo another map.

    Args:
        channels: C of the input (B, C, *S).
        net: makes the net from C channels to count·C, a `CausalTransformer`.
        how: the elementwise map.
        reverse: from the last place to the first; what follows in a flow should be the other way
            round.
        parallel: the inverse by rounds, until none moves by more than this, relative to the largest
            value of its sample; None: place by place. Where a gradient is wanted, and inside
            torch.func, it is always place by place; or where a subclass or a hook changes the
            numbers, by all rounds.
        cond_channels: D of the condition (B, D), or (B, D, *S') with places of its own; 0 for none.

    Raises:
        TypeError: the net is another, or `parallel` isn't a number.
        ValueError: `parallel` is negative; or, on use, input or condition has another shape.

    Zhai et al., Normalizing flows are capable generative models (TarFlow), 2024, arXiv:2412.06329,
    eq. 5-7; softplus for exp as in Gu et al., STARFlow, 2025, arXiv:2506.06276; rounds: Song et
    al., Accelerating feedforward computation via parallel nonlinear equation solving, 2021,
    arXiv:2002.03629.
    """

    def __init__(
        self,
        channels: int,
        net: Net = CausalTransformer,
        how: Elementwise = Affine(SoftplusScale()),
        *,
        reverse: bool = False,
        parallel: float | None = None,
        cond_channels: int = 0,
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "cond_channels", cond_channels, 0)
        require_bool(self, reverse=reverse)
        if parallel is not None:
            # True would be a tolerance of 1.
            require_real(self, parallel=parallel)
            if not parallel >= 0:
                raise ValueError(f"TokenAutoregressive: expected parallel >= 0, got {parallel}")
        self.channels, self.reverse, self.parallel = channels, reverse, parallel
        self.how = require_elementwise(self, how)
        self.cond_channels = cond_channels
        net = partial(net, reverse=reverse)
        self.net = build(self, net, channels, how.count * channels, cond_channels)
        if not isinstance(self._causal, CausalTransformer):
            raise TypeError(
                "TokenAutoregressive: expected a CausalTransformer, got "
                f"{type(self._causal).__name__}"
            )

    @property
    def _causal(self) -> CausalTransformer:
        net = self.net.net if isinstance(self.net, WithShare) else self.net
        return cast(CausalTransformer, net)

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        with _without_autocast(x):
            return self.answer(x, x, cond, self.channels)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels, axes=self._causal.axes)
        y = wide(y)
        # torch.func has derivatives that no tensor tells of, and looks at no values.
        needed = torch._C._are_functorch_transforms_active() or (
            torch.is_grad_enabled()
            and any(t.requires_grad for t in (y, *self.parameters(), *self._conditions(cond)))
        )
        # Decoding knows the net's own numbers alone; whatever changes those is asked as a whole.
        if not (exactly(self, TokenAutoregressive) and exactly(self._causal, CausalTransformer)):
            return self._as_a_whole(y, cond)
        tokens = self._ordered(rearrange(y.flatten(2), "b c t -> b t c"))
        with _without_autocast(y):
            decoding = self._causal.decoding(tuple(y.shape[2:]), y, self._share(y, cond))
            if self.parallel is None or needed:
                x, logdet = by_places(self.how, decoding, tokens)
            else:
                x, logdet = by_rounds(self.how, decoding, tokens, self.parallel)
        return rearrange(self._ordered(x), "b t c -> b c t").unflatten(2, y.shape[2:]), logdet

    def _as_a_whole(self, y: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """Each pass tells the next place from those before it."""
        x, logdet = y, zero_logdet(y)
        for _ in range(positions(y)):
            x, logdet = apply(self.how, y, self.params(x, cond), inverse=True)
        return x, logdet

    def _share(self, y: Tensor, cond: Cond) -> Tensor | None:
        """What the net's `first_cond` makes of the condition."""
        beside = self.require_beside(y, cond)
        if isinstance(self.net, WithShare):
            return self.net.share_of(y)
        net = self._causal
        return None if beside is None else net.first_cond(beside.to(net.start.dtype))  # pyright: ignore

    def _ordered(self, tokens: Tensor) -> Tensor:
        return tokens.flip(1) if self.reverse else tokens

    def _conditions(self, cond: Cond) -> list[Tensor]:
        own = [self.net.share] if isinstance(self.net, WithShare) else []
        return [*own, *(t for _, t in tensors_of(cond))]

    def given(self, cond: Cond) -> Bijection:
        if not self.conditional or not exactly(self, TokenAutoregressive):
            return super().given(cond)
        with _without_autocast(self._causal.start):
            net = self.given_net(cond)
        if not isinstance(net, WithShare):
            return super().given(cond)
        return TokenAutoregressive(
            self.channels,
            lambda *_, **__: net,
            self.how,
            reverse=self.reverse,
            parallel=self.parallel,
        )

    def extra_repr(self) -> str:
        ways = {"reverse": self.reverse, "parallel": self.parallel}
        said = [f"{name}={value}" for name, value in ways.items() if value not in (False, None)]
        return ", ".join([super().extra_repr(), *said])

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(CausalTransformer, hidden=8, depth=1, heads=2, axes=1)
        layer = partial(cls, 2, net, reverse=True, parallel=0.0, cond_channels=2)
        return [Example(layer, (2, 2), (2, 3))]


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
