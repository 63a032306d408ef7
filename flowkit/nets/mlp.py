"""Multilayer perceptron, the conditioner for vectors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import require_at_least
from flowkit.nets.conditioner import Conditioner


class MLP(Conditioner):
    """linear – SiLU – … – linear, whose last layer starts at zero.

    The first layer is a sum of two, one of x and one of the condition, so that the latter is done
    once for all samples of a condition.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: width of the layers between.
        depth: number of the layers between, at least 1.

    Takes (B, c_in) and a condition (B, D), gives (B, c_out).

    >>> import torch
    >>> MLP(4, 6, cond_channels=3)(torch.rand(2, 4), torch.rand(2, 3)).shape
    torch.Size([2, 6])
    """

    axes = 0

    def __init__(
        self, c_in: int, c_out: int, *, cond_channels: int = 0, hidden: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        require_at_least(self, "hidden", hidden, 1)
        require_at_least(self, "depth", depth, 1)
        self.cond_channels = cond_channels
        self.first = nn.Linear(c_in, hidden)
        self.first_cond = nn.Linear(cond_channels, hidden, bias=False) if cond_channels else None
        self.between = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
        self.last = nn.Linear(hidden, c_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x = self.first(x) if share is None else self.first(x) + share
        for layer in self.between:
            x = layer(F.silu(x))
        return self.last(F.silu(x))
