"""Masked coupling: some places, or some channels, decide how the others are mapped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    along_channels,
    exactly,
    require_at_least,
    require_channels,
    require_shape,
    sum_logdet,
    wide,
)
from flowkit.elementwise import Affine, Elementwise, RationalQuadraticSpline, require_elementwise
from flowkit.layers.masks import Checkerboard, Mask, Stripes, over_channels, over_places
from flowkit.layers.with_net import WithNet, with_folded_net
from flowkit.nets import ConvNet, DenseNet, ResNet
from flowkit.nets.conditioner import Net, build


class MaskedCoupling(WithNet):
    """y = m∘x + (1-m)∘how(x; net(m∘x, cond)),  log|det| = Σ (1-m)∘log dy/dx.

    The net sees all of x but what is changed, there it sees 0, and gives numbers for all of x, of
    which those of what is kept aren't used. `Coupling` is for a mask that keeps the first channels:
    its net is smaller, and its map may run on a fused kernel.

    Args:
        channels: C of the input (B, C, *S).
        mask: over places, for all channels alike and any size: `Checkerboard()`, `Stripes()`, or a
            function of S and a device; or over channels, at all places alike: C times 0 or 1, 1 for
            what is kept.
        net: makes the conditioner from C channels to count·C.
        how: the elementwise map.
        cond_channels: D of the condition (B, D) or (B, D, *S); 0 for none.

    Raises:
        TypeError: a class in place of a mask; or, on use, the function's mask is no tensor.
        ValueError: the mask isn't C times 0 or 1, of both kinds; or, on use, input, condition or
            the net's output has another shape, or the input no places for the mask.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, §3.4, eq. 9 and fig. 3.
    """

    kept_channels: Tensor | None

    def __init__(
        self,
        channels: int,
        mask: Mask | Sequence[int] | Tensor,
        net: Net,
        how: Elementwise = Affine(),
        *,
        cond_channels: int = 0,
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "cond_channels", cond_channels, 0)
        self.channels = channels
        if isinstance(mask, type):
            raise TypeError(
                f"MaskedCoupling: expected a mask, got the class {mask.__name__} (call it)"
            )
        self.mask = mask if callable(mask) else None
        kept = None if callable(mask) else over_channels(self, mask, channels)
        self.register_buffer("kept_channels", kept, persistent=False)
        self.how = require_elementwise(self, how)
        self.cond_channels = cond_channels
        self.net = build(self, net, channels, how.count * channels, cond_channels)

    def kept(self, x: Tensor) -> Tensor:
        """The mask m for x (B, C, *S), True for what is kept, broadcastable to x."""
        if self.kept_channels is not None:
            return along_channels(self.kept_channels, x)
        assert self.mask is not None
        return over_places(self, self.mask, x)

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        return self.answer(x.where(self.kept(x), 0.0), x, cond, self.channels)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._map(x, cond, self.how.forward)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._map(y, cond, self.how.inverse)

    def _map(self, x: Tensor, cond: Cond, direction) -> tuple[Tensor, Tensor]:
        require_channels(self, x, self.channels)
        x, kept = wide(x), self.kept(x)
        params = self.params(x, cond).to(x.dtype).unflatten(1, (self.how.count, self.channels))
        # What is kept is out of the map's reach, where it might have no finite slope.
        value, log_slope = direction(x.where(~kept, 0.0), params)
        return value.where(~kept, x), sum_logdet(log_slope.where(~kept, 0.0))

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        require_shape(self, shape, self.channels)
        if self.mask is not None:
            self.mask(tuple(shape[1:]), None)
        return shape

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, MaskedCoupling):
            return super().given(cond)
        net = self.given_net(cond)
        mask = self.kept_channels if self.mask is None else self.mask
        assert mask is not None
        return MaskedCoupling(self.channels, mask, lambda *_: net, self.how)

    def fold(self) -> Bijection:
        return with_folded_net(self) if exactly(self, MaskedCoupling) else super().fold()

    def extra_repr(self) -> str:
        mask = self.mask if self.kept_channels is None else self.kept_channels.int().tolist()
        return f"{self.channels}, {mask}, how={self.how}"

    @classmethod
    def examples(cls) -> list[Example]:
        conv, spline = partial(ConvNet, hidden=4), RationalQuadraticSpline(4)
        dense = partial(DenseNet, hidden=4, depth=1, axes=1)
        deep = partial(ResNet, hidden=6, blocks=1)
        board, columns = Checkerboard(), Stripes(odd=True)
        return [
            Example(
                lambda: cls(2, board, conv, cond_channels=2), (2, 3, 2), (2, 3, 2), name="images"
            ),
            Example(lambda: cls(1, columns, dense, cond_channels=2), (1, 5), (2,), name="sequence"),
            Example(
                lambda: cls(3, (1, 0, 1), deep, spline, cond_channels=2), (3,), (2,), name="vectors"
            ),
        ]
