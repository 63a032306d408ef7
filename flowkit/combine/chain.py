"""Chain: one bijection after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from torch import Tensor, nn

from flowkit.combine.parts import require_bijection, run, say_where, say_who
from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    exactly,
    require_channels,
    wide,
    zero_logdet,
)
from flowkit.layers import ActNorm, Coupling, FoldedLinear, InvertibleLinear, Squeeze
from flowkit.nets import ConvNet


class Chain(Bijection):
    """y = fₙ(… f₂(f₁(x))), the log-determinants summed.

    Args:
        layers: f₁ … fₙ in the order of data -> noise; they share one condition.

    An error says where it came about: `layer 2.0, ActNorm: …` is layer 0 of the chain that is
    layer 2 of this one.

    >>> import torch
    >>> chain = Chain(Squeeze(), InvertibleLinear(4))
    >>> y, logdet = chain(torch.rand(2, 1, 4, 4))
    >>> y.shape, logdet.shape
    (torch.Size([2, 4, 2, 2]), torch.Size([2]))
    """

    def __init__(self, *layers: Bijection) -> None:
        super().__init__()
        self.layers = nn.ModuleList(require_bijection(self, layer) for layer in layers)

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(layer.conditional for layer in self)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._through(x, cond, inverse=False)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._through(y, cond, inverse=True)

    def _through(self, x: Tensor, cond: Cond, *, inverse: bool) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        x, shape = wide(x), x.shape
        total = zero_logdet(x)
        for place, layer in self._in_order(inverse):
            try:
                y, logdet = run(layer, x, cond, inverse=inverse)
            except Exception as error:
                say_where(error, place, x.shape, shape)
                raise
            x, total = y, total + logdet
        return x, total

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        whole = shape
        for place, layer in self._in_order(inverse):
            try:
                shape = layer.shape(shape, inverse=inverse)
            except Exception as error:
                say_who(error, layer)
                say_where(error, place, shape, whole)
                raise
        return shape

    def given(self, cond: Cond) -> Bijection:
        if not exactly(self, Chain):
            return super().given(cond)
        layers = []
        for place, layer in enumerate(self):
            try:
                layers.append(layer.given(cond))
            except Exception as error:
                say_who(error, layer)
                say_where(error, place, (), ())
                raise
        return Chain(*layers)

    def fold(self) -> Bijection:
        """Every layer folded, and each ActNorm before an InvertibleLinear merged into it."""
        if not exactly(self, Chain):
            return super().fold()
        folded: list[Bijection] = []
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if exactly(layer, ActNorm) and layers and exactly(layers[0], InvertibleLinear):
                folded.append(_merged(layer, layers.pop(0)))
            else:
                folded.append(layer.fold())
        return Chain(*folded)

    def _in_order(self, inverse: bool) -> Iterable[tuple[int, Bijection]]:
        layers = list(enumerate(self))
        return reversed(layers) if inverse else layers

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.layers)  # pyright: ignore[reportReturnType]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int | slice) -> Bijection:
        """One layer, or a chain of several that shares their parameters."""
        layers = self.layers[index]
        return Chain(*layers) if isinstance(layers, nn.ModuleList) else layers  # pyright: ignore

    @classmethod
    def examples(cls) -> list[Example]:
        def images() -> Chain:
            coupling = Coupling(12, partial(ConvNet, hidden=4), cond_channels=1)
            return cls(ActNorm(3), InvertibleLinear(3), Squeeze(), ActNorm(12), coupling)

        return [
            Example(images, (3, 2, 4), (1, 1, 2), name="images"),
            Example(lambda: cls(ActNorm(3), InvertibleLinear(3)), (3,), name="vectors"),
            Example(lambda: cls(ActNorm(3), InvertibleLinear(3)).fold(), (3, 2), name="folded"),
        ]


def _merged(actnorm: Bijection, linear: Bijection) -> FoldedLinear:
    """W·(x + b)·s as (W·s)·x + W·s·b, worked out in float64."""
    assert isinstance(actnorm, ActNorm)
    assert isinstance(linear, InvertibleLinear)
    matrix = wide(linear.weight.matrix())
    weight = matrix.double() * actnorm.log_scale.double().exp()
    bias = weight @ actnorm.bias.double()
    return FoldedLinear(weight.to(matrix.dtype), bias.to(matrix.dtype))
