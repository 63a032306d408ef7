"""OnChannels: a bijection on the first channels; what a multi-scale flow is made of."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from flowkit.combine.at import At
from flowkit.combine.chain import Chain
from flowkit.combine.inverse import Inverse
from flowkit.combine.parts import require_bijection, run
from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    exactly,
    require_at_least,
    require_channels,
    require_shape,
    wide,
)
from flowkit.elementwise import Affine
from flowkit.layers import ActNorm, Coupling, InvertibleLinear, Squeeze
from flowkit.nets import ConvNet


class OnChannels(Bijection):
    """y = [bijection(x₁), x₂], x₁ the first channels: the others are done with, and are noise.

    Args:
        channels: how many channels x₁ has.
        bijection: a map that keeps the shape, such as a chain from Squeeze to Inverse(Squeeze).

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, §3.6, the multi-scale architecture.
    """

    def __init__(self, channels: int, bijection: Bijection) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        self.channels = channels
        self.bijection = require_bijection(self, bijection)

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.bijection.conditional

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        first, rest = self._parts(x)
        changed, logdet = run(self.bijection, first, cond)
        return self._joined(first, changed, rest), logdet

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        first, rest = self._parts(y)
        changed, logdet = run(self.bijection, first, cond, inverse=True)
        return self._joined(first, changed, rest), logdet

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        channels, *places = require_shape(self, shape)
        self._require(channels >= self.channels, shape)
        first = (self.channels, *places)
        changed = self.bijection.shape(first, inverse=inverse)
        if changed != first:
            raise ValueError(self._keeps(first, changed))
        return shape

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, OnChannels):
            return super().given(cond)
        return OnChannels(self.channels, self.bijection.given(cond))

    def fold(self) -> Bijection:
        if not exactly(self, OnChannels):
            return super().fold()
        return OnChannels(self.channels, self.bijection.fold())

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        self._require(x.shape[1] >= self.channels, tuple(x.shape))
        return x[:, : self.channels], x[:, self.channels :]

    def _joined(self, first: Tensor, changed: Tensor, rest: Tensor) -> Tensor:
        if changed.shape != first.shape:
            raise ValueError(self._keeps(tuple(first.shape), tuple(changed.shape)))
        return torch.cat([changed, wide(rest)], 1)

    def _require(self, enough: bool, shape: Shape) -> None:
        if not enough:
            raise ValueError(f"OnChannels: expected at least {self.channels} channels, got {shape}")

    def _keeps(self, first: Shape, changed: Shape) -> str:
        return (
            f"OnChannels: expected a bijection that keeps the shape {first}, got {changed} from "
            f"{type(self.bijection).__name__}"
        )

    def extra_repr(self) -> str:
        return f"{self.channels}"

    @classmethod
    def examples(cls) -> list[Example]:
        def multiscale() -> Bijection:
            inner = Chain(Squeeze(), ActNorm(4), InvertibleLinear(4), Inverse(Squeeze()))
            prior = Coupling(2, partial(ConvNet, hidden=4), Affine(), kept=1, cond_channels=1)
            return cls(2, split(1, inner, prior))

        return [Example(multiscale, (3, 2, 4), (1, 2, 4))]


def split(n: int, rest: Bijection, prior: Bijection) -> Chain:
    """p(z₂ | z₁, cond)·p(z₁ | cond): the last channels become noise given the first n, and the
    first n go on through `rest`; no latent is lost.

    Args:
        n: channels that go on.
        rest: what happens to them; keeps their shape.
        prior: the coupling that keeps n channels and normalises the others given them (and the
            condition), with a scale that grows as well as shrinks; in `At` where one entry of the
            condition is meant for it.

    Raises:
        TypeError: the prior isn't a coupling.
        ValueError: it keeps another number of channels.

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, the learned prior of the released code.
    """
    coupling = prior
    while isinstance(coupling, At):
        coupling = coupling.bijection
    if not isinstance(coupling, Coupling):
        raise TypeError(
            f"split: expected a Coupling as the prior, or one in At, got {type(coupling).__name__}"
        )
    if coupling.kept != n:
        raise ValueError(
            f"split: expected a prior that keeps {n} channels, got kept={coupling.kept}"
        )
    return Chain(prior, OnChannels(n, rest))
