"""Pairs of a dark and a bright picture of one scene, read into memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from tqdm import tqdm

from llflow.errors import LLFlowError
from llflow.picture import retinex
from llflow.picture.files import PictureError, read

log = logging.getLogger(__name__)

MEMORY = 4 * 2**30  # bytes for a list of pairs
BYTES = 9  # a pixel of a pair: three pictures of three channels


class DataError(LLFlowError, ValueError):
    """A folder isn't laid out as pairs, or a split doesn't fit it."""


@dataclass(frozen=True)
class PairFiles:
    """One scene's files; `name` is what they share."""

    name: str
    dark: Path
    bright: Path


@dataclass(frozen=True)
class Pair:
    """One decoded pair, pictures (3, H, W) uint8; `equalized` is the dark one's equalisation."""

    name: str
    dark: Tensor
    equalized: Tensor
    bright: Tensor


def by_stem(folder: Path) -> dict[str, Path]:
    """A folder's files by their names without the suffix; hidden files are left out.

    Raises:
        DataError: two files have one name.
    """
    files, doubles = stems(folder)
    for first, second in doubles:
        raise one_name(first, second)
    return files


def stems(folder: Path) -> tuple[dict[str, Path], list[tuple[Path, Path]]]:
    """As `by_stem`; of two files of one name the first, and both in a list."""
    files: dict[str, Path] = {}
    doubles = []
    for path in visible_files(folder):
        first = files.setdefault(path.stem, path)
        if first != path:
            doubles.append((first, path))
    return files, doubles


def visible_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def one_name(first: Path, second: Path) -> DataError:
    return DataError(f"{first.parent}: {first.name} and {second.name} have one name")


def named(pairs: Sequence[PairFiles], names: Sequence[str]) -> list[PairFiles]:
    """The pairs of these names.

    Raises:
        DataError: one isn't there.
    """
    by_name = {pair.name: pair for pair in pairs}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(f"{len(missing)} pairs of the split aren't in the data: {missing[:5]}")
    return [by_name[name] for name in names]


def read_pair(files: PairFiles) -> Pair:
    """Decode one pair.

    Raises:
        DataError: a file isn't a picture that can be read, or the sizes differ.
        OSError: a file can't be read.
    """
    dark, bright = read_picture(files.dark), read_picture(files.bright)
    if dark.shape != bright.shape:
        raise DataError(
            f"{files.name}: the dark picture is {dark.shape[2]}×{dark.shape[1]}, "
            f"the bright one {bright.shape[2]}×{bright.shape[1]}"
        )
    return pair_of(files.name, dark, bright)


def read_pairs(files: Sequence[PairFiles], what: str, *, memory: int = MEMORY) -> list[Pair]:
    """Decode pairs with a progress bar, see `kept`.

    Raises:
        DataError, OSError: see `read_pair`.
    """
    return kept(map(read_pair, files), len(files), what, memory)


def kept(pairs: Iterable[Pair], count: int, what: str, memory: int = MEMORY) -> list[Pair]:
    """Pairs in bounded memory, with a progress bar while they are made.

    Each may take an equal share of the memory. Of a larger one a window is kept, at a place that
    its name decides, and the log says so: what comes back depends on the pairs and on `memory`
    alone. A window's `equalized` is cut from the whole picture's.

    Args:
        pairs: made one at a time.
        count: how many come.
        what: they are, for the bar.
        memory: bytes for all.
    """
    most = memory // BYTES // max(1, count)
    pairs_kept, cut = [], []
    for whole in tqdm(pairs, total=count, desc=f"reading {what}", unit="pair"):
        pair = window(whole, most)
        if pair is not whole:
            cut.append((whole.bright.shape, pair.bright.shape, pair.name))
        pairs_kept.append(pair)
    if cut:
        (_, height, width), (_, rows, columns), name = cut[0]
        log.warning(
            "%d of %d %s are larger than their share of %.3g GiB of memory; a window is kept of "
            "each, such as %d×%d of %d×%d (%r)",
            *(len(cut), count, what, memory / 2**30, columns, rows, width, height, name),
        )
    return pairs_kept


def window(pair: Pair, pixels: int) -> Pair:
    """The pair itself if it has at most so many pixels, else a window of about that many, square
    if the pair is large enough both ways, at a place that the name decides."""
    _, height, width = pair.bright.shape
    if height * width <= pixels:
        return pair
    rows = min(height, max(math.isqrt(pixels), pixels // width))
    columns = min(width, pixels // max(1, rows))
    rng = generator(pair.name)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    part = (..., slice(top, top + rows), slice(left, left + columns))
    # A slice that isn't copied would keep the whole picture in memory.
    pictures = (picture[part].clone() for picture in (pair.dark, pair.equalized, pair.bright))
    return Pair(pair.name, *pictures)


def averaged_down(pair: Pair, factor: int) -> Pair:
    """The pair at 1/factor of its size: both pictures averaged over blocks of factor×factor pixels
    and rounded to 8 bits, the dark one equalised after that. What no block covers is cut off."""
    if factor == 1:
        return pair
    dark, bright = (
        avg_pool2d(picture.float() / 255, factor) for picture in (pair.dark, pair.bright)
    )
    return pair_of(pair.name, (dark * 255).round() / 255, bright)


def generator(name: str, *seed: int) -> np.random.Generator:
    """Random numbers that a seed and a pair's name decide."""
    return np.random.default_rng([*seed, *name.encode(errors="surrogateescape")])


def read_picture(path: Path) -> Tensor:
    """(3, H, W) in [0, 1]; a `DataError` names the file."""
    try:
        return read(path).image
    except PictureError as error:
        raise DataError(f"{path}: {error}") from error


def pair_of(name: str, dark: Tensor, bright: Tensor) -> Pair:
    """A pair in 8 bits of pictures in [0, 1]."""
    pictures = (dark, retinex.equalize(dark), bright)
    return Pair(name, *((picture * 255).round().to(torch.uint8) for picture in pictures))
