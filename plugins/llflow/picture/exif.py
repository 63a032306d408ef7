"""EXIF: what can be kept of a block once its picture has been turned upright.

Exif 2.32 (CIPA DC-008), 4.5.4 and 4.6: a TIFF header and directories of 12-byte entries, whose
longer values lie at offsets from the header.
"""

from __future__ import annotations

import struct
from typing import Any

from PIL import ExifTags, Image

from llflow.errors import first_line

PREFIX = b"Exif\0\0"
_DIRECTORIES = {ExifTags.IFD.Exif: ExifTags.TAGS, ExifTags.IFD.GPSInfo: ExifTags.GPSTAGS}
# A TIFF keeps its EXIF tags among those that say how its pixels are stored. These are about the
# picture.
_DESCRIPTIVE = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    *_DIRECTORIES,
}


def without_orientation(block: bytes) -> bytes:
    """The block without orientation and thumbnail, which don't fit an upright, bright picture.

    No other byte moves, so that whatever a camera wrote stays, mistyped or not. Empty if there is
    no other tag.

    Raises:
        ValueError: it isn't an EXIF block.
    """
    tiff = block.removeprefix(PREFIX).removeprefix(PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        raise ValueError("it doesn't begin as EXIF does")
    try:
        (at,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        tags = [struct.unpack_from(f"{order}H10x", tiff, at + 2 + 12 * k)[0] for k in range(count)]
    except struct.error as error:
        raise ValueError("it is cut off") from error
    entries = [tiff[at + 2 + 12 * k :][:12] for k in range(count)]
    kept = [e for tag, e in zip(tags, entries, strict=True) if tag != ExifTags.Base.Orientation]
    if not kept:
        return b""
    length = 2 + 12 * count + 4  # with the offset of the thumbnail's directory, 0 for none
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept)
    return PREFIX + tiff[:at] + directory.ljust(length, b"\0") + tiff[at + length :]


def descriptive(exif: Image.Exif) -> tuple[Image.Exif, list[str]]:
    """What these tags say about the picture, not about how a TIFF stores it; and a line for each
    tag that can't be encoded."""
    kept, lost = Image.Exif(), []
    for tag in _DESCRIPTIVE & {*exif}:
        if tag not in _DIRECTORIES:
            lost += _copy(exif, kept, tag, ExifTags.TAGS)
            continue
        inner = exif.get_ifd(tag)
        for name in inner:
            lost += _copy(inner, kept.get_ifd(tag), name, _DIRECTORIES[tag], exif, tag)
        if kept.get_ifd(tag):
            kept[tag] = 0  # its offset, which whoever writes it decides
    return kept, lost


def _copy(
    source: Any,
    target: Any,
    tag: int,
    names: dict[int, str],
    whole: Image.Exif | None = None,
    directory: int | None = None,
) -> list[str]:
    """Copy one tag if it comes back from its encoding as it was, else say so."""
    try:
        value = source[tag]
        if whole is not None and tag == ExifTags.IFD.Interop:
            value = whole.get_ifd(tag)
        # Pillow decodes text as Latin-1, and would encode it as ASCII.
        raw = value.encode("latin-1") if isinstance(value, str) else value
        trial, again = Image.Exif(), Image.Exif()
        (trial if directory is None else trial.get_ifd(directory))[tag] = raw
        again.load(trial.tobytes())
        if tag != ExifTags.IFD.Interop:
            came = (again if directory is None else again.get_ifd(directory)).get(tag)
            if repr(came) != repr(value):  # 0/0 isn't equal to itself
                raise ValueError(f"it would become {came!r}")
    except Exception as error:  # Pillow raises anything for a tag of the wrong type
        return [f"the EXIF tag {names.get(tag, hex(tag))} isn't kept ({first_line(error)})"]
    target[tag] = raw
    return []
