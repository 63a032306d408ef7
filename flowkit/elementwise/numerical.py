"""The inverse of an increasing map that has none in closed form, or none that rounding spares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], tuple[Tensor, Tensor]]


def solve(
    function: Map, y: Tensor, low: Tensor, high: Tensor, *, steps: int = 60
) -> tuple[Tensor, Tensor]:
    """x with f(x) = y between low and high, and log dx/dy.

    Bisection, then `refined`, which carries the gradients.

    Args:
        function: f, increasing: x -> (f(x), log df/dx), elementwise.
        y: where to solve; low and high, of its shape, bracket the solution.
        steps: halvings of the bracket; float64 has 53 bits.
    """
    with torch.no_grad():
        for _ in range(steps):
            middle = (low + high) / 2
            below = function(middle)[0] < y
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        x = (low + high) / 2
    return refined(function, y, x)


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
