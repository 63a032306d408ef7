"""How much a linear map or a convolution can stretch."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import wide


def largest_stretch(weight: Tensor) -> Tensor:
    """An upper bound () of ‖w∗x‖/‖x‖ for a zero-padded convolution w (c_out, c_in, *width): the sum
    over its taps of their matrices' largest singular values. For a matrix (c_out, c_in) that is the
    largest stretch itself.

    Exact values, unlike those of a power iteration: the same for every call, and never too small.
    """
    taps = wide(weight).flatten(2) if weight.dim() > 2 else wide(weight)[..., None]
    return torch.linalg.matrix_norm(taps.movedim(-1, 0), ord=2).sum()
