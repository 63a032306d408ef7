"""Multilayer perceptron, the conditioner for vectors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.conditions import Unchanged
from flowkit.contract import HoldsCondition, repeated
from flowkit.nets.conditioner import Conditioner


class MLP(Conditioner):
    """linear – SiLU – … – linear, whose last layer starts at zero.

    The first layer is a sum of two, one of x and one of the condition, so that the latter is done
    once for all samples of a condition.

    Args:
        c_in: input channels; 0 is allowed where there is a condition.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: width of the layers between.
        depth: number of the layers between, at least 1.

    Takes (B, c_in) and a condition (B, D), gives (B, c_out).
    """

    def __init__(
        self, c_in: int, c_out: int, *, cond_channels: int = 0, hidden: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"MLP: expected depth >= 1, got {depth}")
        self.cond_channels = cond_channels
        self.first = nn.Linear(c_in, hidden)
        self.first_cond = nn.Linear(cond_channels, hidden, bias=False) if cond_channels else None
        self.between = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
        self.last = nn.Linear(hidden, c_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        if self.first_cond is None:
            return self.rest(self.first(x))
        assert cond is not None
        return self.rest(self.first(x) + self.first_cond(cond))

    def rest(self, x: Tensor) -> Tensor:
        """What follows the first layer."""
        for layer in self.between:
            x = layer(F.silu(x))
        return self.last(F.silu(x))

    def given(self, cond: Tensor) -> nn.Module:
        return GivenMLP(self, cond) if type(self) is MLP else super().given(cond)


class GivenMLP(nn.Module, HoldsCondition):
    """An `MLP` whose first layer of the condition is done."""

    def __init__(self, net: MLP, cond: Tensor) -> None:
        super().__init__()
        assert net.first_cond is not None
        self.net = net
        self.share = net.first_cond(cond)
        self.unchanged = Unchanged("MLP", list(net.first_cond.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        self.unchanged.require()
        share = repeated(self.net, self.share, x)
        assert isinstance(share, Tensor)
        return self.net.rest(self.net.first(x) + share)
