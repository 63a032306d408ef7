"""Autoregressive: the elements before (and a condition) decide about each."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from flowkit.conditions import require_cond
from flowkit.contract import Bijection, Cond, Example, frozen, require_at_least, require_channels
from flowkit.elementwise import Affine, Elementwise, RationalQuadraticSpline, apply
from flowkit.layers.parameterized import Parameterized, require_params
from flowkit.nets import MADE
from flowkit.nets.conditioner import Net, ask, build, fold, given


class Autoregressive(Parameterized):
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
        self.how = how
        self.cond_channels = cond_channels
        self.net = build(self, net, channels, how.count, cond_channels)

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cond_channels > 0

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        require_channels(self, x, self.channels, axes=0)
        if self.cond_channels:
            params = ask(self.net, x, require_cond(self, cond, self.cond_channels, like=x))
        else:
            params = ask(self.net, x)
        return require_params(self, params, self.channels, self.how, x)

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

    def given(self, cond: Cond) -> Bijection:
        if type(self) is not Autoregressive:
            return super().given(cond)
        if not self.cond_channels:
            return self
        net = given(self.net, require_cond(self, cond, self.cond_channels))
        return Autoregressive(self.channels, lambda *_: net, self.how)

    def fold(self) -> Bijection:
        folded = frozen(self)
        if type(self) is Autoregressive:
            folded.net = fold(self.net)
        return folded

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(MADE, hidden=8)
        return [
            Example(lambda: cls(3, net), (3,), name="affine"),
            Example(lambda: cls(3, net, cond_channels=2), (3,), (2,), name="conditional"),
            Example(lambda: cls(2, net, RationalQuadraticSpline(4)), (2,), name="spline"),
        ]
