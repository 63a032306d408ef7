"""PLU: a matrix as its triangular factors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.contract import wide_dtype
from flowkit.layers.weights.weight import Weight, random_orthogonal


class PLU(Weight):
    """W = P·L·(U + diag(sign·exp(log_scale))) with a fixed permutation P and signs, L lower
    triangular with ones, U strictly upper: log|det W| = Σ log_scale, and nothing is factorised.

    Args:
        channels: C.
        start: (C, C), what W is at first; a random orthogonal matrix if None.

    Raises:
        ValueError: `start` has another shape, or no inverse.

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, eq. 10-11.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, *, start: Tensor | None = None) -> None:
        super().__init__()
        start = random_orthogonal(channels) if start is None else start
        if start.shape != (channels, channels):
            raise ValueError(
                f"PLU: expected start ({channels}, {channels}), got {tuple(start.shape)}"
            )
        permutation, lower, upper = torch.linalg.lu(start)
        if not upper.diagonal().abs().log().isfinite().all():
            raise ValueError(f"PLU: expected start with an inverse, got {start.tolist()}")
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
