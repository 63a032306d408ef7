"""Inverse: the other direction of a bijection."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from flowkit.combine.parts import require_bijection, run
from flowkit.contract import Bijection, Cond, Example, Shape, exactly
from flowkit.layers import Autoregressive, Injector
from flowkit.nets import MADE, ConvNet


class Inverse(Bijection):
    """The other direction of `bijection`: its inverse is forward here.

    >>> from flowkit import Squeeze
    >>> Inverse(Squeeze()).shape((12, 4, 4))
    (3, 8, 8)
    """

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = require_bijection(self, bijection)

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.bijection.conditional

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return run(self.bijection, x, cond, inverse=True)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return run(self.bijection, y, cond)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return self.bijection.shape(shape, inverse=not inverse)

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, Inverse):
            return super().given(cond)
        return Inverse(self.bijection.given(cond))

    def fold(self) -> Bijection:
        return Inverse(self.bijection.fold()) if exactly(self, Inverse) else super().fold()

    @classmethod
    def examples(cls) -> list[Example]:
        injector = partial(Injector, 2, partial(ConvNet, hidden=4), cond_channels=2)
        return [
            Example(lambda: cls(injector()), (2, 2, 3), (2, 2, 3), name="injector"),
            Example(lambda: cls(Autoregressive(3, partial(MADE, hidden=6))), (3,), name="IAF"),
        ]
