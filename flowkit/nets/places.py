"""One layer for any number of axes: linear on vectors, a convolution that keeps the places else."""

from __future__ import annotations

from torch import nn

from flowkit.nets.conv import CONV


def layer(axes: int, c_in: int, c_out: int, *, bias: bool = True) -> nn.Module:
    """(B, c_in, *S) -> (B, c_out, *S) for `axes` axes in S: linear, or a convolution of width 3."""
    if axes == 0:
        return nn.Linear(c_in, c_out, bias=bias)
    return CONV[axes](c_in, c_out, 3, padding=1, bias=bias)


def require_axes(who: object, axes: int) -> None:
    """Raise unless there are layers for so many axes.

    Raises:
        ValueError: there are none.
    """
    if axes != 0 and axes not in CONV:
        raise ValueError(
            f"{type(who).__name__}: expected axes among 0 (vectors), 1, 2, 3, got {axes}"
        )
