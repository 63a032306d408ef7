"""Where pairs lie in a folder, and which dark picture belongs to which bright one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llflow.data.pairs import DataError, PairFiles, one_name, stems, visible_files

log = logging.getLogger(__name__)

DARK = ("low", "lowlight", "dark", "input", "short", "lq")
BRIGHT = ("high", "normal", "normallight", "bright", "target", "gt", "reference", "long", "hq")
DEEPEST = 3  # folders between the given one and the two that hold the pictures


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        dark, bright: the two folders.
        how: by what the files were paired.
        pairs: sorted by name.
        alone: pictures without a partner.
        doubles: two files that differ in their suffix only; the first one counts.
    """

    dark: Path
    bright: Path
    how: str
    pairs: list[PairFiles]
    alone: list[Path]
    doubles: list[tuple[Path, Path]]


def find_pairs(folder: Path) -> list[PairFiles]:
    """The pairs that `look` finds.

    Raises:
        DataError: no two such folders, or several; files without a partner, or two of one name.
    """
    found = look(folder)
    for first, second in found.doubles:
        raise one_name(first, second)
    if found.alone:
        names = [path.stem for path in found.alone]
        raise DataError(
            f"{folder}: {len(names)} pictures have no partner of the same name: "
            f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        )
    return found.pairs


def look(folder: Path) -> Found:
    """Find the dark and the bright pictures in or below `folder` and pair them.

    One folder is named low, dark, input, ..., its neighbour high, normal, target, gt, ..., in any
    letter case. They may lie up to three folders deeper, if nothing else does.

    A pair's name is the file name without its suffix. Where those differ, words like the folders'
    at either end don't count: low00001.png and normal00001.png are the pair 00001. Where that
    doesn't help either and there are as many dark as bright ones, they are paired in order, numbers
    by value, with a warning.

    Raises:
        DataError: no two such folders, or several.
        OSError: a folder can't be read.
    """
    dark_folder, bright_folder = _folders(folder)
    dark, dark_doubles = stems(dark_folder)
    bright, bright_doubles = stems(bright_folder)
    ways = {
        "equal names": (dark, bright),
        "names without words like the folders'": (
            _without_words(dark, (*DARK, dark_folder.name)),
            _without_words(bright, (*BRIGHT, bright_folder.name)),
        ),
    }
    how = max(ways, key=lambda way: len(ways[way][0].keys() & ways[way][1].keys()))
    dark, bright = ways[how]
    if not dark.keys() & bright.keys() and len(dark) == len(bright):
        how = "order"
        bright = dict(zip(_ordered(dark), (bright[stem] for stem in _ordered(bright)), strict=True))
        first = [f"{dark[n].name!r} with {bright[n].name!r}" for n in _ordered(dark)[:3]]
        log.warning(
            "%s: no name in %s/ is like one in %s/, so they are paired in order, which may be "
            "wrong: %s, …",
            *(folder, dark_folder.name, bright_folder.name, ", ".join(first)),
        )
    return Found(
        dark_folder,
        bright_folder,
        how,
        [PairFiles(name, dark[name], bright[name]) for name in sorted(dark.keys() & bright.keys())],
        [{**dark, **bright}[name] for name in sorted(dark.keys() ^ bright.keys())],
        dark_doubles + bright_doubles,
    )


def _folders(folder: Path) -> tuple[Path, Path]:
    candidates = list(_candidates(folder, DEEPEST))
    if len(candidates) > 1:
        names = [f"{a.relative_to(folder)} with {b.name}" for a, b in candidates]
        raise DataError(
            f"{folder}: expected one folder of dark and one of bright pictures, got "
            f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}; "
            "give the folder that holds the two you mean"
        )
    if not candidates:
        examples = "low/ and high/, or Low/ and Normal/, input/ and target/, dark/ and bright/"
        missing = "" if folder.is_dir() else "; there is no such folder"
        raise DataError(f"{folder}: expected pictures in both {examples}, …{missing}")
    return candidates[0]


def _candidates(folder: Path, deeper: int) -> Iterator[tuple[Path, Path]]:
    if not folder.is_dir():
        return
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    dark = [path for path in folders if _word(path) in DARK and visible_files(path)]
    bright = [path for path in folders if _word(path) in BRIGHT and visible_files(path)]
    found = [(a, b) for a in dark for b in bright]
    yield from found
    if not found and deeper:
        for inner in folders:
            yield from _candidates(inner, deeper - 1)


def _word(folder: Path) -> str:
    return re.sub("[ _-]", "", folder.name.lower())


def _without_words(files: dict[str, Path], words: tuple[str, ...]) -> dict[str, Path]:
    """The files by what is left of their stems; by their stems if that isn't unique."""
    word = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    # A letter next to it makes it part of another word.
    ends = re.compile(rf"^({word})(?![a-z])[ _.-]*|[ _.-]*(?<![a-z])({word})$", re.IGNORECASE)
    bare = {ends.sub("", stem) or stem: path for stem, path in files.items()}
    return bare if len(bare) == len(files) else files


def _ordered(names: dict[str, Path]) -> list[str]:
    """Sorted, numbers within by value."""
    return sorted(names, key=lambda n: [int(p) if p.isdecimal() else p for p in _parts(n)])


def _parts(name: str) -> list[str]:
    return re.split(r"(\d+)", name)
