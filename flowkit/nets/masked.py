"""Masked autoencoder: a net each of whose outputs sees only the inputs that it may."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import require_at_least
from flowkit.nets.conditioner import Conditioner


class MaskedLinear(nn.Linear):
    """y = (w∘m)·x + b with a fixed mask m (c_out, c_in) of zeros and ones."""

    mask: Tensor

    def __init__(self, mask: Tensor, *, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias=bias)
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(Conditioner):
    """`count` numbers for each of n inputs, which depend on the inputs before it alone, or on those
    that an adjacency matrix allows.

    What output i may see is a set. Each unit between has one of these sets, in equal shares: it
    sees the inputs in it and the units whose sets lie in it, and is seen by outputs with all of it.

    Args:
        channels: n.
        count: numbers for each.
        cond_channels: D of the condition, 0 for none.
        hidden: width of the layers between.
        depth: number of the layers between, at least 1.
        adjacency: (n, n) of 0 and 1; row i says which inputs the numbers of input i depend on. All
            before it if None.
        cond_adjacency: (n, D), likewise for the condition. All of it if None.

    Takes x (B, n) and a condition (B, D), gives (B, count·n): number k of input i is at k·n + i.
    It is 0 until training moves the last layer.

    Raises:
        ValueError: a matrix is of another kind; or there are fewer units than different rows, so
            that something allowed would go unseen (rows of which each holds the one before may be
            more: outputs then see no more than most of what they may).

    Germain et al., MADE, 2015, arXiv:1502.03509, eq. 12-13, with sets for degrees, in turn instead
    of drawn.
    """

    axes = 0
    adjacency: Tensor

    def __init__(
        self,
        channels: int,
        count: int,
        *,
        cond_channels: int = 0,
        hidden: int = 64,
        depth: int = 2,
        adjacency: Tensor | None = None,
        cond_adjacency: Tensor | None = None,
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "count", count, 1)
        require_at_least(self, "hidden", hidden, 1)
        require_at_least(self, "depth", depth, 1)
        self.cond_channels = cond_channels
        if adjacency is None:
            adjacency = torch.ones(channels, channels).tril(-1)
        if cond_adjacency is None:
            cond_adjacency = torch.ones(channels, cond_channels)
        sees = require_adjacency(self, "adjacency", adjacency, channels, channels)
        beside = require_adjacency(self, "cond_adjacency", cond_adjacency, channels, cond_channels)
        outputs = torch.cat([sees, beside], dim=1)
        units = _shared_out(outputs, hidden)
        self.register_buffer("adjacency", sees, persistent=False)
        self.said = _said(sees, beside)
        self.first = MaskedLinear(units[:, :channels])
        self.first_cond = None
        if cond_channels:
            self.first_cond = MaskedLinear(units[:, channels:], bias=False)
        self.between = nn.ModuleList(MaskedLinear(_within(units, units)) for _ in range(depth - 1))
        self.last = MaskedLinear(_within(units, outputs).repeat(count, 1))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x = self.first(x) if share is None else self.first(x) + share
        for layer in self.between:
            x = layer(F.silu(x))
        return self.last(F.silu(x))

    def extra_repr(self) -> str:
        return self.said


def require_adjacency(who: object, name: str, matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Return `matrix` as (rows, columns) of bool.

    Raises:
        TypeError: it isn't a matrix of numbers.
        ValueError: it has another shape, or entries other than 0 and 1.
    """
    try:
        matrix = torch.as_tensor(matrix)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{type(who).__name__}: expected {name} as a ({rows}, {columns}) matrix of 0 and 1, "
            f"got {matrix!r}"
        ) from error
    if matrix.shape != (rows, columns) or not ((matrix == 0) | (matrix == 1)).all():
        raise ValueError(
            f"{type(who).__name__}: expected {name} as a ({rows}, {columns}) matrix of 0 and 1, "
            f"got {matrix.tolist() if matrix.numel() < 50 else tuple(matrix.shape)}"
        )
    return matrix.bool()


def _shared_out(sets: Tensor, hidden: int) -> Tensor:
    """The different rows of `sets`, small ones first, each for as many of `hidden` units."""
    kinds = sets.unique(dim=0)
    if kinds.any():
        kinds = kinds[kinds.any(1)]
    kinds = kinds[kinds.sum(1).argsort(stable=True)]
    nested = (kinds[:-1] <= kinds[1:]).all()
    if hidden < len(kinds) and not nested:
        raise ValueError(
            f"MADE: expected hidden >= {len(kinds)}, a unit for each of the different rows of the "
            f"adjacency, got {hidden}"
        )
    return kinds[torch.arange(hidden) * len(kinds) // hidden]


def _said(sees: Tensor, beside: Tensor) -> str:
    """The two adjacencies in words, "" for those that stand for None."""
    before = sees.sum(1)
    parts = []
    in_order = len(before.unique()) == len(before) and sees.equal(before[:, None] > before)
    if not in_order:
        parts.append(f"adjacency={_rows(sees)}")
    elif not before.equal(before.sort().values):
        parts.append(f"order={before.argsort().tolist()}")
    if not beside.all():
        parts.append(f"cond_adjacency={_rows(beside)}")
    return ", ".join(parts)


def _rows(matrix: Tensor) -> str:
    return "/".join("".join(map(str, row)) for row in matrix.int().tolist())


def _within(small: Tensor, large: Tensor) -> Tensor:
    """Which sets of `small` lie in which of `large`, as a matrix (large, small)."""
    return (~large).float() @ small.T.float() == 0
