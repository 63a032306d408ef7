"""Full: a matrix is its entries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.layers.weights.weight import Weight, random_orthogonal


class Full(Weight):
    """W is its C² entries. Factorised in float64 at every use."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(random_orthogonal(channels))

    def matrix(self) -> Tensor:
        return self.entries

    def inverse(self) -> Tensor:
        return torch.linalg.inv(self.entries.double())

    def logabsdet(self) -> Tensor:
        return torch.linalg.slogdet(self.entries.double()).logabsdet
