"""What couplings, injectors and the like share: an elementwise map with numbers from elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor, nn

from flowkit.conditions import require_cond
from flowkit.contract import Bijection, Cond, Shape, frozen, require_channels, require_shape
from flowkit.elementwise.mapping import Elementwise, apply
from flowkit.nets.conditioner import ask, fold, given


class Parameterized(Bijection, ABC):
    """y = how(x; params(x, cond)) on the last channels: a family says what `params` may see.

    A subclass sets `how` and `channels`, and defines `params` such that it is the same for x and y.
    """

    channels: int
    how: Elementwise

    @abstractmethod
    def params(self, x: Tensor, cond: Cond) -> Tensor:
        """(B, count·n, *S) for the last n channels of x (B, C, *S), which may be either side's."""

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x, self.channels)
        return apply(self.how, x, self.params(x, cond))

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels)
        return apply(self.how, y, self.params(y, cond), inverse=True)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}, how={self.how}"


class WithNet(Parameterized):
    """A family whose numbers come from a net, which sees a part of x and the condition."""

    net: nn.Module
    cond_channels: int

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cond_channels > 0

    def answer(self, seen: Tensor, x: Tensor, cond: Cond, changed: int) -> Tensor:
        """The net's numbers for `changed` channels of x (B, C, *S), from what it sees of x.

        Raises:
            ValueError: the condition doesn't fit x, or the net's output has another shape.
        """
        beside = require_cond(self, cond, self.cond_channels, like=x) if self.conditional else None
        params = ask(self.net, seen, beside)
        return require_params(self, params, changed, self.how, x)

    def given_net(self, cond: Cond) -> nn.Module:
        """The net for this condition; itself where it takes none."""
        if not self.conditional:
            return self.net
        return given(self.net, require_cond(self, cond, self.cond_channels))


Layer = TypeVar("Layer", bound=WithNet)


def with_folded_net(layer: Layer) -> Layer:
    """A frozen copy, its net folded."""
    folded = frozen(layer)
    folded.net = fold(layer.net)
    return folded


def require_params(
    who: Bijection, params: Tensor, changed: int, how: Elementwise, x: Tensor
) -> Tensor:
    """Return `params` if it holds the map's numbers for `changed` channels of x (B, C, *S).

    Raises:
        ValueError: its shape is another.
    """
    expected = (x.shape[0], how.count * changed, *x.shape[2:])
    if params.shape != expected:
        raise ValueError(
            f"{type(who).__name__}: expected {how.count} numbers for each of {changed} channels "
            f"from the net, shape {expected}, got {tuple(params.shape)}"
        )
    return params
