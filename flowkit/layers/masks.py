"""Masks over places of any size: which of them a coupling keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowkit.contract import Shape, require_bool

Mask = Callable[[Shape, torch.device | None], Tensor]
"""(S, device) -> which places are kept: a bool tensor of shape S, or one that broadcasts to it."""


@dataclass(frozen=True)
class Checkerboard:
    """Keeps the places whose indices sum to an even number, or with `odd` the others: the fields of
    one colour, every other step of a sequence.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, §3.4, fig. 3.

    >>> Checkerboard()((2, 4)).int().tolist()
    [[1, 0, 1, 0], [0, 1, 0, 1]]
    """

    odd: bool = False

    def __post_init__(self) -> None:
        require_bool(self, odd=self.odd)

    def __call__(self, places: Shape, device: torch.device | None = None) -> Tensor:
        _require_places(self, places)
        total = torch.tensor(int(self.odd), device=device)
        for axis, size in enumerate(places):
            total = total + _along(axis, size, places, device)
        return total % 2 == 0


@dataclass(frozen=True)
class Stripes:
    """Keeps every other stripe: the places whose index on one axis is even, or with `odd` the
    others.

    Args:
        axis: of S; -1, the last, is columns of a picture, 0 its rows.
        odd: keep the others.

    >>> Stripes()((2, 4)).int().tolist()
    [[1, 0, 1, 0]]
    """

    axis: int = -1
    odd: bool = False

    def __post_init__(self) -> None:
        require_bool(self, odd=self.odd)

    def __call__(self, places: Shape, device: torch.device | None = None) -> Tensor:
        _require_places(self, places)
        if not -len(places) <= self.axis < len(places):
            raise ValueError(
                f"Stripes: expected samples that have an axis {self.axis} among their places, got "
                f"places {tuple(places)}"
            )
        axis = self.axis % len(places)
        return (_along(axis, places[axis], places, device) + int(self.odd)) % 2 == 0


def over_channels(who: object, mask: Sequence[int] | Tensor, channels: int) -> Tensor:
    """Return a mask over channels as (C,), True for those that are kept.

    Raises:
        ValueError: it isn't C times 0 or 1, of both kinds.
    """
    kept = torch.as_tensor(mask)
    if kept.shape != (channels,) or {*kept.tolist()} != {0, 1}:
        raise ValueError(
            f"{type(who).__name__}: expected a mask of {channels} times 0 or 1, of both kinds, "
            f"got {kept.tolist()}"
        )
    return kept.bool()


def over_places(who: object, mask: Mask, x: Tensor) -> Tensor:
    """What a mask, which anybody may have written, keeps of x (B, C, *S), broadcastable to it.

    Raises:
        TypeError: it gives no tensor.
        ValueError: that doesn't broadcast.
    """
    name, kept = type(who).__name__, mask(tuple(x.shape[2:]), x.device)
    if not isinstance(kept, Tensor):
        raise TypeError(
            f"{name}: expected the mask as a tensor, got {type(kept).__name__} from {mask}"
        )
    sizes = zip(reversed(kept.shape), reversed((1, *x.shape[1:])), strict=False)
    if kept.dim() > x.dim() or not all(own == 1 or own == size for own, size in sizes):
        raise ValueError(
            f"{name}: expected a mask that broadcasts to {tuple(x.shape[2:])}, got "
            f"{tuple(kept.shape)} from {mask}"
        )
    return kept.bool()


def _along(axis: int, size: int, places: Shape, device: torch.device | None) -> Tensor:
    return torch.arange(size, device=device).reshape(
        *[1] * axis, -1, *[1] * (len(places) - axis - 1)
    )


def _require_places(who: object, places: Shape) -> None:
    if not places:
        raise ValueError(
            f"{type(who).__name__}: expected samples (C, *S) with places, got vectors (a mask over "
            "channels is a list of 0 and 1)"
        )
