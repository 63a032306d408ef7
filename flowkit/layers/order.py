"""Who depends on whom: orders and adjacency matrices of autoregressive maps."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

from flowkit.contract import Shape
from flowkit.nets.masked import require_adjacency


def of_order(who: object, order: Sequence[int], channels: int) -> Tensor:
    """The adjacency (C, C) in which each channel depends on those before it in `order`; errors are
    those of `permutation`."""
    rank = torch.argsort(torch.tensor(permutation(who, order, channels)))
    return rank[:, None] > rank


def permutation(who: object, order: Sequence[int], channels: int | None = None) -> list[int]:
    """Return `order` as a list if it is a permutation of 0 … C-1, for any C >= 1 if None.

    Raises:
        TypeError: it isn't a sequence of integers.
        ValueError: it isn't a permutation.
    """
    name = type(who).__name__
    try:
        numbers = [index(number) for number in order]
    except TypeError as error:
        raise TypeError(f"{name}: expected order as integers 0 … C-1, got {order!r}") from error
    if channels is None:
        channels = max(1, len(numbers))
    if sorted(numbers) != list(range(channels)):
        raise ValueError(
            f"{name}: expected order to hold each of 0 … {channels - 1} once, got {numbers}"
        )
    return numbers


def levels(who: object, adjacency: Tensor, channels: int) -> Tensor:
    """How many steps each channel has to wait: the length of the longest path that leads to it.

    Raises:
        ValueError: `adjacency` isn't a (C, C) matrix of 0 and 1, or there is a cycle.
    """
    sees = require_adjacency(who, "adjacency", adjacency, channels, channels).long()
    level = torch.zeros(channels, dtype=torch.long, device=sees.device)
    for _ in range(channels):
        further = (sees * (level + 1)).amax(1)
        if further.equal(level):
            return level
        level = further
    raise ValueError(
        f"{type(who).__name__}: expected an adjacency without a cycle, got one through "
        f"{(level == level.max()).nonzero().flatten().tolist()}"
    )


def rounds(level: Tensor, depth: int, sizes: Shape, reach: int | None) -> tuple[Tensor, int]:
    """In which round back, from 0, each element (C, *S) is found, and how many rounds there are.

    Args:
        level: (C,), for how many steps a channel has to wait at its own place, less than `depth`.
        reach: see `place_strides`.
    """
    found, count = level.reshape(-1, *[1] * len(sizes)), depth
    for axis, (size, stride) in enumerate(zip(sizes, place_strides(sizes, reach), strict=True)):
        index = torch.arange(size, device=level.device)
        found = found + depth * stride * index.reshape(-1, *[1] * (len(sizes) - axis - 1))
        count += depth * stride * (size - 1)
    return found, count


def place_strides(sizes: Shape, reach: int | None) -> tuple[int, ...]:
    """Steps s such that the place at index i of S has to wait for places of a smaller Σ sₖ·iₖ only.

    A layer of the net sees earlier rows, and there `reach` places ahead on the axes that follow: a
    step from there to here is of 1 at least if sₖ = 1 + reach·Σ_{later} s. With None, of a net that
    sees anything earlier, Σ sₖ·iₖ counts the places.
    """
    strides, ahead = [], 0
    for size in reversed(sizes):
        strides.append(1 + ahead)
        ahead += strides[-1] * (size - 1 if reach is None else min(reach, size - 1))
    return tuple(reversed(strides))
