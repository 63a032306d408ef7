"""Pictures some rows at a time, so that none has to be held whole in float32.

A picture is 12 bytes a pixel in float32, and most steps of the way need a few of it beside each
other. What computes with one row, or with one and its neighbours, does so in strips.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

ALL = slice(None)
BYTES = 12  # a pixel
_STRIP = 1 << 20  # pixels


class Rows(Protocol):
    """A picture (3, H, W) that is made as it is asked for."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def rows(self, at: slice, columns: slice = ALL) -> Tensor:
        """(3, h, w) in float32 on the CPU, which the caller leaves as it is."""
        ...


class Whole:
    """A tensor (3, H, W) as it is."""

    def __init__(self, image: Tensor) -> None:
        self.image = image

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.image.shape
        return channels, height, width

    def rows(self, at: slice, columns: slice = ALL) -> Tensor:
        return self.image[:, at, columns]


class Scratch:
    """A picture (3, height, width) in the making: put in any order, then read and put by rows.

    Args:
        folder: where a temporary file has it, which is gone with this object; None for memory.

    Raises:
        OSError: the folder refuses, or there is no room.
    """

    def __init__(self, height: int, width: int, folder: Path | None = None) -> None:
        self.shape = (3, height, width)
        self._file = None
        if folder is not None:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._image = torch.empty(self.shape if folder is None else 0)

    def put(self, at: slice, columns: slice, part: Tensor) -> None:
        if self._file is None:
            self._image[:, at, columns] = part
            return
        _, _, width = self.shape
        whole = part.shape[2] == width
        lines = part.permute(1, 0, 2).contiguous().numpy()
        for row, line in [(at.start, lines)] if whole else enumerate(lines, at.start):
            for channel, values in [(0, line)] if whole else enumerate(line):
                self._file.seek(4 * ((3 * row + channel) * width + (columns.start or 0)))
                _write_all(self._file, values)

    def rows(self, at: slice, columns: slice = ALL) -> Tensor:
        if self._file is None:
            return self._image[:, at, columns]
        _, height, width = self.shape
        start, stop, _ = at.indices(height)
        lines = np.empty((stop - start, 3, width), np.float32)
        self._file.seek(4 * 3 * start * width)
        _read_all(self._file, lines)
        return torch.from_numpy(lines).permute(1, 0, 2)[..., columns].contiguous()


def _write_all(file, values: np.ndarray) -> None:
    left = values.reshape(-1).view(np.uint8).data
    while left:
        left = left[file.write(left) :]


def _read_all(file, lines: np.ndarray) -> None:
    left = lines.reshape(-1).view(np.uint8).data
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError("a temporary file is shorter than what was written")
        left = left[count:]


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows of some million pixels at a time, a multiple of 4 but for the last."""
    count = max(4, _STRIP // max(1, width) // 4 * 4)
    return (slice(at, min(at + count, height)) for at in range(0, height, count))


def each(picture: Rows) -> Iterator[tuple[slice, Tensor]]:
    """Strip after strip: which rows, and they."""
    _, height, width = picture.shape
    for at in strips(height, width):
        yield at, picture.rows(at)


def whole(picture: Rows) -> Tensor:
    """(3, H, W), made."""
    if isinstance(picture, Whole):
        return picture.image
    image = torch.empty(picture.shape)
    for at, strip in each(picture):
        image[:, at] = strip
    return image


def mean_of(picture: Rows) -> float:
    """Of the values, clipped to [0, 1]."""
    _, height, _ = picture.shape
    return math.fsum(
        strip.clamp(0, 1).mean().item() * (strip.shape[1] / height) for _, strip in each(picture)
    )


class Largest:
    """The least of the `count` largest values of those that are seen bit by bit."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._values = torch.empty(0)

    def see(self, values: Tensor) -> None:
        values = values.flatten()
        if len(self._values) == self.count:
            values = values[values > self._values[-1]]
        values = torch.cat([self._values, values])
        self._values = values.topk(min(self.count, len(values))).values

    @property
    def least(self) -> Tensor:
        return self._values[-1]
