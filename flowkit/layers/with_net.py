"""What families whose numbers come from a net share."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from flowkit.conditions import require_cond
from flowkit.contract import Cond, frozen
from flowkit.layers.parameterized import Parameterized, require_params
from flowkit.nets.conditioner import Conditioner, ask, fold, given


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
        params = ask(self.net, seen, self.require_beside(x, cond))
        return require_params(self, params, changed, self.how, x)

    def require_beside(self, x: Tensor, cond: Cond) -> Tensor | None:
        """The condition, if it fits x (B, C, *S) and the net; None where none is taken.

        Raises:
            ValueError: it doesn't.
        """
        if not self.conditional:
            return None
        own = isinstance(self.net, Conditioner) and not self.net.cond_places
        return require_cond(self, cond, self.cond_channels, like=x, own_places=own)

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
