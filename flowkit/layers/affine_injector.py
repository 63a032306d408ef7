"""Affine injector: the condition alone shifts and scales every channel."""

from __future__ import annotations

from functools import partial
from typing import Self

import torch
from torch import Tensor

from flowkit.bijection import Bijection, Cond, Example, Prepared, frozen, require_image
from flowkit.cond import require_cond
from flowkit.layers.affine_coupling import Net, require_params
from flowkit.nets import ConvNet, fold_net
from flowkit.ops import ExpScale, SigmoidScale, affine_coupling, affine_coupling_inverse


class AffineInjector(Bijection):
    """y = (x + t)·s with t, s = net(cond),  log|det| = Σ log s.

    `prepare` runs the net, so that samples of one condition share it.

    Args:
        channels: C of the input (B, C, H, W).
        net: makes the conditioner from its input and output channels, e.g. `ConvNet`. Its output
            holds the shift, then the raw scale.
        cond_channels: D of the condition (B, D, H, W).
        scale: the map from raw output to scale, bounded away from 0 and ∞.

    Raises (on use):
        ValueError: input, condition or the net's output has another shape, or cond is None.

    Lugmayr et al., SRFlow, 2020, arXiv:2006.14200, "affine injector"; there the scale comes first
    and then the shift, here it is the order of the code that they and Glow's authors released.
    """

    def __init__(
        self,
        channels: int,
        net: Net,
        *,
        cond_channels: int,
        scale: SigmoidScale | ExpScale = SigmoidScale(),
    ) -> None:
        super().__init__()
        if cond_channels < 1:
            raise ValueError(
                f"AffineInjector: expected at least 1 condition channel, got {cond_channels}"
            )
        self.channels = channels
        self.cond_channels = cond_channels
        self.scale = scale
        self.net = net(cond_channels, 2 * channels)

    def prepare(self, cond: Cond) -> Prepared:
        return Prepared(self, self._net(require_cond(self, cond, self.cond_channels)))

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return affine_coupling(x, self._params(x, cond), self.scale)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return affine_coupling_inverse(y, self._params(y, cond), self.scale)

    def retrace(
        self, y: Tensor, cond: Cond = None, *, inverse: bool = False
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """The net sees the condition alone, so it runs once for both ways."""
        undo, apply = affine_coupling, affine_coupling_inverse
        if not inverse:
            undo, apply = apply, undo
        params = self._params(y, cond)
        with torch.no_grad():
            x = undo(y, params, self.scale)[0]
        x.requires_grad_()
        return (x,), *apply(x, params, self.scale)

    def _params(self, x: Tensor, cond: Cond) -> Tensor:
        require_image(self, x, self.channels)
        params = self.prepared(cond)
        if params is None:
            params = self._net(require_cond(self, cond, self.cond_channels, like=x))
        return require_params(self, params, self.channels, like=x)

    def _net(self, cond: Tensor) -> Tensor:
        parameter = next(self.net.parameters(), cond)
        return self.net(cond.to(parameter.dtype))

    def fold(self) -> Self:
        folded = frozen(self)
        folded.net = fold_net(self.net)
        return folded

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(ConvNet, hidden=4)
        return [Example(lambda: cls(3, net, cond_channels=2), (3, 2, 2), (2, 2, 2))]
