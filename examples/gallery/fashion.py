"""Fashion-MNIST, as Debian brings it: `apt-get install dataset-fashion-mnist`."""

import gzip
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d, pad

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def pictures(part, count, size=28):
    """The first pictures (count, 1, size, size) of "train" or "t10k", whole numbers below 256."""
    if not FOLDER.exists():
        raise SystemExit(f"expected {FOLDER}: apt-get install dataset-fashion-mnist")
    with gzip.open(FOLDER / f"{part}-images-idx3-ubyte.gz") as file:
        numbers = bytearray(file.read(16 + count * 28 * 28)[16:])
    x = torch.frombuffer(numbers, dtype=torch.uint8).view(-1, 1, 28, 28).float()
    return x if size == 28 else avg_pool2d(pad(x, (2, 2, 2, 2)), 32 // size).floor()
