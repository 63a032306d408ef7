"""What couplings, injectors and the like share: an elementwise map with numbers from elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from flowkit.contract import Bijection, Cond, Shape, require_channels, require_shape
from flowkit.elementwise.mapping import Elementwise, apply


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
