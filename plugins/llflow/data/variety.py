"""How samples differ from the pictures that they are cut from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from llflow.picture.light import factor_of_stops

STOPS = 2.3  # up and down: what a gain may be
POWERS = (0.7, 1.2)
DARK = 80 / 255  # the largest mean of a picture whose gamma is changed
GRIDS = ((2, 3), (4, 6), (8, 12), (16, 24))  # of smooth errors, in rows and columns
DIMMEST = 1 / 255


@dataclass(frozen=True)
class Variety:
    """Shares of the samples, and sizes of errors; 0 leaves the samples as they are.

    Attributes:
        permuted: share whose channels are in another order, in all pictures alike, so that colors
            are learnt from the picture and not by heart.
        gammas: share of dark samples that are raised to a power between 0.7 and 1.2. Equalised they
            stay the same.
        gains: share whose bright picture and illumination are multiplied by up to 2.3 stops, up or
            down, so that the network follows the illumination it is given.
        illumination_error: standard deviation, at each of four resolutions, of the smooth error of
            log illumination, since one that is predicted has errors, too; its mean has none.
        predicted: share whose illumination is what the network predicts from the whole dark
            picture, scaled to the true mean, in place of the true one with errors.
        jitter: standard deviation of the noise of the pictures whose likelihood is asked for, in
            levels of 8 bits. Without noise the likelihood of clipped areas has no bound.
    """

    permuted: float = 0.0
    gammas: float = 0.0
    gains: float = 0.0
    illumination_error: float = 0.0
    predicted: float = 0.0
    jitter: float = 0.0

    def order(self, rng: np.random.Generator) -> list[int]:
        """Of the channels."""
        is_changed = rng.random() < self.permuted
        return rng.permutation(3).tolist() if is_changed else [0, 1, 2]

    def dark(self, dark: Tensor, rng: np.random.Generator) -> Tensor:
        """The dark sample in [0, 1], perhaps with another gamma, in steps of 8 bits that noise of
        half a step hides."""
        if rng.random() >= self.gammas or dark.mean() >= DARK:
            return dark
        changed = dark ** float(rng.uniform(*POWERS)) * 255
        noise = torch.from_numpy(rng.uniform(-0.5, 0.5, dark.shape).astype(np.float32))
        return (changed + noise).round().clamp(0, 255) / 255

    def gain(self, rng: np.random.Generator) -> float:
        """Of the values, not of the light."""
        is_changed = rng.random() < self.gains
        return factor_of_stops(rng.uniform(-STOPS, STOPS)) if is_changed else 1.0

    def mistaken(self, coarse: Tensor, rng: np.random.Generator) -> Tensor:
        """A coarse luminance (1, h, w) with smooth errors and the same mean."""
        if not self.illumination_error:
            return coarse
        logs = coarse.clamp(min=DIMMEST).log()
        wide = coarse.shape[2] >= coarse.shape[1]
        for grid in GRIDS:
            # Errors differ from picture to picture: a few are large, most are small.
            size = self.illumination_error * abs(rng.standard_normal()) * 1.25
            rows, columns = grid if wide else grid[::-1]
            error = rng.standard_normal((1, 1, rows, columns), dtype=np.float32) * np.float32(size)
            logs = logs + interpolate(torch.from_numpy(error), logs.shape[1:], mode="bilinear")[0]
        wrong = logs.exp()
        return wrong * (coarse.clamp(min=DIMMEST).mean() / wrong.mean())

    def is_predicted(self, rng: np.random.Generator) -> Tensor:
        """Whether a sample's illumination is to be the predicted one, ()."""
        return torch.tensor(bool(self.predicted) and rng.random() < self.predicted)

    def noisy(self, bright: Tensor, rng: np.random.Generator) -> Tensor:
        """The bright sample with noise."""
        if not self.jitter:
            return bright
        noise = rng.standard_normal(tuple(bright.shape), dtype=np.float32)
        return bright + self.jitter / 255 * torch.from_numpy(noise)


AS_THEY_ARE = Variety()
