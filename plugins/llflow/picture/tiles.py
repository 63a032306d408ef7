"""Cutting a large picture into overlapping tiles whose results fit together without a seam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llflow.picture.preprocess import MULTIPLE

Window = tuple[slice, slice]
LEAST = 256  # rows and columns, below which nearly everything would be computed many times


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


def tiles(height: int, width: int, side: int | tuple[int, int], margin: int) -> Iterator[Tile]:
    """Tiles whose kept parts cover the picture once.

    Args:
        height, width: of the picture, multiples of 8.
        side: longest side of a kept part, or most rows and most columns.
        margin: how far `outer` reaches beyond it, as far as the picture does; rounded up to a
            multiple of 8.
    """
    down, across = (side, side) if isinstance(side, int) else side
    whole = slice(0, height), slice(0, width)
    for rows in _cut(whole[0], -(-height // down)):
        for columns in _cut(whole[1], -(-width // across)):
            yield _around((rows, columns), (height, width), margin)


def halves(tile: Tile, height: int, width: int, margin: int) -> list[Tile]:
    """The tile as two of half its longer side; itself alone where that is 8 pixels."""
    rows, columns = tile.place
    if rows.stop - rows.start >= columns.stop - columns.start:
        places = [(part, columns) for part in _cut(rows, 2)]
    else:
        places = [(rows, part) for part in _cut(columns, 2)]
    return [_around(place, (height, width), margin) for place in places]


def sides(
    height: int, width: int, longest: int, pixels: int, margin: int
) -> tuple[int, int] | None:
    """Rows and columns of kept parts, neither above `longest`, so that no tile has more `pixels`
    with its margins and the least is computed twice; None where tiles of `LEAST` rows and columns
    have more.

    Args: see `tiles`.
    """
    margin = _rounded_up(margin)
    best, least = None, 0
    for across, count in _parts(width, longest):
        outer = across + margin * min(2, count - 1)
        for down, rows in _parts(height, longest):
            if outer * (down + margin * min(2, rows - 1)) > pixels:
                continue
            computed = (width + 2 * margin * (count - 1)) * (height + 2 * margin * (rows - 1))
            if best is None or computed < least:
                best, least = (down, across), computed
            break
    return best


def _parts(length: int, longest: int) -> Iterator[tuple[int, int]]:
    """Sizes of parts and how many there are, from the largest down to `LEAST`."""
    fewest = -(-length // longest)
    for count in range(fewest, max(fewest, -(-length // LEAST)) + 1):
        yield _rounded_up(-(-length // count)), count


def _cut(span: slice, count: int) -> Iterator[slice]:
    """So many parts of about a size, multiples of 8."""
    step = _rounded_up(-(-(span.stop - span.start) // count))
    for start in range(span.start, span.stop, step):
        yield slice(start, min(start + step, span.stop))


def _around(place: Window, size: tuple[int, int], margin: int) -> Tile:
    margin = _rounded_up(margin)
    outer = tuple(
        slice(max(span.start - margin, 0), min(span.stop + margin, length))
        for span, length in zip(place, size, strict=True)
    )
    inner = tuple(
        slice(span.start - around.start, span.stop - around.start)
        for span, around in zip(place, outer, strict=True)
    )
    return Tile((outer[0], outer[1]), (inner[0], inner[1]), place)


def _rounded_up(size: int) -> int:
    return -(-size // MULTIPLE) * MULTIPLE
