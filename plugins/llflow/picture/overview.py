"""What of a picture belongs to the whole of it, and is needed for every part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from llflow.picture import retinex
from llflow.picture.night import Night
from llflow.picture.preprocess import averaged_strip
from llflow.picture.rows import Rows, each


@dataclass(frozen=True)
class Overview:
    """Of a picture (3, H, W).

    Attributes:
        tables: (3, 256), what `retinex.equalize` makes of each channel's levels.
        mean: of its values.
        night: where it shows night.
    """

    tables: Tensor
    mean: float
    night: Night

    @classmethod
    def of(cls, picture: Rows) -> Overview:
        _, height, width = picture.shape
        counts, means = torch.zeros(3, 256, dtype=torch.int64), []
        night = Night(height, width)
        for at, strip in each(picture):
            counts += retinex.counted(strip)
            means.append(strip.mean().item() * (strip.shape[1] / height))
            night.see(at, strip)
        return cls(retinex.equalizing(counts), math.fsum(means), night)

    def averages(self, picture: Rows, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The picture and its equalised one, `preprocess.averaged` over so many areas."""
        _, height, _ = picture.shape
        light, contrast = torch.zeros(3, *size), torch.zeros(3, *size)
        for at, strip in each(picture):
            light += averaged_strip(strip, at, height, size)
            equalized = retinex.equalized(strip, self.tables)
            contrast += averaged_strip(equalized, at, height, size)
        return light, contrast
