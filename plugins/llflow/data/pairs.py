"""Pairs of a dark and a bright picture of one scene: found and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from llflow import images, retinex

LAYOUTS = (("low", "high"), ("Low", "Normal"), ("input", "target"))


class DataError(ValueError):
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


def find_pairs(folder: Path) -> list[PairFiles]:
    """Pairs by equal file names (suffixes may differ) in low/ and high/, Low/ and Normal/, or
    input/ and target/.

    Raises:
        DataError: no such folders, nothing in one, files without a partner, or two of one name.
    """
    for dark_name, bright_name in LAYOUTS:
        dark, bright = _by_stem(folder / dark_name), _by_stem(folder / bright_name)
        if dark and bright:
            break
    else:
        layouts = ", or ".join(f"{a}/ and {b}/" for a, b in LAYOUTS)
        raise DataError(f"{folder}: expected pictures in both {layouts}")
    alone = sorted(dark.keys() ^ bright.keys())
    if alone:
        raise DataError(
            f"{folder}: {len(alone)} pictures have no partner of the same name: "
            f"{', '.join(alone[:5])}{' …' if len(alone) > 5 else ''}"
        )
    return [PairFiles(name, dark[name], bright[name]) for name in sorted(dark)]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name[0] != "." and files.setdefault(path.stem, path) != path:
            raise DataError(f"{folder}: {files[path.stem].name} and {path.name} have one name")
    return files


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


def read_pairs(files: Sequence[PairFiles], what: str) -> list[Pair]:
    """Decode pairs with a progress bar."""
    return [read_pair(pair) for pair in tqdm(files, desc=f"reading {what}", unit="pair")]


def read_picture(path: Path) -> Tensor:
    """(3, H, W) in [0, 1]; a `DataError` names the file."""
    try:
        return images.read(path).image
    except images.PictureError as error:
        raise DataError(f"{path}: {error}") from error


def pair_of(name: str, dark: Tensor, bright: Tensor) -> Pair:
    """A pair in 8 bits of pictures in [0, 1]."""
    pictures = (dark, retinex.equalize(dark), bright)
    return Pair(name, *((picture * 255).round().to(torch.uint8) for picture in pictures))
