"""1x1 convolution of the latent path, outside of autocast."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.bijection import logdet_dtype, require_image
from flowkit.ops.conv1x1 import reference

__all__ = ["conv1x1"]


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[b, :, i, j] = W·x[b, :, i, j] + bias, in float32, or float64 for float64 x.

    Args:
        x: (B, C, H, W).
        weight: (C, C).
        bias: (C,) or None.

    Raises:
        TypeError, ValueError: the tensors aren't as above.

    Autocast is off inside: rounding W to bf16 would break the inverse (the latent path of a flow
    stays in full precision; only its nets may leave it). On CUDA, leave
    `torch.get_float32_matmul_precision()` at its default "highest" for the same reason.
    """
    require_image("conv1x1", x, weight.shape[1] if weight.dim() == 2 else None)
    channels = x.shape[1]
    if weight.shape != (channels, channels) or (bias is not None and bias.shape != (channels,)):
        came = tuple(weight.shape), None if bias is None else tuple(bias.shape)
        raise ValueError(
            f"conv1x1: expected weight ({channels}, {channels}) and bias ({channels},) or None, "
            f"got {came[0]} and {came[1]}"
        )
    dtype = logdet_dtype(x)
    x, weight = x.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    if torch.amp.is_autocast_available(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return reference.conv1x1(x, weight, bias)
    return reference.conv1x1(x, weight, bias)
