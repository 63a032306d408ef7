"""What a file is by its first bytes, what lies in it beside the pixels, and metadata put into one.

libvips would write EXIF anew, without what it doesn't know; here bytes go in as they are. PNG 1.3,
JPEG (ITU T.81, annex B; JFIF; XMP part 3), WebP's container, HEIF (ISO 23008-12).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

from llflow.picture.metadata import IPTC, PREFIX, Metadata, iptc_of, split_resources, with_iptc

Part = bytes | memoryview

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
XMP_OF_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
XMP_OF_PNG = b"XML:com.adobe.xmp\0"
PHOTOSHOP = b"Photoshop 3.0\0"
MOST_TEXT = 16_000_000  # bytes of all of a PNG's texts, decompressed
LONGEST_SEGMENT = 65_533
_MILLIMETRES = {1: 25.4, 2: 10.0}  # of JFIF's units, inch and centimetre
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
P3, _BT709, _UNSPECIFIED = 12, 1, 2  # primaries (ITU H.273)
_BEYOND_WHITE = {16: "PQ", 18: "HLG"}  # transfers


@dataclass(frozen=True)
class Extras:
    """What was found beside the pixels.

    Attributes:
        comment, texts, resources: as in `Metadata`.
        exif: a PNG's that older programs wrote as text.
        density: pixels per millimetre, as a PNG or JPEG itself says, or (1, 1).
        frames: how many pictures are shown one after the other.
        primaries: those that a file names by number, 0 where it doesn't.
        lossless: the file says that no bit is lost in it.
        lost: what can't be taken along, a line each.
    """

    comment: bytes = b""
    texts: tuple[bytes, ...] = ()
    resources: bytes = b""
    exif: bytes = b""
    density: tuple[float, float] = (1.0, 1.0)
    frames: int = 1
    primaries: int = 0
    lossless: bool = False
    lost: tuple[str, ...] = ()


def recognize(head: bytes) -> str | None:
    """The format of a file that begins like this, one of `files.FORMATS` or of `optional.EXTRAS`,
    None for what isn't known; many raw files begin like a TIFF.

    Raises:
        ValueError: it is known, and can't be read; the message says what it is.
    """
    if head.startswith(PNG_MAGIC):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _of_brand(head)
    raw = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
    if head.startswith(raw) or (head[:2] == b"II" and head[8:10] == b"CR"):
        return "RAW"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JXL"
    if head.startswith(b"GIF8"):
        raise ValueError("GIF, which isn't read; save its pictures as PNG")
    if head.startswith(b"\0\0\0\x0cjP  "):
        raise ValueError("JPEG 2000, which isn't read; save it as PNG or TIFF")
    return "BMP" if head.startswith(b"BM") else None


def _of_brand(head: bytes) -> str:
    major = head[8:12]
    brands = {head[at : at + 4] for at in range(8, min(int.from_bytes(head[:4]), len(head)), 4)}
    if major == b"avis":
        raise ValueError("an animated AVIF; animations aren't read, save its frames as PNG")
    if b"avif" in brands:
        return "AVIF"
    if major == b"crx ":
        return "RAW"
    if brands & _HEIC_BRANDS:
        return "HEIC"
    raise ValueError(f"a film or the like ({major.decode('latin-1')})")


def extras(file: IO[bytes], file_format: str) -> Extras:
    """What lies beside the pixels that libvips doesn't tell.

    Raises:
        ValueError: the file is cut off, or is made for more light than white.
    """
    scan = {"PNG": _in_png, "JPEG": _in_jpeg, "WEBP": _in_webp, "AVIF": _in_avif}.get(file_format)
    file.seek(0)
    return scan(file) if scan else Extras()


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG, whose content is read next."""
    file.seek(len(PNG_MAGIC))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">L4s", head)
        at = file.tell()
        yield kind, length
        file.seek(at + length + 4)


