"""Straight on: what a map of an interval may be beyond it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

End = tuple[Tensor | float, Tensor]
"""Value and logarithm of the slope, (B, n, *S), at an end of an interval."""


def straight_on(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    low: float,
    high: float,
    first: End,
    last: End,
) -> tuple[Tensor, Tensor]:
    """A map of [low, high], x -> (y, log dy/dx), beyond it along the tangents at its ends, `first`
    and `last`.

    (Rounding may lead the map itself far off there, where it bends sharply.)
    """
    y, log_slope = function(x.clamp(low, high))
    for beyond, end, (value, log) in ((x < low, low, first), (x > high, high, last)):
        y = torch.where(beyond, value + (x - end) * log.exp(), y)
        log_slope = torch.where(beyond, log, log_slope)
    return y, log_slope
