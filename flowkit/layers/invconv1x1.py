"""Invertible 1x1 convolution: a learned mixing of the channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit import factorization
from flowkit.bijection import Bijection, Cond, Example, logdet_dtype, require_image
from flowkit.layers.actnorm import ActNorm
from flowkit.ops import conv1x1


def _logdet(x: Tensor, per_pixel: Tensor) -> Tensor:
    """H·W times that of one pixel, for each sample."""
    return (x.shape[2] * x.shape[3] * per_pixel).to(logdet_dtype(x)).expand(x.shape[0])


class InvConv1x1(Bijection):
    """y[:, i, j] = W·x[:, i, j],  log|det| = H·W·log|det W|.

    W (C, C) starts as a random orthogonal matrix. It is inverted in float64, on the CPU once for
    every value that W takes. For a matrix that training has made singular the log-det of `forward`
    is -∞, and `inverse` raises `torch.linalg.LinAlgError`, or on a GPU, which it never waits for,
    gives NaN; nothing is repaired.

    Args:
        channels: C of the input (B, C, H, W).

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, x, self.channels)
        return conv1x1(x, self.weight), self._logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, y, self.channels)
        return conv1x1(y, factorization.inverse(self.weight)), -self._logdet(y)

    def _logdet(self, x: Tensor) -> Tensor:
        return _logdet(x, factorization.logabsdet(self.weight))

    def fold(self) -> FoldedConv1x1:
        return FoldedConv1x1(self.weight)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(lambda: cls(3), (3, 2, 2))]


class NormalizedConv1x1(Bijection):
    """An ActNorm and the InvConv1x1 after it as one map, which shares their parameters.

        forward: y = W·diag(s)·x + W·diag(s)·b      inverse: x = diag(1/s)·W⁻¹·y - b

    Args:
        actnorm: b, and s = exp(log_scale).
        conv: W.
    """

    def __init__(self, actnorm: ActNorm, conv: InvConv1x1) -> None:
        super().__init__()
        self.actnorm = actnorm
        self.conv = conv

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, x, self.conv.channels)
        dtype = logdet_dtype(x)
        weight = self.conv.weight.to(dtype) * self.actnorm.log_scale.to(dtype).exp()
        bias = (weight * self.actnorm.bias.to(dtype)).sum(1)
        return conv1x1(x, weight, bias), self._logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, y, self.conv.channels)
        weight = factorization.inverse(self.conv.weight)
        weight = weight * (-self.actnorm.log_scale).to(weight.dtype).exp()[:, None]
        return conv1x1(y, weight, -self.actnorm.bias), -self._logdet(y)

    def _logdet(self, x: Tensor) -> Tensor:
        per_pixel = factorization.logabsdet(self.conv.weight)
        return _logdet(x, per_pixel + self.actnorm.log_scale.double().sum())

    def fold(self) -> FoldedConv1x1:
        return FoldedConv1x1(self.conv.weight, self.actnorm)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(lambda: cls(ActNorm(3), InvConv1x1(3)), (3, 2, 2))]


class FoldedConv1x1(Bijection):
    """ActNorm and InvConv1x1 as one frozen map, its inverse worked out in advance.

        forward: y = W·diag(s)·x + W·diag(s)·b      inverse: x = (W·diag(s))⁻¹·y - b

    Args:
        weight: W (C, C).
        actnorm: the ActNorm before it (b, s = exp(log_scale)), if there is one.

    All constants are buffers, kept in float64 and cast to the input's precision on use.
    """

    weight: Tensor
    bias: Tensor
    inverse_weight: Tensor
    inverse_bias: Tensor
    logdet_per_pixel: Tensor

    def __init__(self, weight: Tensor, actnorm: ActNorm | None = None) -> None:
        super().__init__()
        weight = weight.detach().to(torch.float64, copy=True)
        shift = weight.new_zeros(weight.shape[0])
        if actnorm is not None:
            weight = weight * actnorm.log_scale.detach().double().exp()
            shift = actnorm.bias.detach().to(torch.float64, copy=True)
        self.channels = weight.shape[0]
        self.register_buffer("weight", weight)
        self.register_buffer("bias", weight @ shift)
        self.register_buffer("inverse_weight", torch.linalg.inv(weight))
        self.register_buffer("inverse_bias", -shift)
        self.register_buffer("logdet_per_pixel", torch.linalg.slogdet(weight).logabsdet)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, x, self.channels)
        return conv1x1(x, self.weight, self.bias), self._logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, y, self.channels)
        return conv1x1(y, self.inverse_weight, self.inverse_bias), -self._logdet(y)

    def _logdet(self, x: Tensor) -> Tensor:
        return _logdet(x, self.logdet_per_pixel)

    @classmethod
    def examples(cls) -> list[Example]:
        def folded() -> FoldedConv1x1:
            actnorm = ActNorm(3)
            nn.init.normal_(actnorm.bias)
            nn.init.normal_(actnorm.log_scale, std=0.5)
            return cls(torch.linalg.qr(torch.randn(3, 3))[0], actnorm)

        return [Example(folded, (3, 2, 2))]
