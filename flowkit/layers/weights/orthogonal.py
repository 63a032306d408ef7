"""Orthogonal: a matrix as a product of reflections."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.contract import wide_dtype
from flowkit.layers.weights.weight import Weight


class Orthogonal(Weight):
    """W = H₁·…·H_C, Householder reflections H = 1 - 2·vvᵀ/vᵀv: a rotation (or one and a mirror),
    log|det W| = 0, and W⁻¹ is the transpose.

    Tomczak & Welling, Improving variational auto-encoders using Householder flow, 2016,
    arXiv:1611.09630, §3.2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(channels, channels))

    def matrix(self) -> Tensor:
        return self._rotation().to(wide_dtype(self.vectors))

    def inverse(self) -> Tensor:
        return self._rotation().mT

    def logabsdet(self) -> Tensor:
        return self.vectors.new_zeros((), dtype=torch.float64)

    def _rotation(self) -> Tensor:
        # LAPACK's form: v has a one on the diagonal and zeros above.
        vectors = self.vectors.double().tril(-1)
        vectors = vectors + torch.eye(len(vectors), dtype=vectors.dtype, device=vectors.device)
        return torch.linalg.householder_product(vectors, 2 / vectors.square().sum(0))
