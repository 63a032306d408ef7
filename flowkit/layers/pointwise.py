"""Pointwise: every channel has numbers of its own, learned or fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.conditions import everywhere
from flowkit.contract import Cond, Example, repeated, require_at_least
from flowkit.elementwise import (
    Affine,
    Bernstein,
    BoundedSpline,
    CircularSpline,
    CubicRational,
    DeepSigmoid,
    Elementwise,
    LogisticMixture,
    RationalQuadraticSpline,
    SinhArcsinh,
    require_elementwise,
)
from flowkit.layers.parameterized import Parameterized


class Pointwise(Parameterized):
    """y = how(x; w) with numbers w that don't depend on x;  log|det| = Σ log dy/dx.

    Args:
        channels: C of the input (B, C, *S).
        how: the elementwise map.
        numbers: w (count·C,), the same at every place and for every sample; or (B, count·C) or
            (B, count·C, *S), for B samples or a multiple of them. None: (count·C,) learned numbers,
            which start at 0, where every map of flowkit's is the identity or near it.

    Raises:
        TypeError: numbers aren't a tensor.
        ValueError: there are more or fewer numbers.

    >>> import torch
    >>> Pointwise(3, Affine())(torch.rand(2, 3, 4, 4))[1].shape
    torch.Size([2])
    """

    conditional = False
    numbers: Tensor

    def __init__(
        self, channels: int, how: Elementwise = Affine(), *, numbers: Tensor | None = None
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        self.channels = channels
        self.how = require_elementwise(self, how)
        count = how.count * channels
        if numbers is None:
            numbers = nn.Parameter(torch.zeros(count))
        if not isinstance(numbers, Tensor):
            raise TypeError(
                f"Pointwise: expected numbers as a tensor, got {type(numbers).__name__} "
                "(torch.as_tensor makes one)"
            )
        if isinstance(numbers, nn.Parameter):
            self.numbers = numbers
        else:
            self.register_buffer("numbers", numbers)
        if numbers.shape[:2][-1:] != (count,):
            raise ValueError(
                f"Pointwise: expected {how.count} numbers for each of {channels} channels, got "
                f"shape {tuple(self.numbers.shape)}"
            )

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        numbers = self.numbers[None] if self.numbers.dim() == 1 else self.numbers
        numbers = repeated(self, numbers, x)
        assert isinstance(numbers, Tensor)
        return everywhere(numbers, x)

    @classmethod
    def examples(cls) -> list[Example]:
        numbers = torch.tensor([[0.5, -1.0, 0.3, 0.7]])
        return [
            Example(lambda: cls(2), (2, 2, 3), name="affine"),
            Example(lambda: cls(3, RationalQuadraticSpline(4)), (3,), name="spline"),
            Example(lambda: cls(2, numbers=numbers), (2, 3), name="fixed"),
            Example(lambda: cls(2, BoundedSpline(3)), (2,), name="bounded spline"),
            Example(lambda: cls(2, CircularSpline(3)), (2,), name="circular spline"),
            Example(lambda: cls(2, LogisticMixture(2)), (2,), name="logistic mixture"),
            Example(lambda: cls(2, DeepSigmoid(2)), (2,), name="deep sigmoid"),
            Example(lambda: cls(2, Bernstein(2)), (2,), name="Bernstein polynomial"),
            Example(lambda: cls(2, CubicRational()), (2,), name="cubic-rational"),
            Example(lambda: cls(2, SinhArcsinh()), (2,), name="sinh-arcsinh"),
        ]
