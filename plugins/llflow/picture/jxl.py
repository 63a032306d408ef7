"""JPEG XL by OpenImageIO: 8 and 16 bits and floating point, with its profile, EXIF and XMP.

ISO/IEC 18181-1 (codestream) and -2 (boxes). Nothing else imports the packages. OpenImageIO decodes
whole pictures as it opens them: size and frames are read here, before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import BinaryIO

import brotli
import numpy as np
import OpenImageIO as oiio

from llflow.picture.metadata import PREFIX, Metadata
from llflow.picture.optional import Check, Decoded, NotRead
from llflow.picture.samples import FLOAT

_BITS = {"uint8": 8, "uint16": 16, "float": FLOAT, "half": FLOAT}
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIZES = ((9, 1), (13, 1), (18, 1), (30, 1))  # bits of a side, and what is added
_PREVIEWS = ((6, 1), (8, 65), (10, 321), (12, 1345))
_EIGHTS = ((0, 16), (0, 32), (5, 1), (9, 33))
_SRGB = (1, 13)  # primaries and transfer (ITU H.273)
_MOST = 64_000_000  # bytes of a box of metadata
_LEAST = 128  # bytes, without which OpenImageIO takes no file for a picture

oiio.attribute("try_all_readers", 0)


def decode(file: BinaryIO, check: Check) -> Decoded:
    """As `optional.decode` has it."""
    boxes = list(_boxes(file))
    width, height, animated = _header(_codestream(file, boxes))
    check(width, height)
    if animated:
        raise NotRead("an animated JPEG XL; animations aren't read, save its frames as PNG")
    spec, samples = _decoded(file)
    bits = _BITS.get(str(spec.format))
    alpha = spec.alpha_channel >= 0
    channels = spec.nchannels - alpha
    if bits is None or channels not in (1, 3) or (alpha and spec.alpha_channel != channels):
        raise NotRead(f"JPEG XL of {spec.nchannels} channels of type {spec.format}")
    about, lost = _about(file, boxes)
    return Decoded(
        samples.astype(np.float32) if bits == FLOAT else samples,
        bits,
        channels,
        about,
        icc_profile=_profile(spec, channels),
        lost=lost,
    )


def _decoded(file: BinaryIO) -> tuple[oiio.ImageSpec, np.ndarray]:
    """The whole picture, from a copy: OpenImageIO takes names only, and chooses by their ending."""
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jxl"
        with path.open("wb") as copy:
            file.seek(0)
            copyfileobj(file, copy)
            copy.write(bytes(max(0, _LEAST - copy.tell())))
        opened = oiio.ImageInput.open(str(path), config)
        if opened is None:
            raise ValueError(oiio.geterror() or "OpenImageIO can't open it")
        try:
            samples = opened.read_image(opened.spec().format)
            if samples is None:
                raise ValueError(opened.geterror() or "OpenImageIO can't decode it")
            return opened.spec(), samples
        finally:
            opened.close()


def _profile(spec: oiio.ImageSpec, channels: int) -> bytes | None:
    """The file's profile, None for sRGB's own curve and primaries."""
    named = spec.getattribute("CICP")
    if named is not None and named[1] == _SRGB[1] and (channels == 1 or named[0] == _SRGB[0]):
        return None
    held = next((found for found in spec.extra_attribs if found.name == "ICCProfile"), None)
    return None if held is None else np.asarray(held.value).astype(np.uint8).tobytes()


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each box, and first byte and end of what is in it; none for a bare codestream."""
    end = file.seek(0, 2)
    file.seek(0)
    at = 0 if file.read(2) == b"\0\0" else end
    while at + 8 <= end:
        file.seek(at)
        length, kind = struct.unpack(">L4s", file.read(8))
        start = at + 8
        if length == 1:
            length, start = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))[0], at + 16
        stop = end if length == 0 else min(end, at + length)
        yield kind, start, max(start, stop)
        at = max(stop, start)


def _codestream(file: BinaryIO, boxes: list[tuple[bytes, int, int]]) -> bytes:
    """The codestream's first bytes."""
    skipped = {b"jxlc": 0, b"jxlp": 4}  # a part's number
    parts = [(at + skipped[kind], end) for kind, at, end in boxes if kind in skipped]
    parts = [part for part in parts if part[0] < part[1]] if boxes else [(0, 64)]
    head = b""
    for at, end in parts:
        file.seek(at)
        head += file.read(min(end - at, 64 - len(head)))
        if len(head) == 64:
            break
    return head


def _header(codestream: bytes) -> tuple[int, int, bool]:
    """Width and height upright, and whether it is an animation (18181-1, annexes C and D)."""
    if codestream[:2] != b"\xff\x0a":
        raise ValueError("no JPEG XL codestream")
    bits, at = int.from_bytes(codestream[2:], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value, at = bits >> at & (1 << count) - 1, at + count
        if at > 8 * len(codestream):
            raise ValueError("its header is cut off")
        return value

    def number(kinds: tuple[tuple[int, int], ...]) -> int:
        count, offset = kinds[take(2)]
        return take(count) + offset

    def size() -> tuple[int, int]:
        eights = take(1)

        def side() -> int:
            return 8 * (take(5) + 1) if eights else number(_SIZES)

        high = side()
        across, down = _RATIOS.get(take(3), (0, 1))
        return (high * across // down if across else side()), high

    width, height = size()
    if take(1) or not take(1):  # all as usual, or no further fields
        return width, height, False
    turned = take(3) >= 4
    if take(1):  # an intrinsic size
        size()
    if take(1):  # a preview
        kinds = _EIGHTS if take(1) else _PREVIEWS
        number(kinds)
        if not take(3):
            number(kinds)
    animated = bool(take(1))
    return (height, width, animated) if turned else (width, height, animated)


def _about(file: BinaryIO, boxes: list[tuple[bytes, int, int]]) -> tuple[Metadata, tuple[str, ...]]:
    exif, xmp, lost = b"", b"", []
    for kind, at, end in boxes:
        if kind not in (b"Exif", b"xml ", b"brob"):
            continue
        file.seek(at)
        content = file.read(min(end - at, _MOST))
        if kind == b"brob":
            kind, content = content[:4], content[4:]
            try:
                unpacker = brotli.Decompressor()
                content = unpacker.process(content, output_buffer_limit=_MOST)
                whole = unpacker.is_finished()
            except brotli.error:
                whole = False
            if not whole:
                lost.append(f"{kind.decode('latin-1').strip()} isn't kept: damaged or too long")
                continue
        if kind == b"xml ":
            xmp = xmp or content
        elif kind == b"Exif" and not exif:
            bare = content.startswith((b"II*\0", b"MM\0*"))  # without where it begins
            block = content if bare else content[4 + int.from_bytes(content[:4]) :]
            exif = PREFIX + block.removeprefix(PREFIX) if block else b""
    return Metadata(exif=exif, xmp=xmp), tuple(lost)
