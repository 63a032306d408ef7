"""Convolution exponential: a convolution that is invertible because it is an exponential."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    positions,
    require_at_least,
    require_channels,
    require_real,
    require_shape,
    same_logdet,
    wide,
    wide_dtype,
)
from flowkit.nets.spectral import largest_stretch
from flowkit.nets.zero import CONVOLUTION


class ConvExponential(Bijection):
    """y = exp(M)·x = Σₖ Mᵏ·x/k!,  x = exp(-M)·y,  log|det| = tr M = |S|·Σ_c w[c, c, centre], with
    the convolution M·x = w∗x, zero-padded; a matrix on vectors.

    w = raw/(1 + ‖raw‖/bound) stretches by less than `bound`, ‖·‖ from `largest_stretch`, so that n
    terms leave an error of less than bound^(n+1)/(n+1)!·exp(bound)·‖x‖. As many are summed as make
    that less than the precision of x: at a bound of 1 these are 10 in float32 and 18 in float64,
    each a convolution. It starts as the identity.

    Args:
        channels: C of the input (B, C, *S).
        width: of the convolution, odd.
        axes: of S: 2 for images (B, C, H, W), 1 for sequences, 3 for volumes, 0 for vectors.
        bound: of the stretch of M, positive; y is within exp(±bound) times as long as x.

    Raises:
        ValueError: the arguments aren't as above; or, on use, the input's shape.

    Hoogeboom et al., The convolution exponential and generalized Sylvester flows, 2020,
    arXiv:2006.01910, §3.
    """

    conditional = False

    def __init__(self, channels: int, *, width: int = 3, axes: int = 2, bound: float = 1.0) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "width", width, 1)
        require_real(self, bound=bound)
        if axes not in CONVOLUTION or width % 2 == 0 or not 0 < bound < math.inf:
            raise ValueError(
                "ConvExponential: expected an odd width, axes among 0, 1, 2, 3 and a bound > 0, "
                f"got {width}, {axes} and {bound}"
            )
        self.channels, self.width, self.axes, self.bound = channels, width, axes, bound
        self.raw = nn.Parameter(torch.zeros(channels, channels, *[width] * axes))

    def weight(self) -> Tensor:
        """w (C, C, *width), which stretches by less than `bound`."""
        return wide(self.raw) / (1 + largest_stretch(self.raw) / self.bound)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, x, self.channels, axes=self.axes)
        weight = self.weight().to(wide_dtype(x))
        return self._exponential(weight, wide(x)), self._logdet(weight, x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_channels(self, y, self.channels, axes=self.axes)
        weight = self.weight().to(wide_dtype(y))
        return self._exponential(-weight, wide(y)), -self._logdet(weight, y)

    def _exponential(self, weight: Tensor, x: Tensor) -> Tensor:
        padding = {"padding": self.width // 2} if self.axes else {}
        total = term = x
        # A convolution in bf16 would be no inverse of the other one.
        with torch.autocast(x.device.type, enabled=False):
            for k in range(1, 1 + _terms(self.bound, torch.finfo(x.dtype).eps)):
                term = CONVOLUTION[self.axes](term, weight, **padding) / k
                total = total + term
        return total

    def _logdet(self, weight: Tensor, x: Tensor) -> Tensor:
        taps = weight.flatten(2) if self.axes else weight[..., None]
        centre = taps[..., taps.shape[-1] // 2]
        return same_logdet(x, positions(x) * centre.diagonal().sum())

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels, axes=self.axes)

    def extra_repr(self) -> str:
        return f"{self.channels}, width={self.width}, axes={self.axes}, bound={self.bound}"

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls(2), (2, 3, 4), name="images"),
            Example(lambda: cls(2, axes=1, bound=2.0), (2, 5), name="sequences"),
            Example(lambda: cls(3, axes=0), (3,), name="vectors"),
        ]


def _terms(bound: float, precision: float) -> int:
    """The least n with bound^(n+1)/(n+1)!·exp(bound) < precision."""
    n, rest = 0, bound * math.exp(bound)
    while rest >= precision:
        n += 1
        rest *= bound / (n + 1)
    return n
