"""Autoregressive: the elements before (and a condition) decide about each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

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
    zero_logdet,
)
from flowkit.elementwise import (
    Affine,
    Elementwise,
    RationalQuadraticSpline,
    apply,
    require_elementwise,
)
from flowkit.layers.order import levels, of_order, rounds
from flowkit.layers.with_net import WithNet, with_folded_net
from flowkit.nets import MADE, MaskedConv
from flowkit.nets.conditioner import Net, build


class Autoregressive(WithNet):
    """yᵢ = how(xᵢ; netᵢ(x_before i, cond)),  log|det| = Σ log dyᵢ/dxᵢ.

    Before i are x₁ … xᵢ₋₁ of a vector, or what `order` or `adjacency` say; in sequences and images
    (`axes`) all places before, from row to row, and at the place itself the channels before.

    One pass of the net forward. Back it is as many as the longest chain of elements that depend on
    one another: C for a vector in order, fewer where an adjacency allows, C·T for a sequence. For
    images it is C·H·W with a net that sees everything before. `MaskedConv` sees `reach` columns
    ahead in the rows above, so places on a slant are found at once: C·(W + (reach + 1)·(H - 1))
    passes over the whole picture, 375 for 3×32×32 and a reach of 2, which is slow all the same.
    `Inverse(Autoregressive(...))` is the other way round: one pass from noise to data (IAF).

    Args:
        channels: C.
        net: makes the masked conditioner as net(C, count), with cond_channels=D, axes=, adjacency=,
            cond_adjacency= where they are said: `MADE` on vectors, `MaskedConv` with places.
        how: the elementwise map.
        axes: of S: 0 for vectors (B, C), 1 for sequences (B, C, T), 2 for images (B, C, H, W).
        order: the channels from first to last, for vectors; 0 … C-1 if None.
        adjacency: instead, (C, C) of 0 and 1, without a cycle; row i says on which others the map
            of channel i depends.
        cond_adjacency: (C, D), likewise for the condition. All of it if None.
        cond_channels: D of the condition (B, D) or (B, D, *S); 0 for none.

    Raises:
        ValueError: order or adjacency are none, or said twice or with places; or, on use, input,
            condition or the net's output has another shape.

    Papamakarios et al., Masked autoregressive flow, 2017, arXiv:1705.07057, eq. 3-4; Kingma et al.,
    Improving variational inference with inverse autoregressive flow, 2016, arXiv:1606.04934; with
    an adjacency, Wehenkel & Louppe, Graphical normalizing flows, 2021, arXiv:2006.02548.

    >>> import torch
    >>> layer, x = Autoregressive(3), torch.rand(2, 3)
    >>> y, logdet = layer(x)
    >>> torch.allclose(layer.inverse(y)[0], x, atol=1e-5)
    True
    """

    level: Tensor

    def __init__(
        self,
        channels: int,
        net: Net = MADE,
        how: Elementwise = Affine(),
        *,
        axes: int = 0,
        order: Sequence[int] | None = None,
        adjacency: Tensor | None = None,
        cond_adjacency: Tensor | None = None,
        cond_channels: int = 0,
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "cond_channels", cond_channels, 0)
        require_at_least(self, "axes", axes, 0)
        if order is not None:
            if adjacency is not None:
                raise ValueError("Autoregressive: expected order or adjacency, got both")
            adjacency = of_order(self, order, channels)
        structure: dict[str, Any] = {"adjacency": adjacency, "cond_adjacency": cond_adjacency}
        structure = {name: value for name, value in structure.items() if value is not None}
        if axes and structure:
            raise ValueError(
                f"Autoregressive: expected {', '.join(structure)} or order with vectors, got them "
                f"with axes={axes}"
            )
        if axes:
            structure["axes"] = axes
        self.channels, self.axes = channels, axes
        self.how = require_elementwise(self, how)
        self.cond_channels = cond_channels
        level = torch.arange(channels) if adjacency is None else levels(self, adjacency, channels)
        self.register_buffer("level", level, persistent=False)
        self.depth = int(level.max()) + 1
        self.net = build(self, partial(net, **structure), channels, how.count, cond_channels)
        self.reach = self.net.reach if isinstance(self.net, MaskedConv) else None
        if isinstance(self.net, MADE):
            self._require_told(self.net.adjacency, adjacency)

    def _require_told(self, sees: Tensor, told: Tensor | None) -> None:
        told = torch.ones_like(sees).tril(-1) if told is None else torch.as_tensor(told).to(sees)
        if not sees.equal(told):
            raise ValueError(
                "Autoregressive: expected to be told the adjacency, which its inverse needs "
                "(adjacency=...), and a net that takes it, got another one that only the net knows"
            )

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        require_channels(self, x, self.channels, axes=self.axes)
        return self.answer(x, x, cond, self.channels)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels, axes=self.axes)
        found_in, count = rounds(self.level, self.depth, y.shape[2:], self.reach)
        x, logdet = torch.zeros_like(y), zero_logdet(y)
        for number in range(count):
            found, logdet = apply(self.how, y, self.params(x, cond), inverse=True)
            # What isn't determined yet stays 0: it could be anything, infinity too.
            x = found.where(found_in == number, x)
        return x, logdet

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels, axes=self.axes)

    def given(self, cond: Cond) -> Bijection:
        if not self.conditional or not exactly(self, Autoregressive):
            return super().given(cond)
        net = self.given_net(cond)
        bound = Autoregressive(self.channels, lambda *_, **__: net, self.how, axes=self.axes)
        bound.level, bound.depth, bound.reach = self.level, self.depth, self.reach
        return bound

    def fold(self) -> Bijection:
        return with_folded_net(self) if exactly(self, Autoregressive) else super().fold()

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", axes={self.axes}" if self.axes else "")

    @classmethod
    def examples(cls) -> list[Example]:
        net, conv = partial(MADE, hidden=8), partial(MaskedConv, hidden=4, depth=1, width=3)
        some, of_cond = torch.tensor([[0, 1, 0], [0, 0, 0], [0, 1, 0]]), torch.eye(3, 2)
        graph = partial(cls, adjacency=some, cond_adjacency=of_cond, cond_channels=2)
        turned = partial(cls, order=[2, 0, 1], cond_channels=2)
        spline = RationalQuadraticSpline(4)
        return [
            Example(lambda: cls(3, net), (3,), name="affine"),
            Example(lambda: turned(3, net), (3,), (2,), name="order"),
            Example(lambda: graph(3, net), (3,), (2,), name="adjacency"),
            Example(lambda: cls(2, net, spline), (2,), name="spline"),
            Example(
                lambda: cls(2, conv, axes=1, cond_channels=2), (2, 3), (2, 3), name="sequences"
            ),
            Example(lambda: cls(1, conv, axes=2, cond_channels=2), (1, 2, 2), (2,), name="images"),
        ]
