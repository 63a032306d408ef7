"""Cutting a large picture into overlapping tiles whose results fit together without a seam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llflow.picture.preprocess import MULTIPLE

Window = tuple[slice, slice]
LEAST = 256  # rows and columns, below which nearly everything would be computed many times


@dataclass(frozen=True)
class Stage:
    """A part of the work on a tile: `bytes` a pixel while it lasts, on pixels up to a `margin` from
    those that are kept, a multiple of 8."""

    bytes: int
    margin: int


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


def nearer(tile: Tile, height: int, width: int, margin: int) -> tuple[Tile, Window]:
    """The tile with another margin, at most its own; and where its `outer` is in that of `tile`."""
    near = _around(tile.place, (height, width), margin)
    rows, columns = (
        slice(inner.start - around.start, inner.stop - around.start)
        for inner, around in zip(near.outer, tile.outer, strict=True)
    )
    return near, (rows, columns)


def sides(
    height: int, width: int, longest: int, memory: int, stages: Sequence[Stage]
) -> tuple[int, int] | None:
    """Rows and columns of kept parts, neither above `longest`, so that no tile takes more `memory`
    in any stage and the least is computed twice; None where tiles of `LEAST` rows and columns take
    more.

    Args:
        height, width, longest: see `tiles`.
        memory: bytes.
        stages: what is computed of a tile, one after the other.
    """
    best, least = None, 0
    for across, columns in _parts(width, longest):
        for down, rows in _parts(height, longest):
            if memory_of((down, across), (rows, columns), stages) > memory:
                continue
            computed = sum(
                (width + 2 * stage.margin * (columns - 1))
                * (height + 2 * stage.margin * (rows - 1))
                for stage in stages
            )
            if best is None or computed < least:
                best, least = (down, across), computed
            break
    return best


def memory_of(side: tuple[int, int], counts: tuple[int, int], stages: Sequence[Stage]) -> int:
    """Bytes of the largest of so many tiles down and across that keep these rows and columns."""

    def length(kept: int, count: int, margin: int) -> int:
        return kept + margin * min(2, count - 1)

    return max(
        stage.bytes
        * length(side[0], counts[0], stage.margin)
        * length(side[1], counts[1], stage.margin)
        for stage in stages
    )


def _parts(length: int, longest: int) -> Iterator[tuple[int, int]]:
    """Sizes of parts and how many there are, from the largest down to `LEAST`."""
    fewest = -(-length // longest)
    for count in range(fewest, max(fewest, -(-length // LEAST)) + 1):
        yield rounded_up(-(-length // count)), count


def _cut(span: slice, count: int) -> Iterator[slice]:
    """So many parts of about a size, multiples of 8."""
    step = rounded_up(-(-(span.stop - span.start) // count))
    for start in range(span.start, span.stop, step):
        yield slice(start, min(start + step, span.stop))


def _around(place: Window, size: tuple[int, int], margin: int) -> Tile:
    margin = rounded_up(margin)
    outer = tuple(
        slice(max(span.start - margin, 0), min(span.stop + margin, length))
        for span, length in zip(place, size, strict=True)
    )
    inner = tuple(
        slice(span.start - around.start, span.stop - around.start)
        for span, around in zip(place, outer, strict=True)
    )
    return Tile((outer[0], outer[1]), (inner[0], inner[1]), place)


def rounded_up(size: int) -> int:
    """To a multiple of 8."""
    return -(-size // MULTIPLE) * MULTIPLE