def _in_png(file: IO[bytes]) -> Extras:
    found, texts, room = Extras(), [], MOST_TEXT
    lost, resources, exif = [], b"", b""
    for kind, length in _chunks(file):
        if kind == b"acTL":
            frames, _ = struct.unpack(">LL", file.read(8).ljust(8, b"\0"))
            found = replace(found, frames=frames)
        elif kind == b"pHYs":
            along, down, unit = struct.unpack(">LLB", file.read(9).ljust(9, b"\0"))
            if unit == 1 and along and down:
                found = replace(found, density=(along / 1000, down / 1000))
        elif kind == b"cICP":
            primaries, transfer = file.read(2).ljust(2, b"\0")
            found = replace(found, primaries=sdr(primaries, transfer))
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            content = file.read(min(length, room + 1))
            key = content.partition(b"\0")[0]
            size = len(_text(kind, content, room + 1))
            if size > room:
                lost.append(f"the PNG text {key[:79].decode('latin-1')!r} isn't kept: too long")
                continue
            room -= size
            if content.startswith(XMP_OF_PNG) or key == b"Raw profile type xmp":
                continue
            if key in (b"Raw profile type exif", b"Raw profile type APP1"):
                exif = exif or _of_hex(_text(kind, content, room + 1))
            elif key in (b"Raw profile type iptc", b"Raw profile type 8bim"):
                data = _of_hex(_text(kind, content, room + 1))
                if not resources:
                    resources = data if data.startswith(b"8BIM") else with_iptc(b"", data)
            else:
                texts.append(kind + content)
    return replace(
        found, texts=tuple(texts), resources=resources, exif=exif, lost=tuple(dict.fromkeys(lost))
    )


def _text(kind: bytes, content: bytes, most: int) -> bytes:
    """A text as it reads, up to `most` bytes of it; nothing if it is damaged."""
    _, _, rest = content.partition(b"\0")
    if kind == b"tEXt":
        return rest
    try:
        if kind == b"zTXt":
            return zlib.decompressobj().decompress(rest[1:], most)
        compressed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        return zlib.decompressobj().decompress(text, most) if compressed else text
    except zlib.error:
        return b""


def _of_hex(text: bytes) -> bytes:
    """ImageMagick's way to put bytes into a PNG: name, length, hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""


def _segments(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Marker and content of a JPEG's segments up to the first scan."""
    file.seek(2)
    while len(head := file.read(2)) == 2:
        if head[0] != 0xFF or head[1] == 0xDA:
            return
        if head[1] == 0xFF:  # padding
            file.seek(-1, 1)
            continue
        length = int.from_bytes(file.read(2))
        yield head[1], file.read(max(length - 2, 0))


