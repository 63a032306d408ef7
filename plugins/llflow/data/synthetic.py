"""Dark pictures made from bright ones, and night skies: pairs that no camera took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from llflow.data.pairs import MEMORY, Pair, PairFiles, generator, kept, pair_of, read_picture


@dataclass(frozen=True)
class Synthesis:
    """Which pairs are made of what is there.

    Attributes:
        skies: share with a night sky, in which there is nothing to see and which stays dark.
        unchanged: share whose dark picture is the bright one itself, which has to stay as it is.

    The rest is darkened by `darken`.
    """

    skies: float = 0.0
    unchanged: float = 0.0

    def pair(self, name: str, bright: Tensor, seed: int, dark: Tensor | None = None) -> Pair:
        """The one that seed and name decide on.

        Args:
            name: of the pair.
            bright: (3, H, W) in [0, 1].
            dark: the real one, which gets the sky where there is one.
        """
        rng, drawn = generator(name, seed), generator(name, seed, 1).random()
        if drawn < self.skies:
            night = darken(bright, rng) if dark is None else dark
            return pair_of(name, *night_sky(night, bright, rng))
        if drawn < self.skies + self.unchanged:
            return pair_of(name, bright, bright)
        return pair_of(name, darken(bright, rng), bright)


DARKENED = Synthesis()


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


def night_sky(dark: Tensor, bright: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A pair (dark, bright) with a part of both turned into a night sky: black with a little noise
    in the one, an even, nearly black color in the other.

    Where the sky is, above or below, how far, with which edge, how black and how noisy are random:
    up to 2 levels of 255 with noise of 0.1 to 1.2 in the dark picture, up to 15 in the bright one.

    Args:
        dark, bright: (3, H, W) in [0, 1].
        rng: decides everything.
    """
    _, height, width = dark.shape
    blobs = rng.standard_normal((1, 1, rng.integers(2, 5), rng.integers(2, 6)), dtype=np.float32)
    blobs = interpolate(torch.from_numpy(blobs), (height, width), mode="bicubic")[0]
    above = 1.0 if rng.random() < 2 / 3 else -1.0
    slope = torch.linspace(1.5, -1.5, height)[:, None] * above
    share = ((blobs + slope) * float(rng.uniform(2, 12))).clamp(0, 1)
    level = rng.uniform(0, 2, (3, 1, 1)) * rng.random()
    noise = rng.uniform(0.1, 1.2) * rng.standard_normal(dark.shape, dtype=np.float32)
    color = rng.uniform(2, 10) * rng.uniform(0.5, 1.5, (3, 1, 1)) * rng.uniform(0.2, 1)
    skies = (torch.from_numpy(np.asarray(x, np.float32)) / 255 for x in (level + noise, color))
    night, lit = (
        (picture + (sky - picture) * share).mul(255).round().clamp(0, 255) / 255
        for picture, sky in zip((dark, bright), skies, strict=True)
    )
    return night, lit


def synthetic_pair(files: PairFiles, seed: int, synthesis: Synthesis = DARKENED) -> Pair:
    """The pair's bright picture, with a dark one made of it."""
    dark = read_picture(files.dark) if synthesis.skies else None
    return synthesis.pair(files.name, read_picture(files.bright), seed, dark)


def synthetic_pairs(
    files: Sequence[PairFiles],
    seed: int,
    synthesis: Synthesis = DARKENED,
    *,
    memory: int = MEMORY,
) -> list[Pair]:
    """The `synthetic_pair` of each, in bounded memory, see `kept`."""
    made = (synthetic_pair(pair_files, seed, synthesis) for pair_files in files)
    return kept(made, len(files), "synthetic pairs", memory)
