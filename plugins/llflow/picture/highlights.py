"""Highlights that come back with their drawing instead of as white."""

from __future__ import annotations

import math

import torch
from torch import Tensor

KNEE = 0.8  # values below stay as they are
WHITE = 0.001  # share of the values that may be white


def roll_off(image: Tensor) -> Tensor:
    """`image` (3, H, W), compressed above the knee k = 0.8 so that it hardly clips at 1:

        y = k + (1 - k)·d·(1 + d / D²) / (1 + d),   d = (x - k) / (1 - k),   D = (t - k) / (1 - k)

    with t what a thousandth of the values are above. Slope 1 at the knee, and y(t) = 1; what is
    above t still clips. A picture of t <= 1 stays as it is.

    Reinhard, Stark, Shirley and Ferwerda, "Photographic Tone Reproduction for Digital Images",
    SIGGRAPH 2002, eq. 4, above a knee.
    """
    return rolled_off(image, brightest(image))


def rolled_off(image: Tensor, top: float) -> Tensor:
    """`roll_off` of a part of a picture, given the whole one's t."""
    if top <= 1:
        return image
    distance = (image - KNEE).clamp(min=0) / (1 - KNEE)
    farthest = (top - KNEE) / (1 - KNEE)
    rolled = KNEE + (1 - KNEE) * distance * (1 + distance / farthest**2) / (1 + distance)
    return torch.where(image > KNEE, rolled, image)


def brightest(image: Tensor) -> float:
    """The value that a thousandth of all values are above."""
    return image.flatten().topk(number_above(image.numel())).values[-1].item()


def number_above(values: int) -> int:
    """How many of so many values are as bright as the thousandth that may be white, or brighter."""
    return values + 1 - max(1, math.ceil((1 - WHITE) * values))