def _in_jpeg(file: IO[bytes]) -> Extras:
    comment, lost, resources, density = b"", [], b"", (1.0, 1.0)
    for marker, content in _segments(file):
        if marker == 0xFE and not comment:
            comment = content
        elif marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 12:
            unit, along, down = struct.unpack_from(">BHH", content, 7)
            if unit in _MILLIMETRES and along and down:
                density = (along / _MILLIMETRES[unit], down / _MILLIMETRES[unit])
        elif marker == 0xE2 and content.startswith((b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0")):
            lost.append("further pictures in the file (a gain map or previews) aren't kept")
        elif marker == 0xE1 and content.startswith(b"http://ns.adobe.com/xmp/extension/"):
            lost.append("XMP beyond 64 kB isn't kept")
        elif marker == 0xED and content.startswith(PHOTOSHOP):
            resources += content[len(PHOTOSHOP) :]
    lost = tuple(dict.fromkeys(lost))
    return Extras(comment=comment, resources=resources, density=density, lost=lost)


def _in_webp(file: IO[bytes]) -> Extras:
    file.seek(12)
    kind = file.read(4)
    lossless = kind == b"VP8L"
    if kind == b"VP8X":
        length = int.from_bytes(file.read(4), "little")
        file.seek(length + length % 2, 1)
        while len(head := file.read(8)) == 8:
            lossless = lossless or head[:4] == b"VP8L"
            if head[:4] in (b"VP8L", b"VP8 "):
                break
            length = int.from_bytes(head[4:], "little")
            file.seek(length + length % 2, 1)
    return Extras(lossless=lossless)


def _in_avif(file: IO[bytes]) -> Extras:
    head = file.read(65_536)
    lost = ["the gain map isn't kept: it doesn't fit"] if b"tmap" in head[:64] else []
    at = head.find(b"colrnclx")
    if at < 0 or at + 15 > len(head):
        return Extras(lost=tuple(lost))
    primaries, transfer, matrix = struct.unpack_from(">HHH", head, at + 8)
    return Extras(primaries=sdr(primaries, transfer), lossless=matrix == 0, lost=tuple(lost))


def sdr(primaries: int, transfer: int) -> int:
    """The number of primaries other than sRGB's, 0 for those.

    Raises:
        ValueError: the transfer is for screens of more light than white.
    """
    if transfer in _BEYOND_WHITE:
        raise ValueError(
            f"for screens of more light than white ({_BEYOND_WHITE[transfer]}), which isn't read; "
            "save it for usual screens"
        )
    return 0 if primaries in (_BT709, _UNSPECIFIED) else primaries


def is_p3(primaries: int) -> bool:
    """Whether H.273's number stands for Display P3's primaries."""
    return primaries == P3


def with_metadata(
    encoded: bytes, file_format: str, held: Metadata, size: tuple[int, int], alpha: bool
) -> tuple[list[Part], list[str]]:
    """An encoded PNG, JPEG, WebP or AVIF with metadata in it, in parts that follow each other, and
    what didn't fit, a line each.

    Args:
        encoded: without metadata; an AVIF has XMP already, and an EXIF to be replaced.
        size: width and height.
        alpha: the picture has transparency.
    """
    if file_format == "JPEG":
        return _jpeg_with(encoded, held)
    lost = ["the comment isn't kept"] if held.comment and file_format != "PNG" else []
    if file_format == "PNG":
        return _png_with(encoded, held), lost
    lost += [f"{file_format} can't hold PNG's texts"] if held.texts else []
    lost += [f"{file_format} can't hold IPTC"] if held.resources else []
    if file_format == "WEBP":
        return [_webp_with(encoded, held, size, alpha)], lost
    return [_avif_with(encoded, held.exif) if held.exif else encoded], lost


def _jpeg_with(encoded: bytes, held: Metadata) -> tuple[list[Part], list[str]]:
    segments = [
        ("EXIF", 0xE1, held.exif),
        ("XMP", 0xE1, XMP_OF_JPEG + held.xmp if held.xmp else b""),
        ("IPTC", 0xED, PHOTOSHOP + held.resources if held.resources else b""),
        ("the comment", 0xFE, held.comment),
    ]
    parts: list[Part] = [encoded[:2]]
    lost = ["JPEG can't hold PNG's texts"] if held.texts else []
    if held.density != (1.0, 1.0):
        parts.append(_jfif(*held.density))
    for name, marker, content in segments:
        if len(content) > LONGEST_SEGMENT:
            lost.append(f"{name} isn't kept (JPEG holds up to {LONGEST_SEGMENT:,} bytes of it)")
        elif content:
            parts.append(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content)
    return [*parts, memoryview(encoded)[2:]], lost


def _jfif(along: float, down: float) -> bytes:
    """JFIF's segment with these pixels per millimetre, in the unit in which they are whole."""
    dots = {unit: (along * size, down * size) for unit, size in _MILLIMETRES.items()}
    unit = min(dots, key=lambda unit: sum(abs(value - round(value)) for value in dots[unit]))
    whole = (min(65535, max(1, round(value))) for value in dots[unit])
    return b"\xff\xe0\0\x10JFIF\0\1\1" + struct.pack(">BHH", unit, *whole) + b"\0\0"


def _png_with(encoded: bytes, held: Metadata) -> list[Part]:
    chunks = [b"eXIf" + held.exif.removeprefix(PREFIX)] if held.exif else []
    chunks += [b"iTXt" + XMP_OF_PNG + bytes(4) + held.xmp] if held.xmp else []
    if held.resources:
        iptc = iptc_of(held.resources)
        whole = split_resources(held.resources)
        name = "iptc" if iptc and all(number == IPTC for number, _, _ in whole) else "8bim"
        lines = f"\n{name}\n{len(held.resources):8}\n{held.resources.hex()}\n"
        chunks.append(b"tEXt" + f"Raw profile type {name}\0{lines}".encode())
    chunks += [b"tEXtComment\0" + held.comment] if held.comment else []
    if held.density != (1.0, 1.0):
        chunks.append(b"pHYs" + struct.pack(">LLB", *(round(1000 * v) for v in held.density), 1))
    start = len(PNG_MAGIC) + 25  # behind IHDR
    own = encoded.find(_chunk(b"pHYs" + struct.pack(">LLB", 1000, 1000, 1)), start)  # libvips'
    view = memoryview(encoded)
    rest = [view[start:own], view[own + 21 :]] if own >= 0 else [view[start:]]
    return [encoded[:start], *map(_chunk, [*chunks, *held.texts]), *rest]


def _chunk(content: bytes) -> bytes:
    return struct.pack(">L", len(content) - 4) + content + struct.pack(">L", zlib.crc32(content))


def _webp_with(encoded: bytes, held: Metadata, size: tuple[int, int], alpha: bool) -> bytes:
    if not (held.exif or held.xmp):
        return encoded
    body = encoded[12:]
    if body[:4] != b"VP8X":
        width, height = ((value - 1).to_bytes(3, "little") for value in size)
        body = b"VP8X\n\0\0\0" + bytes([0x10 * alpha, 0, 0, 0]) + width + height + body
    flags = body[8] | (0x08 if held.exif else 0) | (0x04 if held.xmp else 0)
    parts = [b"WEBP", body[:8], bytes([flags]), body[9:]]
    for name, content in ((b"EXIF", held.exif.removeprefix(PREFIX)), (b"XMP ", held.xmp)):
        if content:
            parts += [name, struct.pack("<L", len(content)), content, b"\0" * (len(content) % 2)]
    whole = b"".join(parts)
    return b"RIFF" + struct.pack("<L", len(whole)) + whole


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte and end of what is in each box."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">L4s", data, start)
        yield kind, start + 8, start + length
        start += max(length, 8)


def _avif_with(encoded: bytes, exif: bytes) -> bytes:
    """The file with this block behind the rest, and its item of EXIF pointing there."""
    meta = next((at, end) for kind, at, end in _boxes(encoded, 0, len(encoded)) if kind == b"meta")
    inner = {kind: (at, end) for kind, at, end in _boxes(encoded, meta[0] + 4, meta[1])}
    at, end = inner[b"iinf"]
    at += 6 if encoded[at] == 0 else 8
    item = next(
        int.from_bytes(encoded[first + 4 : first + (6 if encoded[first] == 2 else 8)])
        for _, first, _ in _boxes(encoded, at, end)
        if encoded[first + (8 if encoded[first] == 2 else 10) :][:4] == b"Exif"
    )
    content = struct.pack(">L", len(PREFIX)) + exif
    place, base = _location(encoded, inner[b"iloc"][0], item)
    whole = bytearray(encoded)
    struct.pack_into(">LL", whole, place, len(encoded) + 8 - base, len(content))
    return bytes(whole) + struct.pack(">L4s", len(content) + 8, b"mdat") + content


def _location(encoded: bytes, at: int, wanted: int) -> tuple[int, int]:
    """Where offset and length of an item are in libheif's iloc box, 4 bytes each, and what the
    offset counts from."""
    version, sizes, base = encoded[at], encoded[at + 4], encoded[at + 5]
    long = 4 if version == 2 else 2
    count = int.from_bytes(encoded[at + 6 : at + 6 + long])
    at += 6 + long
    base, index = base >> 4, (base & 15) if version else 0
    for _ in range(count):
        item = int.from_bytes(encoded[at : at + long])
        method = encoded[at + long + 1] & 15 if version else 0
        at += long + (2 if version else 0) + 2
        start, at = int.from_bytes(encoded[at : at + base]), at + base
        extents, at = int.from_bytes(encoded[at : at + 2]), at + 2
        if item == wanted:
            if (sizes, method, extents) != (0x44, 0, 1):
                raise ValueError("AVIF of another layout than expected")
            return at + index, start
        at += extents * (index + (sizes >> 4) + (sizes & 15))
    raise ValueError("AVIF without a place for EXIF")
