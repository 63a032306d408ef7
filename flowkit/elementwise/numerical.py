"""The inverse of an increasing map that has none in closed form, or none that rounding spares."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], tuple[Tensor, Tensor]]


def solve(
    function: Map, y: Tensor, low: Tensor, high: Tensor, *, steps: int | None = None
) -> tuple[Tensor, Tensor]:
    """x with f(x) = y between low and high, and log dx/dy.

    Bisection, then `refined`, which carries the gradients.

    Args:
        function: f, increasing: x -> (f(x), log df/dx), elementwise.
        y: where to solve; low and high, of its shape, bracket the solution.
        steps: halvings of the bracket; None: 8 more than y's dtype has digits.
    """
    return refined(function, y, bisected(lambda x: function(x)[0], y, low, high, steps=steps))


@torch.no_grad()
def bisected(
    value: Callable[[Tensor], Tensor],
    y: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    steps: int | None = None,
) -> Tensor:
    """x with f(x) = y between low and high, but for rounding; `value` is f alone, see `solve`."""
    for _ in range(8 - round(math.log2(torch.finfo(y.dtype).eps)) if steps is None else steps):
        middle = (low + high) / 2
        below = value(middle) < y
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def refined(function: Map, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """x with f(x) = y, found from an x that is all but there, and log dx/dy.

    Two Newton steps, which carry gradients to y and to whatever `function` depends on, as the
    implicit function theorem has them, and none to the x they start from. (The error of a Newton
    step is the square of the one before, so the first step is right in the first derivative, the
    second up to the third.)
    """
    x = x.detach()
    for _ in range(2):
        value, log_slope = function(x)
        x = x - (value - y) * (-log_slope).exp()
    return x, -function(x)[1]
