"""Chain: one bijection after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from torch import Tensor, nn

from flowkit.combine.parts import require_bijection
from flowkit.contract import Bijection, Cond, Example, Shape, wide, zero_logdet
from flowkit.layers import ActNorm, Coupling, FoldedLinear, InvertibleLinear, Squeeze
from flowkit.nets import ConvNet


class Chain(Bijection):
    """y = fₙ(… f₂(f₁(x))), the log-determinants summed.

    Args:
        layers: f₁ … fₙ in the order of data -> noise; they share one condition.

    A layer's error says its place: `Chain, layer 3 (Coupling): expected …`.

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
        if not isinstance(x, Tensor):
            raise TypeError(f"Chain: expected a tensor (B, C, *S), got {type(x).__name__}")
        if x.is_floating_point():
            x = wide(x)
        total = zero_logdet(x)
        for place, layer in self._in_order(inverse):
            try:
                x, logdet = layer.inverse(x, cond) if inverse else layer(x, cond)
            except (TypeError, ValueError) as error:
                raise self._located(place, error) from error
            total = total + logdet
        return x, total

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        for place, layer in self._in_order(inverse):
            try:
                shape = layer.shape(shape, inverse=inverse)
            except ValueError as error:
                raise self._located(place, error) from error
        return shape

    def given(self, cond: Cond) -> Chain:
        layers = []
        for place, layer in enumerate(self):
            try:
                layers.append(layer.given(cond))
            except (TypeError, ValueError) as error:
                raise self._located(place, error) from error
        return Chain(*layers)

    def fold(self) -> Chain:
        """Every layer folded, and each ActNorm before an InvertibleLinear merged into it."""
        folded: list[Bijection] = []
        layers = list(self)
        for index, layer in enumerate(layers):
            after = layers[index + 1] if index + 1 < len(layers) else None
            before = layers[index - 1] if index else None
            if _merges(before, layer):
                assert isinstance(before, ActNorm)
                assert isinstance(layer, InvertibleLinear)
                folded.append(_merged(before, layer))
            elif not _merges(layer, after):
                folded.append(layer.fold())
        return Chain(*folded)

    def _in_order(self, inverse: bool) -> Iterable[tuple[int, Bijection]]:
        layers = list(enumerate(self))
        return reversed(layers) if inverse else layers

    def _located(self, place: int, error: Exception) -> Exception:
        message = f"Chain, layer {place} ({type(self[place]).__name__}): {error}"
        return TypeError(message) if isinstance(error, TypeError) else ValueError(message)

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


def _merges(first: Bijection | None, second: Bijection | None) -> bool:
    """Whether these two are exactly an ActNorm and an InvertibleLinear, which nobody listens to."""
    exact = type(first) is ActNorm and type(second) is InvertibleLinear
    return exact and not any(
        hooks
        for layer in (first, second)
        for hooks in (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    )


def _merged(actnorm: ActNorm, linear: InvertibleLinear) -> FoldedLinear:
    """W·(x + b)·s as (W·s)·x + W·s·b, worked out in float64."""
    matrix = linear.weight.matrix()
    weight = matrix.double() * actnorm.log_scale.double().exp()
    bias = weight @ actnorm.bias.double()
    return FoldedLinear(weight.to(matrix.dtype), bias.to(matrix.dtype))
