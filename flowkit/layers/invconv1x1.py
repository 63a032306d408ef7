"""Invertible 1x1 convolution: a learned mixing of the channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.bijection import Bijection, Cond, Example, logdet_dtype, require_image
from flowkit.layers.actnorm import ActNorm
from flowkit.ops import conv1x1


class InvConv1x1(Bijection):
    """y[:, i, j] = W·x[:, i, j],  log|det| = H·W·log|det W|.

    W (C, C) starts as a random orthogonal matrix. It is inverted in float64. For a matrix that
    training has made singular the log-det of `forward` is -∞, and `inverse` raises
    `torch.linalg.LinAlgError`; nothing is repaired.

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
        inverse = torch.linalg.inv(self.weight.double())
        return conv1x1(y, inverse.to(logdet_dtype(y))), -self._logdet(y)

    def _logdet(self, x: Tensor) -> Tensor:
        per_pixel = torch.linalg.slogdet(self.weight.to(logdet_dtype(x))).logabsdet
        return (x.shape[2] * x.shape[3] * per_pixel).expand(x.shape[0])

    def fold(self) -> FoldedConv1x1:
        return FoldedConv1x1(self.weight)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(lambda: cls(3), (3, 2, 2))]


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
        logdet = x.shape[2] * x.shape[3] * self.logdet_per_pixel
        return logdet.to(logdet_dtype(x)).expand(x.shape[0])

    @classmethod
    def examples(cls) -> list[Example]:
        def folded() -> FoldedConv1x1:
            actnorm = ActNorm(3)
            nn.init.normal_(actnorm.bias)
            nn.init.normal_(actnorm.log_scale, std=0.5)
            return cls(torch.linalg.qr(torch.randn(3, 3))[0], actnorm)

        return [Example(folded, (3, 2, 2))]
