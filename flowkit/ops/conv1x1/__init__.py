"""1x1 convolution of the latent path, outside of autocast."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.bijection import logdet_dtype, require_image
from flowkit.ops.conv1x1 import reference
from flowkit.ops.implementation import Choice, choose

__all__ = ["conv1x1", "conv1x1_choice"]

MEMORY_BOUND = 64
"""Up to this many channels the kernel waits for memory, above it for arithmetic, which is the
strength of cuBLAS: C/4 multiply-adds per byte, and an H100 does some 8 per byte it moves."""


def conv1x1(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, impl: str | None = None
) -> Tensor:
    """y[b, :, i, j] = W·x[b, :, i, j] + bias, in float32, or float64 for float64 x.

    Args:
        x: (B, C, H, W).
        weight: (C, C).
        bias: (C,) or None.
        impl: "auto", "reference" or "triton"; None: see `flowkit.ops.implementation`.

    Raises:
        TypeError, ValueError: the tensors aren't as above, or Triton can't take them, or the
            reference would have to compute in TF32.

    Autocast is off inside: rounding W to bf16 would break the inverse (the latent path of a flow
    stays in full precision; only its nets may leave it). TF32 would as well, so the kernel makes
    up for its rounding, and where `torch.set_float32_matmul_precision` allows it to cuBLAS, "auto"
    takes the kernel for any number of channels.
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
    if conv1x1_choice(x, weight, bias, impl=impl).name == "triton":
        from flowkit.ops.conv1x1 import triton

        return triton.conv1x1(x, weight, bias)
    if _tf32(x):
        raise ValueError(
            "conv1x1: expected float32 matrix products in full precision for the reference on CUDA "
            "(torch.set_float32_matmul_precision('highest')), got TF32 allowed, which is too "
            "coarse for an inverse"
        )
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return reference.conv1x1(x, weight, bias)
    return reference.conv1x1(x, weight, bias)


def conv1x1_choice(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, impl: str | None = None
) -> Choice:
    """The implementation that `conv1x1` would run, and why."""

    def obstacle() -> str | None:
        from flowkit.ops.conv1x1 import triton

        return triton.unsupported(x, weight, bias)

    def better() -> str | None:
        if x.shape[1] <= MEMORY_BOUND or _tf32(x):
            return None
        return f"more than {MEMORY_BOUND} channels are left to cuBLAS"

    return choose("conv1x1", impl, x, obstacle, better)


def _tf32(x: Tensor) -> bool:
    """Whether PyTorch would multiply in TF32."""
    if not x.is_cuda or x.dtype != torch.float32:
        return False
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # somebody has set it by the newer name
        return torch.backends.cuda.matmul.fp32_precision != "ieee"
