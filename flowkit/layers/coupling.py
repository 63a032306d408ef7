"""Coupling: some channels (and a condition) decide how the others are mapped."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from flowkit.contract import Bijection, Cond, Example, exactly, require_at_least
from flowkit.elementwise import (
    Additive,
    Affine,
    Elementwise,
    LogisticMixture,
    RationalQuadraticSpline,
    require_elementwise,
)
from flowkit.layers.with_net import WithNet, with_folded_net
from flowkit.nets import MLP, ConvNet
from flowkit.nets.conditioner import Net, build


class Coupling(WithNet):
    """y = [x₁, how(x₂; net(x₁, cond))],  log|det| = Σ log dy₂/dx₂.

    x₁ are the first channels; `MaskedCoupling` keeps any of them, or some of the places.

    Args:
        channels: C of the input (B, C, *S), at least 2.
        net: makes the conditioner from its input and output channels, e.g. `ConvNet`, `MLP`, or
            `lambda c_in, c_out: ...`, whose net gets the condition beside x₁.
        how: the elementwise map.
        kept: channels in x₁, which stay; half of them if None.
        cond_channels: D of the condition (B, D) or (B, D, *S); 0 for none.

    Raises (on use):
        ValueError: input, condition or the net's output has another shape.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, eq. 7; with a condition, Winkler et al., Learning
    likelihoods with conditional normalizing flows, 2019, arXiv:1912.00042, §3.2.

    >>> import torch
    >>> layer, x, cond = Coupling(4, MLP, cond_channels=3), torch.rand(2, 4), torch.rand(2, 3)
    >>> y, logdet = layer(x, cond)
    >>> y.shape, logdet.shape, torch.equal(y[:, :2], x[:, :2])
    (torch.Size([2, 4]), torch.Size([2]), True)
    """

    def __init__(
        self,
        channels: int,
        net: Net,
        how: Elementwise = Affine(),
        *,
        kept: int | None = None,
        cond_channels: int = 0,
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 2)
        require_at_least(self, "cond_channels", cond_channels, 0)
        self.channels = channels
        self.kept = channels // 2 if kept is None else kept
        if not 1 <= self.kept < channels:
            raise ValueError(f"Coupling: expected 1 <= kept < {channels}, got {kept}")
        self.how = require_elementwise(self, how)
        self.cond_channels = cond_channels
        changed = channels - self.kept
        self.net = build(self, net, self.kept, how.count * changed, cond_channels)

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        return self.answer(x[:, : self.kept], x, cond, self.channels - self.kept)

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, Coupling):
            return super().given(cond)
        net = self.given_net(cond)
        return Coupling(self.channels, lambda *_: net, self.how, kept=self.kept)

    def fold(self) -> Bijection:
        return with_folded_net(self) if exactly(self, Coupling) else super().fold()

    @classmethod
    def examples(cls) -> list[Example]:
        conv, mlp = partial(ConvNet, hidden=4), partial(MLP, hidden=6)
        sequence, spline = partial(ConvNet, hidden=4, axes=1), RationalQuadraticSpline(4)
        return [
            Example(lambda: cls(4, conv), (4, 2, 2), name="unconditional"),
            Example(lambda: cls(3, conv, cond_channels=2), (3, 2, 3), (2, 2, 3), name="images"),
            Example(lambda: cls(3, mlp, cond_channels=2), (3,), (2,), name="vectors"),
            Example(
                lambda: cls(3, sequence, Additive(), cond_channels=2), (3, 4), (2,), name="sequence"
            ),
            Example(lambda: cls(3, mlp, spline, kept=2), (3,), name="spline"),
            Example(
                lambda: cls(2, mlp, LogisticMixture(2), cond_channels=2), (2,), (2,), name="mixture"
            ),
        ]
