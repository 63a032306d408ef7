"""What the three scripts beside this file share: the data, and where results go."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llflow import data
from llflow.picture.files import Picture
from llflow.picture.files import write as write_picture

sys.path.append(str(Path(__file__).parents[1]))
import measure


def arguments(description: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="pairs, in low/ and high/"
    )
    return parser


def find(folder: Path, count: int) -> list[data.PairFiles]:
    """`count` pairs, evenly spread over the folder's."""
    pairs = data.find_pairs(folder)
    return pairs[:: max(1, len(pairs) // count)][:count]


def small_pairs(folder: Path, out: Path, count: int, side: int = 96) -> Path:
    """`count` of the folder's pairs as a folder of their own, the middle of each picture only."""
    for files in find(folder, count):
        pair = data.read_pair(files)
        _, height, width = pair.bright.shape
        top, left = (height - side) // 2, (width - side) // 2
        window = (..., slice(top, top + side), slice(left, left + side))
        for name, picture in (("low", pair.dark), ("high", pair.bright)):
            image = Picture(picture[window].float() / 255)
            write_picture(out / name / f"{files.name}.png", image)
    return out


def write(name: str, result: dict) -> None:
    """Write benchmarks/results/NAME.json, with the commit and the machine that it is from."""
    path = measure.RESULTS / f"{name}.json"
    measure.write(path, measure.provenance() | result)
    print(f"\nwritten: {path.relative_to(measure.REPOSITORY)}")
