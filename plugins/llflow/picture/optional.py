"""Formats that take a package of their own: which one, and what it makes of a file.

They are read only; a result is written in another format that holds as much.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import BinaryIO

import numpy as np

from llflow.errors import LLFlowError
from llflow.picture.metadata import Metadata

Check = Callable[[int, int], None]


class NotRead(LLFlowError, ValueError):
    """A file that is known and can't be read; the message says what it is."""


@dataclass(frozen=True)
class Extra:
    """What has to be installed for a format.

    Attributes:
        name: of the extra, `pip install 'flowkit[name]'`, and of the module here about it.
        package: what that module imports.
        what: the format in words.
        becomes: the format of the results.
        suffixes: of its files.
    """

    name: str
    package: str
    what: str
    becomes: str
    suffixes: Collection[str]

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


_RAW = (
    ".dng .nef .nrw .cr2 .cr3 .arw .orf .rw2 .rwl .raf .pef .srw .iiq .3fr .fff .erf .mef .mos "
    ".mrw .x3f .dcr .kdc"
)

EXTRAS = {
    "HEIC": Extra("heif", "pillow_heif", "HEIC", "AVIF", (".heic", ".heif", ".hif")),
    "JXL": Extra("jxl", "OpenImageIO", "JPEG XL", "TIFF", (".jxl",)),
    "RAW": Extra(
        "raw",
        "rawpy",
        "a camera's raw file",
        "TIFF",
        _RAW.split(),
    ),
}


@dataclass(frozen=True)
class Decoded:
    """A picture as such a package gives it.

    Attributes:
        samples: (H, W, C), upright, opacity behind the channels if there is any; uint8, uint16 or
            float32.
        bits: a channel: 8, 10, 12, 16, or `samples.FLOAT`.
        channels: 1 or 3, without opacity.
        about: what the file says, its orientation not yet taken out.
        icc_profile: the file's.
        primaries: the number of those that the samples have without a profile (ITU H.273), or 0.
        lost: what can't be taken along, a line each.
    """

    samples: np.ndarray
    bits: int
    channels: int
    about: Metadata = field(default_factory=Metadata)
    icc_profile: bytes | None = None
    primaries: int = 0
    lost: tuple[str, ...] = ()


def decode(file: BinaryIO, kind: str, check: Check) -> Decoded:
    """Decode a file of one of `EXTRAS`.

    Args:
        file: open at any place.
        kind: a key of `EXTRAS`.
        check: is called with width and height before pixels are decoded, and may raise.

    Raises:
        NotRead: the package isn't there, or the file holds more than one picture or is for screens
            of more light than white.
        Exception: whatever the package raises on a damaged file.
    """
    extra = EXTRAS[kind]
    if not extra.installed:
        raise NotRead(
            f"{extra.what}, which takes another package: pip install 'flowkit[{extra.name}]'"
        )
    file.seek(0)
    return import_module(f"llflow.picture.{extra.name}").decode(file, check)


def becoming(suffix: str) -> str | None:
    """The format of results from files that end so, or None if the ending is none of these."""
    found = (extra.becomes for extra in EXTRAS.values() if suffix.lower() in extra.suffixes)
    return next(found, None)
