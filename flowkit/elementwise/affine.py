"""Affine: y = (x + t)·s."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from flowkit.ops.coupling.scale import ExpScale, Scale, scale_and_log


@dataclass(frozen=True)
class Affine:
    """y = (x + t)·s,  log dy/dx = log s.

    Args:
        scale: the map from raw numbers to (s, log s), bounded away from 0 and ∞: `ExpScale`,
            `SigmoidScale`, `SoftplusScale`, or any function of that kind.

    Takes two numbers for each element, t and the raw scale. Dinh et al., Density estimation using
    Real NVP, 2017, arXiv:1605.08803, eq. 7, but shift first and then scale, which is how Glow and
    its successors are implemented.
    """

    scale: Scale = field(default_factory=ExpScale)
    count = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        scale, log_scale = scale_and_log(self.scale, params[:, 1])
        return (x + params[:, 0]) * scale, log_scale

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        scale, log_scale = scale_and_log(self.scale, params[:, 1])
        return y / scale - params[:, 0], -log_scale
