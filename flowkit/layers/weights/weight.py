"""What a parametrisation of an invertible matrix offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Weight(nn.Module, ABC):
    """An invertible matrix W (C, C)."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """W, in float32 or wider where it has to be computed."""

    @abstractmethod
    def inverse(self) -> Tensor:
        """W⁻¹, in float64 where it has to be computed."""

    @abstractmethod
    def logabsdet(self) -> Tensor:
        """log|det W|, ()."""


def random_orthogonal(channels: int) -> Tensor:
    """A random orthogonal matrix (C, C), in rows that lie one after the other."""
    return torch.linalg.qr(torch.randn(channels, channels))[0].contiguous()
