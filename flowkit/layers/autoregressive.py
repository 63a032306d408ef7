"""Autoregressive: the elements before (and a condition) decide about each."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    exactly,
    require_at_least,
    require_channels,
    require_shape,
)
from flowkit.elementwise import (
    Affine,
    Elementwise,
    RationalQuadraticSpline,
    apply,
    require_elementwise,
)
from flowkit.layers.with_net import WithNet, with_folded_net
from flowkit.nets import MADE
from flowkit.nets.conditioner import Net, build


class Autoregressive(WithNet):
    """yᵢ = how(xᵢ; netᵢ(x₁ … xᵢ₋₁, cond)),  log|det| = Σ log dyᵢ/dxᵢ, for vectors (B, C).

    One pass of the net forward, C passes back. `Inverse(Autoregressive(...))` is the other way
    round: one pass from noise to data (IAF).

    Args:
        channels: C.
        net: makes the masked conditioner as net(C, count), or with cond_channels=D; e.g. `MADE`.
        how: the elementwise map.
        cond_channels: D of the condition (B, D); 0 for none.

    Raises (on use):
        ValueError: input, condition or the net's output has another shape.

    Papamakarios et al., Masked autoregressive flow, 2017, arXiv:1705.07057, eq. 3-4; Kingma et al.,
    Improving variational inference with inverse autoregressive flow, 2016, arXiv:1606.04934.
    """

    def __init__(
        self,
        channels: int,
        net: Net = MADE,
        how: Elementwise = Affine(),
        *,
        cond_channels: int = 0,
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "cond_channels", cond_channels, 0)
        self.channels = channels
        self.how = require_elementwise(self, how)
        self.cond_channels = cond_channels
        self.net = build(self, net, channels, how.count, cond_channels)

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        require_channels(self, x, self.channels, axes=0)
        return self.answer(x, x, cond, self.channels)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels, axes=0)
        x = torch.zeros_like(y)
        logdet = None
        for known in range(1, self.channels + 1):
            found, logdet = apply(self.how, y, self.params(x, cond), inverse=True)
            # What isn't determined yet stays 0: it could be anything, infinity too.
            x = torch.cat([found[:, :known], torch.zeros_like(found[:, known:])], dim=1)
        assert logdet is not None
        return x, logdet

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels, axes=0)

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, Autoregressive):
            return super().given(cond)
        net = self.given_net(cond)
        return Autoregressive(self.channels, lambda *_: net, self.how)

    def fold(self) -> Bijection:
        return with_folded_net(self) if exactly(self, Autoregressive) else super().fold()

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(MADE, hidden=8)
        return [
            Example(lambda: cls(3, net), (3,), name="affine"),
            Example(lambda: cls(3, net, cond_channels=2), (3,), (2,), name="conditional"),
            Example(lambda: cls(2, net, RationalQuadraticSpline(4)), (2,), name="spline"),
        ]
