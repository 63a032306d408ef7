"""Arithmetic in linear light, of pictures whose values are its 2.2th root."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llflow.picture.rows import Rows, Whole, each

GAMMA = 2.2


def factor_of_stops(stops: float) -> float:
    """What values are multiplied by for 2^stops times the light: 2^(stops / 2.2)."""
    return 2.0 ** (stops / GAMMA)


def blend(image: Tensor, other: Tensor, share: float) -> Tensor:
    """((1 - share)·image^2.2 + share·other^2.2)^(1/2.2) of pictures in [0, 1]; exactly `image` for
    share 0, and `other` for 1."""
    if share in (0, 1):
        return (other if share else image).clone()
    return ((1 - share) * image**GAMMA + share * other**GAMMA) ** (1 / GAMMA)


def keep_lights(image: Tensor, result: Tensor) -> Tensor:
    """`result` (3, H, W), but `image` where that has more light: a lamp isn't dimmed, nor is its
    color lost. From a fifth less light on it is `image` alone, before that a blend of both.
    """
    before, after = ((p.clamp(0, 1) ** GAMMA).mean(0) for p in (image, result))
    share = ((before - after) / (0.2 * before).clamp(min=1e-6)).clamp(0, 1)
    mixed = ((1 - share) * result.clamp(0, 1) ** GAMMA + share * image**GAMMA) ** (1 / GAMMA)
    return torch.where(share > 0, mixed, result)


def factor_for_mean(image: Tensor | Rows, mean: float) -> float:
    """f > 0 such that clamp(f·image, 0, 1) has this mean, in (0, 1), found by bisection.

    Raises:
        ValueError: the picture is too black to have it, whatever the factor is.
    """
    picture = Whole(image) if isinstance(image, Tensor) else image
    _, height, _ = picture.shape

    def mean_of(what: Callable[[Tensor], Tensor]) -> float:
        means = ((what(strip).mean().item(), strip.shape[1]) for _, strip in each(picture))
        return math.fsum(part * (length / height) for part, length in means)

    reachable = mean_of(lambda strip: (strip > 0).float())
    if reachable <= mean:
        raise ValueError(
            f"expected an exposure below {reachable:.3g}, the share of this picture that isn't "
            f"black, got {mean:g}"
        )

    def reached(factor: float) -> float:
        return mean_of(lambda strip: (factor * strip).clamp(0, 1))

    low, high = 0.0, 1.0
    while reached(high) < mean:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        if reached(middle) < mean:
            low = middle
        else:
            high = middle
    return high
