"""HEIC by pillow-heif (libheif): 8 to 12 bits, turned as the file says, with its metadata.

HEIF, ISO/IEC 23008-12; nothing else imports the package.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import pillow_heif

from llflow.picture.containers import sdr
from llflow.picture.metadata import PREFIX, Metadata
from llflow.picture.optional import Check, Decoded, NotRead

_CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "I": 1}


def decode(file: BinaryIO, check: Check) -> Decoded:
    """As `optional.decode` has it."""
    whole = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    if len(whole) > 1:
        raise NotRead(f"HEIC with {len(whole)} pictures; only files of one picture are read")
    image = whole[0]
    check(*image.size)
    info = image.info
    named = info.get("nclx_profile") or {}
    try:
        primaries = sdr(
            int(named.get("color_primaries", 2)), int(named.get("transfer_characteristics", 2))
        )
    except ValueError as error:
        raise NotRead(str(error)) from None
    mode = image.mode.partition(";")[0]
    if mode not in _CHANNELS:
        raise NotRead(f"HEIC of mode {image.mode}")
    samples = np.asarray(image)
    bits = 8
    if samples.dtype == np.uint16:  # where they lie in the upper bits
        bits = min(12, max(10, int(info.get("bit_depth", 12))))
        samples = samples >> (16 - bits)
    lost = []
    if info.get("aux") or info.get("depth_images"):
        lost.append("further pictures in the file (a gain map or depths) aren't kept")
    if info.get("thumbnails"):
        lost.append("the thumbnail isn't kept: it shows the dark picture")
    exif = info.get("exif") or b""
    return Decoded(
        samples.reshape(*samples.shape[:2], -1),
        bits,
        _CHANNELS[mode],
        Metadata(
            exif=PREFIX + exif.removeprefix(PREFIX) if exif else b"", xmp=info.get("xmp") or b""
        ),
        icc_profile=info.get("icc_profile") or None,
        primaries=primaries,
        lost=tuple(lost),
    )
