"""Directories of TIFF (TIFF 6.0, section 2; BigTIFF): what a file says of its pictures, its EXIF,
and the EXIF of others put into it.

EXIF is a TIFF of its own without pixels, so the same directories are in every format.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO

from PIL import ExifTags

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}  # BigTIFF's
_WORD = {5: 4, 10: 4}  # of these the half has a byte order, of others the whole
_NUMBERS = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q"}
OF_PIXELS = (256, 257, 273, 277, 278, 279, 284, 322, 323, 324, 325)  # how they lie in the file
_CLASSIC = (42, 0x4F52, 0x5352, 0x55)  # the last three are Olympus' and Panasonic's raw files'
_BIG = 43
MOST_ENTRIES = 4096
MOST_DIRECTORIES = 1000
EXIF, GPS, INTEROP = 34665, 34853, 40965
INNER = (EXIF, GPS, INTEROP)
_PARENTS = {EXIF: 0, GPS: 0, INTEROP: EXIF}
_KINDS = {282: 5, 283: 5, 296: 3}  # without which readers don't open a TIFF
# About the picture, not about how a file stores it. The last five are Windows Explorer's.
DESCRIPTIVE = {269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 33432, 18246, 18249}
DESCRIPTIVE |= {40091, 40092, 40093, 40094, 40095}
OF_STORAGE = {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279}
OF_STORAGE |= {280, 281, 284, 288, 289, 290, 291, 292, 293, 297, 301, 317, 320, 321, 322, 323}
OF_STORAGE |= {324, 325, 330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 347, 512, 513, 514}
OF_STORAGE |= {529, 530, 531, 532, 700, 33723, 34377, 34675, 50341}


@dataclass(frozen=True)
class Entry:
    """One tag as it is stored, in the byte order of where it is from."""

    tag: int
    kind: int
    count: int
    value: bytes

    def numbers(self, order: str) -> tuple[int, ...]:
        """The whole numbers that it holds, none if it is of another type."""
        letter = _NUMBERS.get(self.kind)
        return struct.unpack(f"{order}{self.count}{letter}", self.value) if letter else ()


@dataclass(frozen=True)
class Layout:
    """How offsets are written: order "<" or ">", and 8 bytes each in BigTIFF."""

    order: str
    big: bool = False

    @property
    def offset(self) -> str:
        return f"{self.order}{'Q' if self.big else 'L'}"


def layout(file: IO[bytes]) -> tuple[Layout, int]:
    """The layout of a TIFF and where its first directory is.

    Raises:
        ValueError: it isn't one, or is cut off.
    """
    head = _read(file, 0, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order else 0
    if order is None or version not in (*_CLASSIC, _BIG):
        raise ValueError("it doesn't begin as EXIF or TIFF does")
    if version != _BIG:
        return Layout(order), struct.unpack(f"{order}L", head[4:])[0]
    return Layout(order, True), struct.unpack(f"{order}Q", _read(file, 8, 8))[0]


def directory(
    file: IO[bytes], how: Layout, at: int, only: Iterable[int] | None = None
) -> tuple[list[Entry], int, list[int]]:
    """The entries at `at`, where the next directory is, and the tags that can't be read.

    Raises:
        ValueError: it is cut off, or longer than any.
    """
    head, size = (8, 20) if how.big else (2, 12)
    (count,) = struct.unpack(f"{how.order}{'Q' if how.big else 'H'}", _read(file, at, head))
    if count > MOST_ENTRIES:
        raise ValueError(f"a directory of {count} tags")
    room = 8 if how.big else 4
    body = _read(file, at + head, count * size + room)
    entries, broken = [], []
    for k in range(count):
        tag, kind = struct.unpack_from(f"{how.order}HH", body, k * size)
        if only is not None and tag not in only:
            continue
        (number,) = struct.unpack_from(how.offset, body, k * size + 4)
        length = SIZES.get(kind, 0) * number
        field = body[(k + 1) * size - room :][:room]
        try:
            if length == 0:
                raise ValueError("of no known type")
            place = struct.unpack(how.offset, field)[0]
            value = field[:length] if length <= room else _read(file, place, length)
            entries.append(Entry(tag, kind, number, value))
        except ValueError:
            broken.append(tag)
    return entries, struct.unpack(how.offset, body[-room:])[0], broken


def directories(file: IO[bytes], only: Iterable[int]) -> Iterator[dict[int, tuple[int, ...]]]:
    """The whole numbers of each picture's tags, and of those in its SubIFDs behind it.

    Raises:
        ValueError: the file is cut off, or its directories lead in a circle.
    """
    how, at = layout(file)
    waiting, seen = [at], set()
    while waiting:
        at = waiting.pop(0)
        if at in seen or len(seen) > MOST_DIRECTORIES:
            raise ValueError("its directories lead in a circle")
        seen.add(at)
        entries, following, _ = directory(file, how, at, {*only, 330})
        found = {entry.tag: entry.numbers(how.order) for entry in entries}
        waiting = [*found.get(330, ()), *([following] if following else []), *waiting]
        yield found


def require_pixels(found: Mapping[int, tuple[int, ...]], size: int) -> None:
    """Refuse a picture of which pixels aren't in its file; readers take them for black.

    Args:
        found: its tags, `OF_PIXELS` among them.
        size: of the file, bytes.

    Raises:
        ValueError: they lie behind its end, or are nowhere.
    """

    def one(tag: int, default: int) -> int:
        return (found.get(tag) or (default,))[0]

    width, height = one(256, 0), one(257, 0)
    planes = one(277, 1) if one(284, 1) == 2 else 1
    tiled = 324 in found
    places, lengths = (found.get(tag, ()) for tag in ((324, 325) if tiled else (273, 279)))
    if tiled:
        across, down = max(1, one(322, width)), max(1, one(323, height))
    else:
        across, down = max(1, width), max(1, min(height, one(278, height)))
    wanted = planes * -(-width // across) * -(-height // down)
    if len(places) < wanted or 0 in places[:wanted] or 0 in lengths[:wanted]:
        raise ValueError("pixels are missing")
    pairs = zip(places, lengths, strict=False)
    if any(place + length > size for place, length in pairs):
        raise ValueError("pixels lie behind its end")


def _read(file: IO[bytes], at: int, length: int) -> bytes:
    if at < 0 or length < 0 or at + length > file.seek(0, os.SEEK_END):
        raise ValueError("it is cut off")
    file.seek(at)
    return file.read(length)


@dataclass(frozen=True)
class Tags:
    """EXIF taken apart: the entries of its directories by the tag that leads there, 0 for none."""

    order: str
    parts: dict[int, list[Entry]]
    lost: tuple[str, ...] = ()


def tags(file: IO[bytes]) -> Tags:
    """What a TIFF, or an EXIF block, says about its picture.

    Raises:
        ValueError: it isn't one, or its first directory can't be read.
    """
    how, at = layout(file)
    known = DESCRIPTIVE | OF_STORAGE
    parts, names = {}, []
    waiting = [(0, at)]
    for part, place in waiting:
        try:
            entries, _, broken = directory(file, how, place)
        except ValueError:
            if part == 0:
                raise
            names.append(_name(part, 0))
            continue
        if part == 0:
            broken = [tag for tag in broken if tag not in OF_STORAGE]
            entries = [entry for entry in entries if entry.tag not in OF_STORAGE]
            broken += [e.tag for e in entries if e.tag not in known | {*INNER}]
            broken += [e.tag for e in entries if e.kind != _KINDS.get(e.tag, e.kind)]
            entries = [entry for entry in entries if entry.tag not in broken]
        for entry in [entry for entry in entries if entry.tag in INNER]:
            entries.remove(entry)
            found = entry.numbers(how.order)
            if found and _PARENTS[entry.tag] == part and entry.tag not in dict(waiting):
                waiting.append((entry.tag, found[0]))
            else:
                broken.append(entry.tag)
        names += [_name(tag, part) for tag in broken]
        parts[part] = entries
    return Tags(how.order, parts, tuple(f"the EXIF tag {name} isn't kept" for name in names))


def _name(tag: int, part: int) -> str:
    names = ExifTags.GPSTAGS if part == GPS else ExifTags.TAGS
    return names.get(tag, f"{tag:#x}")


def block(held: Tags) -> bytes:
    """EXIF on its own: header, directories, values; empty if there is nothing in it."""
    if not any(held.parts.values()):
        return b""
    head = (b"II" if held.order == "<" else b"MM") + struct.pack(f"{held.order}HL", 42, 8)
    return head + _written(held, held.parts.get(0, []), 8)


def _written(held: Tags, first: list[Entry], at: int) -> bytes:
    """The first directory, with what it leads to behind it, as it has to be at `at`."""
    exif, gps, interop = (held.parts.get(inner, []) for inner in INNER)
    order = held.order

    def pointer(tag: int, place: int = 0) -> Entry:
        return Entry(tag, 4, 1, struct.pack(f"{order}L", place))

    leads = [tag for tag, part in ((EXIF, exif or interop), (GPS, gps)) if part]
    ends = [at + len(_packed(order, [*first, *map(pointer, leads)], at))]
    outer = [*exif, pointer(INTEROP)] if interop else exif
    ends.append(ends[0] + (len(_packed(order, outer, 0)) if EXIF in leads else 0))
    ends.append(ends[1] + (len(_packed(order, gps, 0)) if GPS in leads else 0))
    whole = _packed(order, [*first, *(pointer(t, ends[(EXIF, GPS).index(t)]) for t in leads)], at)
    if EXIF in leads:
        outer = [*exif, pointer(INTEROP, ends[2])] if interop else exif
        whole += _packed(order, outer, ends[0])
    if GPS in leads:
        whole += _packed(order, gps, ends[1])
    return whole + (_packed(order, interop, ends[2]) if interop else b"")


def _packed(order: str, entries: list[Entry], at: int) -> bytes:
    body, data = b"", b""
    for entry in sorted(entries, key=lambda entry: entry.tag):
        value = entry.value
        if len(value) > 4:
            place = at + 2 + 12 * len(entries) + 4 + len(data)
            value, data = struct.pack(f"{order}L", place), data + value + b"\0" * (len(value) % 2)
        body += struct.pack(f"{order}HHL", entry.tag, entry.kind, entry.count) + value.ljust(
            4, b"\0"
        )
    return struct.pack(f"{order}H", len(entries)) + body + bytes(4) + data


def graft(file: IO[bytes], held: Tags, further: Iterable[Entry] = ()) -> None:
    """Give a TIFF that is open for reading and writing other tags: its first directory is written
    anew behind the rest, which stays where it is.

    Args:
        file: a TIFF with one directory, not BigTIFF.
        held: what to put in, in any byte order.
        further: entries of single bytes.
    """
    how, at = layout(file)
    own, _, _ = directory(file, how, at)
    swapped = {key: [_turned(e, held.order, how.order) for e in p] for key, p in held.parts.items()}
    new = [*swapped.get(0, []), *further]
    taken = {entry.tag for entry in new}
    kept = [entry for entry in own if entry.tag not in taken]
    end = file.seek(0, os.SEEK_END)
    end += file.write(b"\0" * (end % 2))
    file.write(_written(Tags(how.order, swapped), [*kept, *new], end))
    file.seek(4)
    file.write(struct.pack(f"{how.order}L", end))


def _turned(entry: Entry, before: str, after: str) -> Entry:
    word = _WORD.get(entry.kind, SIZES[entry.kind])
    if before == after or word == 1:
        return entry
    words = [entry.value[k : k + word][::-1] for k in range(0, len(entry.value), word)]
    return replace(entry, value=b"".join(words))
