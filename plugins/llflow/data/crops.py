"""Training batches: random crops of pairs, decided by seed, step and index alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llflow.data.pairs import DataError, Pair
from llflow.picture import preprocess


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
    ) -> None:
        too_small = [p.name for p in pairs if min(p.bright.shape[1:]) < size]
        if too_small:
            raise DataError(f"pictures smaller than the crop of {size}: {', '.join(too_small[:5])}")
        self.pairs, self.synthetic = pairs, synthetic
        self.synthetic_share = synthetic_share if synthetic else 0.0
        self.size, self.batch, self.seed = size, batch, seed

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """(bright (B, 3, size, size), low (B, 6, size, size)) of batch number `step`, float32."""
        rngs = (np.random.default_rng([self.seed, step, index]) for index in range(self.batch))
        crops = torch.stack([self._crop(rng) for rng in rngs]).float() / 255
        dark, equalized, bright = crops.split(3, dim=1)
        return bright, preprocess.network_input(dark, equalized)

    def _crop(self, rng: np.random.Generator) -> Tensor:
        pairs = self.synthetic if rng.random() < self.synthetic_share else self.pairs
        pair = pairs[int(rng.integers(len(pairs)))]
        _, height, width = pair.bright.shape
        top = rng.integers(height - self.size + 1)
        left = rng.integers(width - self.size + 1)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        crop = torch.cat([p[window] for p in (pair.dark, pair.equalized, pair.bright)])
        crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
        return crop.flip(2) if rng.random() < 0.5 else crop
