"""What layers without parameters that act on each number alone share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from flowkit.contract import Bijection, Cond, require_channels, sum_logdet, wide


class Fixed(Bijection, ABC):
    """y = f(x) of each number, f increasing and without parameters;  log|det| = Σ log dy/dx.

    A subclass says f, its inverse, its log-slope, and between which numbers x and y lie.

    Raises (on use):
        ValueError: a number isn't between those. A graph captured by torch.compile or torch.export,
            and a function that torch.func transforms, can't raise for the numbers in it; there such
            a number becomes NaN or infinite.
    """

    conditional = False
    domain: tuple[float, float] = (-math.inf, math.inf)
    codomain: tuple[float, float] = (-math.inf, math.inf)
    advice: str = "scale the data first?"
    """What to do about numbers outside, the end of the error that they raise."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """y for x (B, C, *S)."""

    @abstractmethod
    def value_back(self, y: Tensor) -> Tensor:
        """x for y (B, C, *S)."""

    @abstractmethod
    def log_slope(self, x: Tensor, y: Tensor) -> Tensor:
        """log dy/dx (B, C, *S), from whichever of x and y = f(x) tells it more exactly."""

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        x = wide(x)
        self._require_between(type(self).__name__, x, self.domain)
        y = self.value(x)
        return y, sum_logdet(self.log_slope(x, y))

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y)
        y = wide(y)
        self._require_between(f"{type(self).__name__}.inverse", y, self.codomain)
        x = self.value_back(y)
        return x, -sum_logdet(self.log_slope(x, y))

    def _require_between(self, who: str, value: Tensor, ends: tuple[float, float]) -> None:
        """Raise unless all numbers are strictly between the ends; NaN passes, and stays NaN."""
        low, high = ends
        if ends == (-math.inf, math.inf) or torch.compiler.is_compiling():
            return
        if torch._C._are_functorch_transforms_active():
            return
        outside = (value <= low) | (value >= high)
        if outside.any():
            raise ValueError(
                f"{who}: expected numbers strictly between {low:g} and {high:g}, got "
                f"{value[outside][0].item():g} ({self.advice})"
            )
