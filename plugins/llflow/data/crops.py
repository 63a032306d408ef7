"""Training batches: random crops of pairs, decided by seed, step and index alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from llflow.data.luminance import coarse_luminance, lying
from llflow.data.pairs import DataError, Pair
from llflow.data.variety import AS_THEY_ARE, Variety
from llflow.network.illumination import thumbnail
from llflow.picture import preprocess


class Samples(NamedTuple):
    """Crops of side S, float32.

    Attributes:
        bright: (B, 3, S, S) in [0, 1], clipped where a gain takes it above.
        low: (B, 6, S, S) of the dark ones, see `preprocess.network_input`.
        noisy: `bright` as its likelihood is asked for.
        illumination: (B, 1, S, S), the crop's part of the whole bright picture's coarse luminance,
            smooth and with the errors that a predicted one has.
        log_exposure: (B,), of the whole bright picture's mean; not clipped.
        whole: (B, 6, 64, 96), thumbnails of the whole dark pictures, lying if they are upright; of
            size 0 where no illumination is to be predicted.
        place: (B, 2, 3), where in them the crops are, as `affine_grid` takes it.
        is_predicted: (B,), whose illumination is to be what the network predicts from `whole`.
    """

    bright: Tensor
    low: Tensor
    noisy: Tensor
    illumination: Tensor
    log_exposure: Tensor
    whole: Tensor
    place: Tensor
    is_predicted: Tensor


class Crops:
    """Training batches: random crops, mirrored and turned, of pairs held in memory.

    Sample `index` of batch `step` depends on the seed and on these two numbers alone, so a run that
    is stopped goes on as if it hadn't been.

    Args:
        pairs: the real pairs.
        synthetic: pairs made by `synthetic_pairs` or `synthetic_from`; may be empty.
        synthetic_share: probability that a sample is drawn from them.
        size: side of a crop in pixels, a multiple of 8.
        batch: samples per batch.
        seed: decides everything.
        variety: what else happens to samples.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        synthetic: Sequence[Pair] = (),
        *,
        synthetic_share: float = 0.0,
        size: int,
        batch: int,
        seed: int,
        variety: Variety = AS_THEY_ARE,
    ) -> None:
        too_small = [p.name for p in pairs if min(p.bright.shape[1:]) < size]
        if too_small:
            raise DataError(f"pictures smaller than the crop of {size}: {', '.join(too_small[:5])}")
        self.size, self.batch, self.seed, self.variety = size, batch, seed, variety
        self.synthetic_share = synthetic_share if synthetic else 0.0
        self.sources = [
            [
                (pair, coarse_luminance(pair.bright.float() / 255), self._whole(pair))
                for pair in some
            ]
            for some in (pairs, synthetic)
        ]

    def _whole(self, pair: Pair) -> Tensor:
        if not self.variety.predicted:
            return torch.empty(6, 0, 0)
        dark, equalized = (p[None].float() / 255 for p in (pair.dark, pair.equalized))
        return lying(thumbnail(dark, equalized)[0])

    def __getitem__(self, step: int) -> Samples:
        """Batch number `step`."""
        rngs = (np.random.default_rng([self.seed, step, index]) for index in range(self.batch))
        columns = zip(*map(self._sample, rngs), strict=True)
        return Samples(*map(torch.stack, columns))

    def _sample(self, rng: np.random.Generator) -> Samples:
        source = self.sources[rng.random() < self.synthetic_share]
        pair, coarse, whole = source[int(rng.integers(len(source)))]
        _, height, width = pair.bright.shape
        top = int(rng.integers(height - self.size + 1))
        left = int(rng.integers(width - self.size + 1))
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        turns, is_mirrored = int(rng.integers(4)), rng.random() < 0.5

        order, gain = self.variety.order(rng), self.variety.gain(rng)
        pictures = [p[window].float() / 255 for p in (pair.dark, pair.equalized, pair.bright)]
        dark, equalized, bright = (picture[order] for picture in pictures)
        dark, bright = self.variety.dark(dark, rng), (bright * gain).clamp(max=1)
        coarse = coarse * gain
        mistaken = self.variety.mistaken(coarse, rng)[None]
        illumination = interpolate(mistaken, (height, width), mode="bilinear")[0][window]

        crop = torch.cat([dark, equalized, bright, illumination])
        crop = torch.rot90(crop, turns, (1, 2))
        crop = crop.flip(2) if is_mirrored else crop
        dark, equalized, bright, illumination = crop.split([3, 3, 3, 1])
        return Samples(
            bright,
            preprocess.network_input(dark, equalized),
            self.variety.noisy(bright, rng),
            illumination,
            coarse.mean().clamp(min=1 / 255).log(),
            whole,
            _place((height, width), (top, left), self.size, turns, is_mirrored),
            self.variety.is_predicted(rng),
        )


def _place(
    whole: tuple[int, int], corner: tuple[int, int], size: int, turns: int, is_mirrored: bool
) -> Tensor:
    """(2, 3): from a place (x, y) in the crop to the one in the picture, both from -1 to 1, first
    mirrored, then turned, then moved; if the picture is upright, to (y, x) there."""
    (height, width), (top, left) = whole, corner
    turned = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), turns)
    turned[:, 0] *= -1 if is_mirrored else 1
    sides = np.array([width, height])
    middle = (2 * np.array([left, top]) + size) / sides - 1
    place = np.column_stack([turned * (size / sides)[:, None], middle])
    return torch.from_numpy(place if width >= height else place[::-1].copy()).float()
