"""Maps from a net's raw output to a scale that is bounded away from 0 and ∞."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SigmoidScale:
    """s = sigmoid(raw + offset) + floor, in (floor, 1 + floor).

    Can only shrink (up to the floor): growth is left to the layers between. With offset 2 a net
    that gives zeros starts near the identity, at s = 0.88. Kingma & Dhariwal, Glow, 2018,
    arXiv:1807.03039.
    """

    offset: float = 2.0
    floor: float = 1e-4

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise ValueError(f"SigmoidScale: expected floor > 0, got {self.floor}")

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(s, log s), each of `raw`'s shape."""
        scale = torch.sigmoid(raw + self.offset) + self.floor
        return scale, scale.log()


@dataclass(frozen=True)
class ExpScale:
    """s = exp(bound·tanh(raw / bound)), in (exp(-bound), exp(bound)); exactly 1 at raw = 0.

    The bound is soft clamping as in Ardizzone et al., 2019, arXiv:1907.02392, with tanh.
    """

    bound: float = 2.0

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"ExpScale: expected bound > 0, got {self.bound}")

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(s, log s), each of `raw`'s shape."""
        log_scale = self.bound * torch.tanh(raw / self.bound)
        return log_scale.exp(), log_scale


Scale = SigmoidScale | ExpScale
