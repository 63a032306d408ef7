"""Training batches: random crops of pairs, decided by seed, step and index alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from llflow.data.luminance import coarse_luminance
from llflow.data.pairs import DataError, Pair
from llflow.data.variety import AS_THEY_ARE, Variety
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
    """

    bright: Tensor
    low: Tensor
    noisy: Tensor
    illumination: Tensor
    log_exposure: Tensor


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
        self.sources = [
            [(pair, coarse_luminance(pair.bright.float() / 255)) for pair in some]
            for some in (pairs, synthetic)
        ]
        self.synthetic_share = synthetic_share if synthetic else 0.0
        self.size, self.batch, self.seed, self.variety = size, batch, seed, variety

    def __getitem__(self, step: int) -> Samples:
        """Batch number `step`."""
        rngs = (np.random.default_rng([self.seed, step, index]) for index in range(self.batch))
        columns = zip(*map(self._sample, rngs), strict=True)
        return Samples(*map(torch.stack, columns))

    def _sample(self, rng: np.random.Generator) -> Samples:
        source = self.sources[rng.random() < self.synthetic_share]
        pair, coarse = source[int(rng.integers(len(source)))]
        _, height, width = pair.bright.shape
        top = rng.integers(height - self.size + 1)
        left = rng.integers(width - self.size + 1)
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
        )
