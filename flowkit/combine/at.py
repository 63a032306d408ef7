"""At: a bijection under one entry of the condition."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from flowkit.combine.parts import require_bijection, run
from flowkit.contract import Bijection, Cond, Example, Shape, exactly
from flowkit.layers import Injector
from flowkit.nets import ConvNet


class At(Bijection):
    """`bijection` conditioned on one entry of a mapping: cond[key].

    Args:
        key: the entry that `bijection` gets as its condition.
        bijection: the map.

    Raises (on use):
        ValueError: there is no condition, or the mapping has no such entry.
        TypeError: the condition isn't a mapping.

    >>> import torch
    >>> layer = At("half", Injector(2, ConvNet, cond_channels=3))
    >>> y, logdet = layer(torch.rand(1, 2, 4, 4), {"half": torch.rand(1, 3, 4, 4)})
    >>> y.shape
    torch.Size([1, 2, 4, 4])
    """

    def __init__(self, key: str, bijection: Bijection) -> None:
        super().__init__()
        self.key = key
        self.bijection = require_bijection(self, bijection)

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.bijection.conditional

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return run(self.bijection, x, self.entry(cond))

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return run(self.bijection, y, self.entry(cond), inverse=True)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return self.bijection.shape(shape, inverse=inverse)

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, At):
            return super().given(cond)
        return self.bijection.given(self.entry(cond))

    def fold(self) -> Bijection:
        return At(self.key, self.bijection.fold()) if exactly(self, At) else super().fold()

    def entry(self, cond: Cond) -> Cond:
        """cond[key], which the inner bijection gets."""
        if cond is None:
            raise ValueError(f"At: expected a condition with the entry {self.key!r}, got None")
        if not isinstance(cond, Mapping):
            raise TypeError(
                f"At: expected a mapping with the entry {self.key!r}, got {type(cond).__name__}"
            )
        if self.key not in cond:
            raise ValueError(
                f"At: expected a condition with the entry {self.key!r}, got {sorted(cond)}"
            )
        return cond[self.key]

    def extra_repr(self) -> str:
        return f"{self.key!r}"

    @classmethod
    def examples(cls) -> list[Example]:
        injector = partial(Injector, 2, partial(ConvNet, hidden=4), cond_channels=2)
        return [Example(lambda: cls("half", injector()), (2, 2, 3), {"half": (2, 2, 3)})]
