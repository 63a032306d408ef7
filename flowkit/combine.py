"""Bijections made of bijections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from flowkit.bijection import (
    Bijection,
    Cond,
    Example,
    Prepared,
    Shape,
    hooked,
    require_image,
    zero_logdet,
)
from flowkit.layers import ActNorm, AffineInjector, InvConv1x1, Squeeze
from flowkit.layers.invconv1x1 import NormalizedConv1x1
from flowkit.nets import ConvNet


class Chain(Bijection):
    """y = fₙ(… f₂(f₁(x))), the log-determinants summed.

    Args:
        layers: f₁ … fₙ in the order of data -> noise; they share one condition.

    >>> chain = Chain(Squeeze(), Inverse(Squeeze()), Squeeze())
    >>> y, logdet = chain(torch.arange(4.0).reshape(1, 1, 2, 2))
    >>> y.shape, logdet
    (torch.Size([1, 4, 1, 1]), tensor([0.]))
    """

    def __init__(self, *layers: Bijection) -> None:
        super().__init__()
        for layer in layers:
            if not isinstance(layer, Bijection):
                raise TypeError(f"Chain: expected bijections, got {type(layer).__name__}")
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        total = zero_logdet(x)
        for layer, layer_cond in self._merged(cond):
            x, logdet = layer(x, layer_cond)
            total = total + logdet
        return x, total

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        total = zero_logdet(y)
        for layer, layer_cond in reversed(self._merged(cond)):
            y, logdet = layer.inverse(y, layer_cond)
            total = total + logdet
        return y, total

    def forward_shape(self, shape: Shape) -> Shape:
        for layer in self:
            shape = layer.forward_shape(shape)
        return shape

    def inverse_shape(self, shape: Shape) -> Shape:
        for layer in reversed(list(self)):
            shape = layer.inverse_shape(shape)
        return shape

    def _conds(self, cond: Cond) -> list[Cond]:
        prepared = self.prepared(cond)
        return [cond] * len(self) if prepared is None else prepared

    def prepare(self, cond: Cond) -> Prepared:
        return Prepared(self, [layer.prepare(cond) for layer in self])

    def steps(self, cond: Cond) -> list[tuple[Bijection, Cond]]:
        return [step for layer, entry in self._merged(cond) for step in layer.steps(entry)]

    def fold(self) -> Chain:
        """Every layer folded, and each ActNorm followed by an InvConv1x1 merged into one layer."""
        return Chain(*(layer.fold() for layer, _ in self._merged(None)))

    def _merged(self, cond: Cond) -> list[tuple[Bijection, Cond]]:
        """The maps to be applied, each with its condition: of an ActNorm and the 1x1 convolution
        after it, the convolution does the work. Whoever has a hook in one of the two wants to see
        it called."""
        merged: list[tuple[Bijection, Cond]] = []
        for layer, layer_cond in zip(self, self._conds(cond), strict=True):
            before = merged[-1][0] if merged else None
            # Not their subclasses, which may do something else.
            if type(before) is ActNorm and type(layer) is InvConv1x1 and not hooked(before, layer):
                merged[-1] = NormalizedConv1x1(before, layer), None
            else:
                merged.append((layer, layer_cond))
        return merged

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
        return [
            Example(lambda: cls(ActNorm(3), InvConv1x1(3), Squeeze(), ActNorm(12)), (3, 2, 2)),
            Example(lambda: cls(ActNorm(3), InvConv1x1(3)).fold(), (3, 2, 2), name="folded"),
        ]


class Inverse(Bijection):
    """The other direction of `bijection`: its inverse is forward here."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse(x, cond)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self.bijection(y, cond)

    def forward_shape(self, shape: Shape) -> Shape:
        return self.bijection.inverse_shape(shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return self.bijection.forward_shape(shape)

    def prepare(self, cond: Cond) -> Cond:
        return self.bijection.prepare(cond)

    def fold(self) -> Inverse:
        return Inverse(self.bijection.fold())

    @classmethod
    def examples(cls) -> list[Example]:
        injector = partial(AffineInjector, 2, partial(ConvNet, hidden=4), cond_channels=2)
        return [Example(lambda: cls(injector()), (2, 2, 2), (2, 2, 2))]


class At(Bijection):
    """`bijection` conditioned on one entry of a mapping: cond[key].

    Args:
        key: the entry that `bijection` gets as its condition.
        bijection: the map.

    Raises (on use):
        ValueError: there is no condition.
        TypeError: the condition isn't a mapping.
        KeyError: the mapping has no such entry.

    >>> layer = At("half", AffineInjector(2, ConvNet, cond_channels=3))
    >>> y, logdet = layer(torch.rand(1, 2, 4, 4), {"half": torch.rand(1, 3, 4, 4)})
    >>> y.shape
    torch.Size([1, 2, 4, 4])
    """

    def __init__(self, key: str, bijection: Bijection) -> None:
        super().__init__()
        self.key = key
        self.bijection = bijection

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self.bijection(x, self._entry(cond))

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse(y, self._entry(cond))

    def forward_shape(self, shape: Shape) -> Shape:
        return self.bijection.forward_shape(shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return self.bijection.inverse_shape(shape)

    def prepare(self, cond: Cond) -> Prepared:
        return Prepared(self, self.bijection.prepare(self._entry(cond)))

    def steps(self, cond: Cond) -> list[tuple[Bijection, Cond]]:
        return self.bijection.steps(self._entry(cond))

    def fold(self) -> At:
        return At(self.key, self.bijection.fold())

    def _entry(self, cond: Cond) -> Cond:
        if isinstance(cond, Prepared):
            return self.prepared(cond)
        if cond is None:
            raise ValueError(f"At: expected a condition with the entry {self.key!r}, got None")
        if not isinstance(cond, Mapping):
            raise TypeError(f"At: expected a mapping, got {type(cond).__name__}")
        if self.key not in cond:
            raise KeyError(f"At: expected an entry {self.key!r}, got {sorted(cond)}")
        return cond[self.key]

    @classmethod
    def examples(cls) -> list[Example]:
        injector = partial(AffineInjector, 2, partial(ConvNet, hidden=4), cond_channels=2)
        return [Example(lambda: cls("half", injector()), (2, 2, 2), {"half": (2, 2, 2)})]


class OnChannels(Bijection):
    """`bijection` on the first `channels` channels; the others pass through.

    A flow that factors out half of its channels is
    `OnChannels(n, Chain(Squeeze(), ..., Inverse(Squeeze())))`.

    Args:
        channels: n, how many channels `bijection` sees; fewer than the input has.
        bijection: a map that keeps the shape of what it is given.

    >>> layer = OnChannels(1, ActNorm(1))
    >>> x = torch.rand(1, 3, 4, 4)
    >>> torch.equal(layer(x)[0][:, 1:], x[:, 1:])
    True
    """

    def __init__(self, channels: int, bijection: Bijection) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"OnChannels: expected at least 1 channel, got {channels}")
        self.channels = channels
        self.bijection = bijection

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        first, rest = self._parts(x)
        changed, logdet = self.bijection(first, cond)
        return self._joined(first, changed, rest), logdet

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        first, rest = self._parts(y)
        changed, logdet = self.bijection.inverse(first, cond)
        return self._joined(first, changed, rest), logdet

    def prepare(self, cond: Cond) -> Cond:
        return self.bijection.prepare(cond)

    def fold(self) -> OnChannels:
        return OnChannels(self.channels, self.bijection.fold())

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        require_image(self, x)
        if x.shape[1] < self.channels:
            raise ValueError(
                f"OnChannels: expected at least {self.channels} channels, got {tuple(x.shape)}"
            )
        return x[:, : self.channels], x[:, self.channels :]

    def _joined(self, first: Tensor, changed: Tensor, rest: Tensor) -> Tensor:
        if changed.shape != first.shape:
            raise ValueError(
                f"OnChannels: expected a bijection that keeps the shape {tuple(first.shape)}, "
                f"got {tuple(changed.shape)} from {type(self.bijection).__name__}"
            )
        return torch.cat([changed, rest.to(changed.dtype)], dim=1)

    @classmethod
    def examples(cls) -> list[Example]:
        def multiscale() -> OnChannels:
            return cls(1, Chain(Squeeze(), ActNorm(4), InvConv1x1(4), Inverse(Squeeze())))

        return [Example(multiscale, (2, 2, 4))]
