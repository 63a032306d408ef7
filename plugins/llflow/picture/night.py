"""Where a picture shows night, which stays dark: nothing is there to be made bright."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from llflow.picture.light import GAMMA
from llflow.picture.preprocess import interpolated
from llflow.picture.rows import Largest

NOTHING = 14  # stops below the picture's white: what no camera tells from its own noise
SOMETHING = 11  # stops below white from which on all is picture
WHITE = 0.001  # share of the picture that is brighter than its white
DETAIL = 8.0  # standard deviations of cells that count as much light as their mean
CELL = 4  # pixels a side, over which noise is averaged
AROUND = 5  # cells a side, in which light and detail are looked for
EDGES = 13  # cells a side, in which the share follows the picture's edges
SEEN = AROUND // 2 + 2 * (EDGES // 2) + 2  # cells away that a pixel's share depends on
FLAT = 0.02  # variance of log light below which there is no edge to follow


def keep_night(image: Tensor, result: Tensor) -> Tensor:
    """`result` (3, H, W), but `image` where that is night, and a blend of their values between.

    How far something lies below the picture's white says whether it is night or only
    underexposed: near black beside bright lamps is a sky, near black where all is dark may be a
    wall. Where there is detail there is more than night, so that counts as light.

        s = (m + 8·σ) / white
        share of `result` = (s - 2^(-14/2.2)) / (2^(-11/2.2) - 2^(-14/2.2))

    clipped to [0, 1], with m and σ mean and standard deviation of the luminance of 5×5 cells of 4×4
    pixels, and white what a thousandth of the picture is brighter than. Made to follow edges by
    a guided filter (He, Sun and Tang, "Guided Image Filtering", ECCV 2010, eqs. 5, 6 and 8), lest
    what stands before a sky have a halo.
    """
    return torch.lerp(image, result, share_that_is_no_night(image))


def share_that_is_no_night(image: Tensor) -> Tensor:
    """(H, W) in [0, 1] of a picture (3, H, W), see `keep_night`."""
    night = Night(*image.shape[1:])
    night.see(slice(0, image.shape[1]), image)
    return night.share(slice(0, image.shape[1]))


class Night:
    """Where a picture of this size, seen strip after strip, shows night."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)
        self._cells = torch.empty(-(-height // CELL), -(-width // CELL))
        pixels = height * width
        self._brightest = Largest(pixels + 1 - max(1, math.ceil((1 - WHITE) * pixels)))

    def see(self, at: slice, strip: Tensor) -> None:
        """Rows (3, h, W) of the picture, of which the first one's number is a multiple of 4."""
        self._brightest.see(strip.amax(0))
        self._cells[at.start // CELL : -(-at.stop // CELL)] = _cells(strip.mean(0))

    @property
    def white(self) -> Tensor:
        """What a thousandth of the picture is brighter than, 1/255 at least."""
        return self._brightest.least.clamp(min=1 / 255)

    def share(self, at: slice, white: Tensor | None = None) -> Tensor:
        """(h, W) in [0, 1] of these rows: the share that is no night, for another white if asked
        for."""
        height, width = self.size
        first, last = at.start // CELL - SEEN, -(-at.stop // CELL) + SEEN
        around = slice(max(0, first), min(len(self._cells), last))
        share = share_of_cells(
            self._cells[None, None, around] / (self.white if white is None else white)
        )
        if at == slice(0, height):
            return F.interpolate(share, self.size, mode="bilinear")[0, 0]
        whole = torch.zeros(1, 1, *self._cells.shape)
        whole[:, :, around] = share
        return interpolated(whole, self.size, torch.arange(height)[at], torch.arange(width))[0, 0]


def share_of_cells(cells: Tensor) -> Tensor:
    """Cells, white being 1, to theirs; only those further than `SEEN` from a cut are right."""
    mean = _around(cells, AROUND)
    spread = (_around(cells.square(), AROUND) - mean.square()).clamp(min=0).sqrt()
    least, most = (2 ** (-stops / GAMMA) for stops in (NOTHING, SOMETHING))
    share = ((mean + DETAIL * spread - least) / (most - least)).clamp(0, 1)
    return _guided((1 + 255 * cells).log(), share).clamp(0, 1)


def _guided(guide: Tensor, share: Tensor) -> Tensor:
    """slope·guide + offset, the mean of the lines that fit `share` best around each cell."""
    mean, mean_share = _around(guide, EDGES), _around(share, EDGES)
    covariance = _around(guide * share, EDGES) - mean * mean_share
    variance = (_around(guide.square(), EDGES) - mean.square()).clamp(min=0)
    slope = covariance / (variance + FLAT)
    return _around(slope, EDGES) * guide + _around(mean_share - slope * mean, EDGES)


def _cells(plane: Tensor) -> Tensor:
    return F.avg_pool2d(plane[None, None], CELL, ceil_mode=True, count_include_pad=False)


def _around(cells: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(cells, side, 1, side // 2, count_include_pad=False)
