"""How bright a picture is, coarsely: what an illumination branch is asked for."""

from __future__ import annotations

from torch import Tensor

from llflow.picture.preprocess import averaged

COARSE = (16, 24)  # rows and columns of a picture that is wider than high


def coarse_luminance(bright: Tensor) -> Tensor:
    """(..., 3, H, W) -> (..., 1, 16, 24), or (24, 16) of pictures higher than wide: the mean over
    RGB and over areas, in the picture's own values."""
    short, long = COARSE
    size = (short, long) if bright.shape[-1] >= bright.shape[-2] else (long, short)
    return averaged(bright.mean(-3, keepdim=True), size)


def lying(map: Tensor) -> Tensor:
    """(..., h, w) with h <= w: an upright map with rows and columns exchanged."""
    return map if map.shape[-1] >= map.shape[-2] else map.mT
