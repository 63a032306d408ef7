"""Ordinary bright photographs, which have no dark partner, as more training data."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

from torch.nn.functional import avg_pool2d

from llflow.data.pairs import MEMORY, DataError, Pair, kept, read_picture
from llflow.data.synthetic import DARKENED, Synthesis
from llflow.picture.files import format_of

log = logging.getLogger(__name__)

LARGE = 2_000_000  # pixels


def synthetic_from(
    folder: Path,
    seed: int,
    crop: int,
    synthesis: Synthesis = DARKENED,
    *,
    memory: int = MEMORY,
) -> list[Pair]:
    """Pairs of the photographs in a folder and those below it, each with a dark one made of it;
    named by their path in the folder.

    A photograph of more than two million pixels is averaged over blocks of 2×2, 3×3, ... pixels
    until it has no more, as far as a crop still fits: a crop of full camera resolution shows little
    but blur and the camera's own noise. Files without a picture's suffix are left out, and so are
    photographs smaller than a crop; the log says how many.

    Args:
        folder: PNG, JPEG, WebP, BMP, TIFF and AVIF in it are read.
        seed: decides, with its name, how a photograph is darkened.
        crop: side of a training crop in pixels.
        synthesis: how the dark ones are made.
        memory: bytes for all, see `kept`.

    Raises:
        DataError: no photograph is left, or one can't be read.
        OSError: the folder or a file can't be read.
    """
    paths = _paths(folder)
    made = (_pair(path, str(path.relative_to(folder)), seed, crop, synthesis) for path in paths)
    pairs = kept(made, len(paths), "photographs", memory)
    large = [pair for pair in pairs if min(pair.bright.shape[1:]) >= crop]
    if not large:
        raise DataError(f"{folder}: no photograph is as large as the crop of {crop}")
    if len(large) < len(pairs):
        log.warning(
            "%s: %d photographs smaller than the crop left out", folder, len(pairs) - len(large)
        )
    return large


def _paths(folder: Path) -> list[Path]:
    """The files in and below a folder that are pictures by their suffix, in a fixed order.

    Raises:
        DataError: there are none.
        OSError: a folder can't be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    paths, others = [], 0
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for path in (Path(root, name) for name in sorted(names) if name[0] != "."):
            if format_of(path):
                paths.append(path)
            else:
                others += 1
    if others:
        log.warning("%s: %d files without a picture's suffix left out", folder, others)
    if not paths:
        raise DataError(f"{folder}: expected pictures, found none")
    return paths


def _pair(path: Path, name: str, seed: int, crop: int, synthesis: Synthesis) -> Pair:
    bright = read_picture(path)
    _, height, width = bright.shape
    block = min(math.ceil(math.sqrt(height * width / LARGE)), min(height, width) // crop)
    if block > 1:
        bright = avg_pool2d(bright, block)
    return synthesis.pair(name, bright, seed)
