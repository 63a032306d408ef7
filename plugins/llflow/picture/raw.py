"""Cameras' raw files by rawpy (LibRaw), in one development.

White balance is the camera's, the space Display P3 at 16 bits with sRGB's curve, the interpolation
AHD; what is brighter than the sensor's white is cut off, and nothing else is made brighter or
darker, sharper or smoother. Nothing else imports the package.
"""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

import rawpy

from llflow.picture import tiff
from llflow.picture.containers import P3
from llflow.picture.metadata import PREFIX, Metadata, with_iptc
from llflow.picture.optional import Check, Decoded, NotRead

SRGB_CURVE = (2.4, 12.92)  # the power, and the slope where it begins (IEC 61966-2-1)
_MAKER_NOTE = 37500
_XMP, _IPTC = 700, 33723


def decode(file: BinaryIO, check: Check) -> Decoded:
    """As `optional.decode` has it."""
    try:
        with rawpy.imread(file) as opened:
            check(opened.sizes.width, opened.sizes.height)
            samples = opened.postprocess(
                use_camera_wb=True,
                output_color=rawpy.ColorSpace.P3D65,
                gamma=SRGB_CURVE,
                output_bps=16,
                no_auto_bright=True,
            )
    except rawpy.LibRawError as error:
        said = error.args[0] if error.args else error
        said = said.decode() if isinstance(said, bytes) else said
        raise NotRead(
            f"a camera's raw file or a preview, and LibRaw says: {said}; develop it first, for "
            "example to a 16-bit TIFF"
        ) from error
    about, lost = _about(file)
    return Decoded(samples, 16, samples.shape[2], about, primaries=P3, lost=lost)


def _about(file: BinaryIO) -> tuple[Metadata, tuple[str, ...]]:
    """EXIF, XMP and IPTC of a raw file that is built like a TIFF, as most are."""
    try:
        held = tiff.tags(file)
        how, at = tiff.layout(file)
        entries, _, _ = tiff.directory(file, how, at, {_XMP, _IPTC})
    except ValueError:
        return Metadata(), ("EXIF isn't kept: the raw file isn't built like a TIFF",)
    kept = {
        part: [entry for entry in inside if entry.tag != _MAKER_NOTE]
        for part, inside in held.parts.items()
    }
    lost = ()
    if kept != held.parts:  # it counts from places in the raw file
        lost = ("the maker's notes aren't kept: they are about the raw file",)
    block = tiff.block(replace(held, parts=kept))
    found = {entry.tag: entry.value for entry in entries}
    return (
        Metadata(
            exif=PREFIX + block if block else b"",
            xmp=found.get(_XMP, b"").rstrip(b"\0"),
            resources=with_iptc(b"", found.get(_IPTC, b"")),
        ),
        lost,
    )
