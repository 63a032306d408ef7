"""What a parametrisation of an invertible matrix offers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Weight(nn.Module):
    """An invertible matrix W (C, C)."""

    def matrix(self) -> Tensor:
        """W, in float32 or wider where it has to be computed."""
        raise NotImplementedError

    def inverse(self) -> Tensor:
        """W⁻¹, in float64 where it has to be computed."""
        raise NotImplementedError

    def logabsdet(self) -> Tensor:
        """log|det W|, ()."""
        raise NotImplementedError


def random_orthogonal(channels: int) -> Tensor:
    """A random orthogonal matrix (C, C), in rows that lie one after the other."""
    return torch.linalg.qr(torch.randn(channels, channels))[0].contiguous()
