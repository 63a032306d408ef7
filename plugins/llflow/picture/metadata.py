"""What a file says about its picture, kept as bytes: EXIF, XMP, Photoshop's resources with IPTC.

Changed is only what isn't true of an upright, bright picture: orientation, dimensions, thumbnails.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace

from PIL import ExifTags

PREFIX = b"Exif\0\0"
IPTC = 0x0404  # resources of Photoshop (Adobe, File Formats Specification)
_THUMBNAILS = (0x0409, 0x040C)
_EXIF_DIRECTORY = 34665
_WIDTHS, _HEIGHTS = (256, 0xA002), (257, 0xA003)
_ORIENTATION_OF_XMP = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)(\d+)")
_WIDTH_OF_XMP, _HEIGHT_OF_XMP = (
    re.compile(rb"((?:tiff:%s|exif:%s)(?:\s*=\s*[\"']|>)\s*)(\d+)" % names)
    for names in ((b"ImageWidth", b"PixelXDimension"), (b"ImageLength", b"PixelYDimension"))
)
_THUMBNAILS_OF_XMP = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
# Ultra HDR's: the gain map and where in the file it is.
_GAIN_MAP_OF_XMP = re.compile(
    rb"\s+hdrgm:\w+\s*=\s*(?:\"[^\"]*\"|'[^']*')"
    rb"|<(?:G?Container):Directory\b.*?</(?:G?Container):Directory>",
    re.DOTALL,
)


@dataclass(frozen=True)
class Metadata:
    """Bytes as they are in every format that holds them.

    Attributes:
        exif: the block, with `PREFIX`.
        xmp: the packet.
        resources: Photoshop's, one behind the other, IPTC among them.
        comment: a JPEG's.
        texts: a PNG's text chunks, whole.
        density: pixels per millimetre along x and y, (1, 1) where nothing is said.
    """

    exif: bytes = b""
    xmp: bytes = b""
    resources: bytes = b""
    comment: bytes = b""
    texts: tuple[bytes, ...] = ()
    density: tuple[float, float] = (1.0, 1.0)


def upright(held: Metadata, width: int, height: int) -> tuple[Metadata, list[str]]:
    """What stays true of a picture that has been turned and made bright, and what was left out."""
    lost = []
    exif, resources = b"", b""
    if held.exif:
        try:
            exif, thumbnail = upright_exif(held.exif, width, height)
            lost += ["the thumbnail isn't kept: it shows the dark picture"] if thumbnail else []
        except ValueError as error:
            lost.append(f"EXIF isn't kept ({error})")
    xmp, thumbnails = _THUMBNAILS_OF_XMP.subn(b"", held.xmp)
    xmp, maps = _GAIN_MAP_OF_XMP.subn(b"", xmp)
    xmp = _ORIENTATION_OF_XMP.sub(rb"\g<1>1", xmp)
    xmp = _WIDTH_OF_XMP.sub(rb"\g<1>%d" % width, xmp)
    xmp = _HEIGHT_OF_XMP.sub(rb"\g<1>%d" % height, xmp)
    lost += ["the thumbnail in XMP isn't kept: it shows the dark picture"] if thumbnails else []
    lost += ["what XMP says of a gain map isn't kept: it doesn't fit"] if maps else []
    if held.resources:
        try:
            whole = split_resources(held.resources)
            kept = [raw for number, raw, _ in whole if number not in _THUMBNAILS]
            resources = b"".join(kept)
            if len(kept) < len(whole):
                lost.append("Photoshop's thumbnail isn't kept: it shows the dark picture")
        except ValueError as error:
            lost.append(f"IPTC isn't kept ({error})")
    return replace(held, exif=exif, xmp=xmp, resources=resources), lost


def _header(block: bytes) -> tuple[bytes, str, int, int]:
    """The block without prefix, its byte order, where its first directory is, and that's length."""
    tiff = block.removeprefix(PREFIX).removeprefix(PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        raise ValueError("it doesn't begin as EXIF does")
    try:
        (at,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        if at + 2 + 12 * count > len(tiff):
            raise ValueError("it is cut off")
    except struct.error as error:
        raise ValueError("it is cut off") from error
    return tiff, order, at, count


def orientation(block: bytes) -> object:
    """The orientation that a block tells, 1 if none; where it isn't a whole number, what is there.

    Raises:
        ValueError: it isn't an EXIF block.
    """
    tiff, order, at, count = _header(block)
    for k in range(count):
        tag, kind, number = struct.unpack_from(f"{order}HHL", tiff, at + 2 + 12 * k)
        if tag == ExifTags.Base.Orientation:
            field = tiff[at + 10 + 12 * k :][:4]
            whole = {1: "B", 3: "H", 4: "L"}.get(kind)
            return struct.unpack_from(order + whole, field)[0] if whole and number else field
    return 1


def orientation_of_xmp(xmp: bytes) -> int:
    """The orientation that a packet tells, 1 if none."""
    found = _ORIENTATION_OF_XMP.search(xmp)
    return int(found[2]) if found else 1


def upright_exif(block: bytes, width: int, height: int) -> tuple[bytes, bool]:
    """The block without orientation and thumbnail, with these dimensions; and whether there was a
    thumbnail.

    No other byte moves, so that whatever a camera wrote stays, mistyped or not. Empty if there is
    no other tag.

    Raises:
        ValueError: it isn't an EXIF block.
    """
    tiff, order, at, count = _header(block)
    body = bytearray(tiff)
    _resize(body, order, at, width, height)
    entries = [bytes(body[at + 2 + 12 * k :][:12]) for k in range(count)]
    tags = [struct.unpack_from(f"{order}H", entry)[0] for entry in entries]
    kept = [e for tag, e in zip(tags, entries, strict=True) if tag != ExifTags.Base.Orientation]
    length = 2 + 12 * count + 4  # with the offset of the thumbnail's directory, 0 for none
    behind = bytes(body[at + 2 + 12 * count :][:4])
    thumbnail = struct.unpack(f"{order}L", behind)[0] if len(behind) == 4 else 0
    if not kept:
        return b"", thumbnail != 0
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept)
    end = _without_thumbnail(tiff, order, thumbnail)
    rest = bytes(body[at + length : max(end, at + length)])
    return PREFIX + bytes(body[:at]) + directory.ljust(length, b"\0") + rest, thumbnail != 0


def _without_thumbnail(tiff: bytes, order: str, at: int) -> int:
    """Where the block ends once a thumbnail at its very end is cut off."""
    try:
        (count,) = struct.unpack_from(f"{order}H", tiff, at if at else len(tiff))
        found = dict(
            struct.unpack_from(f"{order}H6xL", tiff, at + 2 + 12 * k) for k in range(count)
        )
    except struct.error:
        return len(tiff)
    place, length = found.get(0x201, 0), found.get(0x202, 0)
    return place if length and place > at and place + length >= len(tiff) else len(tiff)


def _resize(tiff: bytearray, order: str, at: int, width: int, height: int) -> None:
    """Put the picture's size wherever a first or an Exif directory tells one."""
    try:
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHL", tiff, place)
            if tag == _EXIF_DIRECTORY:
                (inner,) = struct.unpack_from(f"{order}L", tiff, place + 8)
                if inner > at:
                    _resize(tiff, order, inner, width, height)
            whole = {3: "H", 4: "L"}.get(kind) if number == 1 else None
            if whole and tag in _WIDTHS + _HEIGHTS:
                value = width if tag in _WIDTHS else height
                struct.pack_into(order + whole, tiff, place + 8, value)
    except struct.error:
        return  # what can't be found isn't changed


def split_resources(resources: bytes) -> list[tuple[int, bytes, bytes]]:
    """Number, whole bytes and content of each of Photoshop's resources.

    Raises:
        ValueError: they are damaged.
    """
    found, at = [], 0
    while at < len(resources):
        if resources[at : at + 4] != b"8BIM":
            if resources[at:].strip(b"\0"):
                raise ValueError("Photoshop's resources are damaged")
            break
        try:
            (number,) = struct.unpack_from(">H", resources, at + 4)
            start = at + 6 + (resources[at + 6] // 2 + 1) * 2
            (length,) = struct.unpack_from(">L", resources, start)
        except (struct.error, IndexError) as error:
            raise ValueError("Photoshop's resources are cut off") from error
        end = start + 4 + length + length % 2
        if start + 4 + length > len(resources):
            raise ValueError("Photoshop's resources are cut off")
        content = resources[start + 4 : start + 4 + length]
        found.append((number, resources[at:end].ljust(end - at, b"\0"), content))
        at = end
    return found


def with_iptc(resources: bytes, iptc: bytes) -> bytes:
    """The resources with an IPTC record among them, if there is none as yet."""
    if not iptc or any(number == IPTC for number, _, _ in split_resources(resources)):
        return resources
    head = struct.pack(">4sHHL", b"8BIM", IPTC, 0, len(iptc))
    return head + iptc + b"\0" * (len(iptc) % 2) + resources


def iptc_of(resources: bytes) -> bytes:
    """The IPTC record among the resources, or nothing."""
    return next((data for number, _, data in split_resources(resources) if number == IPTC), b"")
