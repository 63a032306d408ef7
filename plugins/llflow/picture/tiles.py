"""Cutting a large picture into overlapping tiles whose results fit together without a seam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llflow.picture.preprocess import MULTIPLE

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """What to compute, and which part of it to keep.

    Attributes:
        outer: rows and columns of the picture to compute on, multiples of 8.
        inner: the part of that result that is right, counted from `outer`'s corner.
        place: where in the picture this part belongs.
    """

    outer: Window
    inner: Window
    place: Window


def tiles(height: int, width: int, side: int, margin: int) -> Iterator[Tile]:
    """Tiles whose kept parts cover the picture once.

    Args:
        height, width: of the picture, multiples of 8.
        side: longest side of a kept part.
        margin: how far `outer` reaches beyond it, as far as the picture does; rounded up to a
            multiple of 8.
    """
    for rows in _spans(height, side, margin):
        for columns in _spans(width, side, margin):
            outer, inner, place = zip(rows, columns, strict=True)
            yield Tile(outer, inner, place)


def _spans(size: int, side: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    count = -(-size // side)
    step = _rounded_up(-(-size // count))
    margin = _rounded_up(margin)
    for start in range(0, size, step):
        stop = min(start + step, size)
        first, last = max(start - margin, 0), min(stop + margin, size)
        yield slice(first, last), slice(start - first, stop - first), slice(start, stop)


def _rounded_up(size: int) -> int:
    return -(-size // MULTIPLE) * MULTIPLE
