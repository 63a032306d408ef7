"""Dark pictures made from bright ones: `darken`, and pairs of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llflow.data.pairs import MEMORY, Pair, PairFiles, generator, kept, pair_of, read_picture


def darken(bright: Tensor, rng: np.random.Generator) -> Tensor:
    """A dark picture of the same scene, as a short exposure would have taken it.

    In linear light (gamma 2.2) the picture is dimmed by u stops, u uniform in [0, 5], gets Gaussian
    noise of variance a·signal + b² (photon and read noise; a log-uniform in [1e-5, 0.002], b in
    [1e-5, 0.003]), and is rounded to 8 bits.

    Args:
        bright: (3, H, W) in [0, 1].
        rng: decides stops and noise.

    Foi et al., Practical Poissonian-Gaussian noise modeling, IEEE TIP 2008, eq. 1-3.
    """
    signal = bright.numpy().astype(np.float32) ** 2.2 * 2.0 ** -rng.uniform(0, 5)
    photon, read = np.exp(rng.uniform(np.log(1e-5), np.log((2e-3, 3e-3))))
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noisy = signal + np.sqrt(photon * signal + read**2) * noise
    dark = torch.from_numpy(noisy.clip(0, 1).astype(np.float32) ** (1 / 2.2))
    return (dark * 255).round() / 255


def synthetic_pair(files: PairFiles, seed: int) -> Pair:
    """The pair's bright picture, with a dark one made of it by `darken`."""
    bright = read_picture(files.bright)
    dark = darken(bright, generator(files.name, seed))
    return pair_of(files.name, dark, bright)


def synthetic_pairs(files: Sequence[PairFiles], seed: int, *, memory: int = MEMORY) -> list[Pair]:
    """The `synthetic_pair` of each, in bounded memory, see `kept`."""
    made = (synthetic_pair(pair_files, seed) for pair_files in files)
    return kept(made, len(files), "synthetic pairs", memory)
