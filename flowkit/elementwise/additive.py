"""Additive: y = x + t."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Additive:
    """y = x + t,  log dy/dx = 0. Takes one number for each element.

    Dinh et al., NICE, 2015, arXiv:1410.8516, §3.2.
    """

    count = 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return x + params[:, 0], torch.zeros_like(x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return y - params[:, 0], torch.zeros_like(y)
