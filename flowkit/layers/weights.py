"""Parametrisations of an invertible matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.contract import wide_dtype


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


class PLU(Weight):
    """W = P·L·(U + diag(sign·exp(log_scale))) with a fixed permutation P and signs, L lower
    triangular with ones, U strictly upper: log|det W| = Σ log_scale, and nothing is factorised.

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, eq. 10-11.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(random_orthogonal(channels))
        self.register_buffer("permutation", permutation.contiguous())
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower = nn.Parameter(lower.tril(-1).contiguous())
        self.upper = nn.Parameter(upper.triu(1).contiguous())
        self.log_scale = nn.Parameter(upper.diagonal().abs().log())

    def matrix(self) -> Tensor:
        lower, upper = self._factors()
        return (self.permutation.double() @ lower @ upper).to(wide_dtype(self.lower))

    def inverse(self) -> Tensor:
        lower, upper = self._factors()
        half = torch.linalg.solve_triangular(
            lower, self.permutation.double().mT, upper=False, unitriangular=True
        )
        return torch.linalg.solve_triangular(upper, half, upper=True)

    def logabsdet(self) -> Tensor:
        return self.log_scale.double().sum()

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower, upper, scale = (t.double() for t in (self.lower, self.upper, self.log_scale))
        identity = torch.eye(len(scale), dtype=torch.float64, device=scale.device)
        return lower.tril(-1) + identity, upper.triu(1) + torch.diag(
            self.sign.double() * scale.exp()
        )


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


def random_orthogonal(channels: int) -> Tensor:
    """A random orthogonal matrix (C, C), in rows that lie one after the other."""
    return torch.linalg.qr(torch.randn(channels, channels))[0].contiguous()
