"""Injector: the condition alone decides how every channel is mapped."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from flowkit.conditions import everywhere, require_cond
from flowkit.contract import Bijection, Cond, Example, exactly, require_at_least
from flowkit.elementwise import Affine, Elementwise, RationalQuadraticSpline, require_elementwise
from flowkit.layers.given_injector import GivenInjector
from flowkit.layers.parameterized import require_params
from flowkit.layers.with_net import WithNet, with_folded_net
from flowkit.nets import MLP, ConvNet
from flowkit.nets.conditioner import Net, ask, build


class Injector(WithNet):
    """y = how(x; net(cond)),  log|det| = Σ log dy/dx.

    `given` runs the net, so that all samples of a condition share it.

    Args:
        channels: C of the input (B, C, *S).
        net: makes the conditioner from its input and output channels, e.g. `ConvNet` or `MLP`.
        how: the elementwise map.
        cond_channels: D of the condition (B, D, *S); a vector (B, D) holds at every place, and asks
            for a net on vectors, such as `MLP`.

    Raises (on use):
        ValueError: input, condition or the net's output has another shape, or cond is None.

    Lugmayr et al., SRFlow, 2020, arXiv:2006.14200, "affine injector"; there the scale comes first
    and then the shift, here it is the order of the code that they and Glow's authors released.

    >>> import torch
    >>> layer = Injector(1, MLP, cond_channels=8)  # p(y | eight features), by one layer
    >>> layer(torch.rand(2, 1), torch.rand(2, 8))[0].shape
    torch.Size([2, 1])
    """

    def __init__(
        self, channels: int, net: Net, how: Elementwise = Affine(), *, cond_channels: int
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "cond_channels", cond_channels, 1)
        self.channels = channels
        self.how = require_elementwise(self, how)
        self.cond_channels = cond_channels
        self.net = build(self, net, cond_channels, how.count * channels)

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        cond = require_cond(self, cond, self.cond_channels, like=x)
        return require_params(self, everywhere(ask(self.net, cond), x), self.channels, self.how, x)

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, Injector):
            return super().given(cond)
        cond = require_cond(self, cond, self.cond_channels)
        return GivenInjector(self.channels, self.how, self.net, cond)

    def fold(self) -> Bijection:
        return with_folded_net(self) if exactly(self, Injector) else super().fold()

    @classmethod
    def examples(cls) -> list[Example]:
        net, mlp = partial(ConvNet, hidden=4), partial(MLP, hidden=6)
        spline = RationalQuadraticSpline(4)
        return [
            Example(lambda: cls(3, net, cond_channels=2), (3, 2, 3), (2, 2, 3), name="images"),
            Example(lambda: cls(1, mlp, spline, cond_channels=2), (1,), (2,), name="vectors"),
            Example(
                lambda: cls(2, mlp, cond_channels=2), (2, 3), (2,), name="vector at every place"
            ),
        ]
