"""Pointwise: every channel has numbers of its own, learned or fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.contract import Cond, Example, along_channels, require_at_least
from flowkit.elementwise import Affine, Elementwise, RationalQuadraticSpline
from flowkit.layers.parameterized import Parameterized


class Pointwise(Parameterized):
    """y = how(x; w) with learned numbers w of each channel, the same at every place and for every
    sample; log|det| = Σ log dy/dx.

    Args:
        channels: C of the input (B, C, *S).
        how: the elementwise map.

    All numbers start at 0, where every map of flowkit's is the identity.
    """

    conditional = False

    def __init__(self, channels: int, how: Elementwise = Affine()) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        self.channels = channels
        self.how = how
        self.numbers = nn.Parameter(torch.zeros(how.count * channels))

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        numbers = along_channels(self.numbers, x)
        return numbers.expand(x.shape[0], -1, *x.shape[2:])

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls(2), (2, 2, 3), name="affine"),
            Example(lambda: cls(3, RationalQuadraticSpline(4)), (3,), name="spline"),
        ]
