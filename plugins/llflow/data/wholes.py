"""What an illumination branch learns from: whole pictures, small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llflow.data.luminance import coarse_luminance, lying
from llflow.data.pairs import Pair
from llflow.data.variety import AS_THEY_ARE, Variety
from llflow.network.illumination import thumbnail
from llflow.picture import retinex

WINDOWS = 0.7  # share of the samples that are a window of a picture, at least half as high and wide
UPRIGHT = 0.3  # share of the batches of pictures higher than wide
UPSIDE_DOWN = 0.15
MANY = 150  # pixels a side, from which every second one says as much


class Thumbnails(NamedTuple):
    """Of whole pictures.

    Attributes:
        thumbnails: (B, 6, 64, 96) or (B, 6, 96, 64) of dark pictures, see
            `network.illumination.thumbnail`.
        luminance: (B, 1, 16, 24) or (B, 1, 24, 16) of the bright ones, see `coarse_luminance`.
    """

    thumbnails: Tensor
    luminance: Tensor


class Wholes:
    """Batches of whole pictures, mirrored and turned, or windows of them, which are pictures, too.

    As with `Crops`, a batch depends on the seed and its number alone.

    Args:
        pairs, synthetic, synthetic_share, seed, variety: see `Crops`.
        batch: pictures per batch.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        synthetic: Sequence[Pair] = (),
        *,
        synthetic_share: float = 0.0,
        batch: int,
        seed: int,
        variety: Variety = AS_THEY_ARE,
    ) -> None:
        self.sources = pairs, synthetic
        self.synthetic_share = synthetic_share if synthetic else 0.0
        self.batch, self.seed, self.variety = batch, seed, variety

    def __getitem__(self, step: int) -> Thumbnails:
        """Batch number `step`."""
        rng = np.random.default_rng([self.seed, step, 2**32])  # crops have indices below
        columns = zip(*(self._picture(rng) for _ in range(self.batch)), strict=True)
        thumbnails, luminance = map(torch.stack, columns)
        if rng.random() < UPRIGHT:
            thumbnails, luminance = thumbnails.mT, luminance.mT
        return Thumbnails(thumbnails, luminance)

    def _picture(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        source = self.sources[rng.random() < self.synthetic_share]
        pair = source[int(rng.integers(len(source)))]
        window = _window(pair.bright.shape[1:], rng)
        order, mirrored = self.variety.order(rng), rng.random(2) < (UPSIDE_DOWN, 0.5)
        dark, bright = (p[order][window].float() / 255 for p in (pair.dark, pair.bright))
        dark = self.variety.dark(dark, rng)
        light = thumbnail(dark[None], retinex.equalize(dark)[None])[0]
        luminance = coarse_luminance(bright)
        sides = [side for side, is_mirrored in zip((-2, -1), mirrored, strict=True) if is_mirrored]
        return lying(light.flip(sides)), lying(luminance.flip(sides))


def _window(size: Sequence[int], rng: np.random.Generator) -> tuple:
    """The whole picture, or a window of at least half its height and width; of a large one, every
    second pixel each way, which has the same histogram."""
    height, width = size
    rows, columns = height, width
    if rng.random() < WINDOWS:
        share = rng.uniform(0.5, 1)
        rows = max(1, int(height * share))
        columns = max(1, int(width * min(1, share * rng.uniform(0.85, 1.15))))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    by = 2 if min(rows, columns) >= MANY else 1
    return (..., slice(top, top + rows, by), slice(left, left + columns, by))
