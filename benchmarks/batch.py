"""What does `llflow batch` cost per million pictures, and how many can one leader lead?

python benchmarks/batch.py [--price DOLLARS]

One worker of one thread makes JPEGs of several sizes bright, with the default weights, and its
processor time is taken from reading the file to its result in place. Then a leader has workers that
do nothing: its processor time, and what it holds in memory and on disk for each picture. With a
price for an hour of a processor a column has what a million costs.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from llflow.batch.lead import Lead
from llflow.batch.part import DONE, Began, Ended, Event, Finished, Item, Part
from llflow.batch.place import Place
from llflow.batch.recipe import Recipe
from llflow.batch.record import Record
from llflow.batch.worker import Worker
from llflow.network import checkpoint
from llflow.picture.files import MAX_PIXELS
from llflow.settings import Settings

SIZES = ((256, 256, 24), (512, 512, 12), (1024, 1024, 6))  # width, height, how many pictures
LED = 20_000
MILLION = 1_000_000


def write_dark(path: Path, width: int, height: int, seed: int) -> None:
    """A smooth scene, dark, with noise."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(5, 60, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = smooth + draw.normal(0, 3, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)


def seconds_each(folder: Path, width: int, height: int, count: int, recipe: Recipe) -> float:
    """Of processor time; of the first picture nothing is counted."""
    items = []
    for number in range(count + 1):
        path = folder / f"{width}_{number}.jpg"
        write_dark(path, width, height, number)
        items.append(Item(path.name, str(path), path.name))
    worker = Worker(recipe, str(folder / "out"))
    first, rest = Part("first", (items[0],)), Part("rest", tuple(items[1:]))
    list(worker.work(first))
    start = time.process_time()
    events = list(worker.work(rest))
    seconds = time.process_time() - start
    ended = [event.line for event in events if isinstance(event, Ended)]
    if [line["status"] for line in ended] != [DONE] * count:
        raise RuntimeError(f"not every picture is done: {ended[0]}")
    return seconds / count


class Idle:
    """Workers that do nothing, at once."""

    size = free = 1

    def __init__(self) -> None:
        self._told: list[tuple[int | None, Event]] = []

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def give(self, number: int, part: Part) -> None:
        line = {"key": part.name, "status": DONE, "reason": None, "target": part.name}
        line |= {"sha256": "0" * 64, "bytes": 123456, "lost": [], "seconds": 0.123}
        self._told += [(number, Began(part.name)), (number, Ended(line)), (number, Finished())]
        self.free = 0

    def events(self) -> list[tuple[int | None, Event]]:
        told, self._told, self.free = self._told, [], 1
        return told


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="of an hour of a processor")
    price = parser.parse_args(argv).price
    torch.set_num_threads(1)
    weights = checkpoint.DEFAULT
    sha256 = checkpoint.digest(checkpoint.file_of(weights))
    settings = Settings(precision="float32")
    recipe = Recipe(settings, weights, sha256, "cpu", 1, MAX_PIXELS, 2_000_000_000)
    with TemporaryDirectory() as name:
        folder = Path(name)
        dollars = "" if price is None else " dollars a million |"
        print(f"| size | s of one processor | hours of it a million |{dollars}")
        print("|---|---|---|" + ("" if price is None else "---|"))
        for width, height, count in SIZES:
            each = seconds_each(folder, width, height, count, recipe)
            hours = each * MILLION / 3600
            cost = "" if price is None else f" {hours * price:,.2f} |"
            print(f"| {width}×{height} | {each:.3f} | {hours:,.0f} |{cost}")
        items = (Item(f"photos/{n:09}.jpg", "", f"photos/{n:09}.jpg") for n in range(LED))
        parts = (Part(item.key, (item,)) for item in items)
        out = Place(str(folder / "led"))
        lead, start = Lead(parts, out), time.process_time()
        for _ in lead.run(Idle()):
            pass
        rate = LED / (time.process_time() - start)
        size = out.size(".batch/record/pictures.jsonl") / LED
        tracemalloc.start()
        record = Record(out, "pictures")
        held = tracemalloc.get_traced_memory()[0] / LED
        record.close()
    print(
        f"\none leader: {rate:,.0f} pictures a second; for each it holds {held:.0f} bytes in "
        f"memory and {size:.0f} on disk"
    )


if __name__ == "__main__":
    main()
