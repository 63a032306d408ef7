"""Affine coupling: half of the channels (and a condition) shift and scale the other half."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from flowkit.bijection import Bijection, Cond, Example, Prepared, frozen, require_image
from flowkit.cond import beside, require_cond
from flowkit.nets import ConvNet, fold_net
from flowkit.ops import ExpScale, SigmoidScale, affine_coupling, affine_coupling_inverse

Net = Callable[[int, int], nn.Module]
"""Makes the net that takes (B, c_in, H, W) to (B, c_out, H, W) from (c_in, c_out)."""


def require_params(who: Bijection, params: Tensor, changed: int, like: Tensor) -> Tensor:
    """Return `params` if it holds a shift and a scale for `changed` channels of `like`.

    Raises:
        ValueError: its shape is another.
    """
    expected = (like.shape[0], 2 * changed, *like.shape[2:])
    if params.shape != expected:
        raise ValueError(
            f"{type(who).__name__}: expected shift and scale of shape {expected} from the net, "
            f"got {tuple(params.shape)}"
        )
    return params


def _takes_share(net: nn.Module) -> bool:
    """Whether `net` has the method `share`, and a `forward` that takes what it gives."""
    if not callable(getattr(type(net), "share", None)):
        return False
    try:
        inspect.signature(net.forward).bind("x", "share")
    except TypeError:
        return False
    return True


class AffineCoupling(Bijection):
    """y = [x₁, (x₂ + t)·s] with t, s = net([x₁, cond]),  log|det| = Σ log s.

    `prepare` convolves the condition, so that samples of one condition share it, if the net can: if
    it has `share(cond)`, whose result `net(x₁, share)` takes in the condition's place, unless it is
    None.

    Args:
        channels: C of the input (B, C, H, W), at least 2; the first C // 2 are kept.
        net: makes the conditioner from its input and output channels, e.g. `ConvNet`. Its output
            holds the shift, then the raw scale.
        cond_channels: D of the condition (B, D, H, W); 0 for an unconditional coupling.
        scale: the map from raw output to scale, bounded away from 0 and ∞.

    Raises (on use):
        ValueError: input, condition or the net's output has another shape.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, eq. 7; with a condition, Winkler et al., Learning
    likelihoods with conditional normalizing flows, 2019, arXiv:1912.00042, §3.2.
    """

    def __init__(
        self,
        channels: int,
        net: Net,
        *,
        cond_channels: int = 0,
        scale: SigmoidScale | ExpScale = SigmoidScale(),
    ) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"AffineCoupling: expected at least 2 channels, got {channels}")
        self.channels = channels
        self.kept = channels // 2
        self.cond_channels = cond_channels
        self.scale = scale
        self.net = net(self.kept + cond_channels, 2 * (channels - self.kept))
        self.shares = _takes_share(self.net)

    def prepare(self, cond: Cond) -> Cond:
        if not self.cond_channels:
            return cond
        share = self._share(require_cond(self, cond, self.cond_channels))
        return cond if share is None else Prepared(self, share)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return affine_coupling(x, self._params(x, cond), self.scale)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return affine_coupling_inverse(y, self._params(y, cond), self.scale)

    def retrace(
        self, y: Tensor, cond: Cond = None, *, inverse: bool = False
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """The kept half is the same in x and y, so the net runs once for both ways."""
        undo, apply = affine_coupling, affine_coupling_inverse
        if not inverse:
            undo, apply = apply, undo
        kept = y[:, : self.kept].detach().requires_grad_()
        params = self._params(torch.cat([kept, y[:, self.kept :].detach()], dim=1), cond)
        with torch.no_grad():
            changed = undo(y, params, self.scale)[0][:, self.kept :]
        changed.requires_grad_()
        return (kept, changed), *apply(torch.cat([kept, changed], dim=1), params, self.scale)

    def _params(self, x: Tensor, cond: Cond) -> Tensor:
        require_image(self, x, self.channels)
        kept, share = x[:, : self.kept], self.prepared(cond)
        if share is not None:
            require_cond(self, share, share.shape[1], like=x)
        elif self.cond_channels:
            cond = require_cond(self, cond, self.cond_channels, like=x)
            share = self._share(cond)
            if share is None:
                kept = beside(kept, cond)
        kept = kept.to(next(self.net.parameters(), x).dtype)
        params = self.net(kept) if share is None else self.net(kept, share)
        return require_params(self, params, self.channels - self.kept, like=x)

    def _share(self, cond: Tensor) -> Tensor | None:
        if not self.shares:
            return None
        share: Callable[[Tensor], Tensor | None] = self.net.share  # pyright: ignore
        return share(cond.to(next(self.net.parameters()).dtype))

    def fold(self) -> Self:
        folded = frozen(self)
        folded.net = fold_net(self.net)
        folded.shares = _takes_share(folded.net)
        return folded

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(ConvNet, hidden=4)
        return [
            Example(lambda: cls(4, net), (4, 2, 2), name="unconditional"),
            Example(lambda: cls(3, net, cond_channels=2), (3, 2, 3), (2, 2, 3), name="conditional"),
            Example(
                lambda: cls(3, net, cond_channels=2, scale=ExpScale(1.0)),
                (3, 2, 2),
                (2, 2, 2),
                name="exponential",
            ),
        ]
