"""Where one scene ends and another begins."""

from __future__ import annotations

import torch
from torch import Tensor

from llflow.picture.light import GAMMA
from llflow.picture.preprocess import averaged

AREAS = (12, 18)  # rows and columns
STOPS = 1.0  # by which areas differ on average across a cut
DARKEST = 2 / 255  # added: below, a change of light isn't told from noise


def coarse(frame: Tensor) -> Tensor:
    """(3, H, W) -> (3, 12, 18): the frame averaged over areas, in stops of light."""
    return GAMMA * (averaged(frame, AREAS) + DARKEST).log2()


def is_cut(before: Tensor, now: Tensor) -> bool:
    """Whether areas of two frames after each other, `coarse` of them, are a stop apart on average:

        d = Σ |now - before| / (3·12·18) > 1

    What is in the frame and where decides, not the histogram alone: two scenes may have the same,
    but not the same illumination in the same places. Averages over areas have little noise, so that
    the threshold holds in the dark, too. Light that is switched on counts as a cut.
    """
    return torch.mean((now - before).abs()).item() > STOPS
