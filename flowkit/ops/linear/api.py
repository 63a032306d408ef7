"""A linear map of the channels on the latent path, outside of autocast."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.choice import Choice, Impl, choose
from flowkit.contract import require_channels, wide
from flowkit.ops.linear import reference, schema

MEMORY_BOUND = 64
"""Up to this many channels the kernel waits for memory, above it for arithmetic, which is the
strength of cuBLAS: C/4 multiply-adds per byte, and an H100 does some 8 per byte it moves."""


def linear_map(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, impl: Impl | None = None
) -> Tensor:
    """y[b, :, s] = W·x[b, :, s] + bias at every place s, in float32, or float64 for float64 x.

    Args:
        x: (B, C, *S).
        weight: (C, C).
        bias: (C,) or None.
        impl: "auto", "reference" or "triton"; None: see `flowkit.ops.implementation`.

    Raises:
        TypeError, ValueError: the tensors aren't as above, or Triton can't take them, or the
            reference would have to compute in TF32.

    Autocast is off inside: rounding W to bf16 would break the inverse (the latent path of a flow
    stays in full precision; only its nets may leave it). TF32 would as well, so the kernel makes up
    for its rounding, and where `torch.set_float32_matmul_precision` allows TF32 to PyTorch, "auto"
    takes the kernel for any number of channels.
    """
    require_channels("linear_map", x)
    channels = x.shape[1]
    if weight.shape != (channels, channels) or (bias is not None and bias.shape != (channels,)):
        came = tuple(weight.shape), None if bias is None else tuple(bias.shape)
        raise ValueError(
            f"linear_map: expected weight ({channels}, {channels}) and bias ({channels},) or None, "
            f"got {came[0]} and {came[1]}"
        )
    x = wide(x)
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if linear_map_choice(x, weight, bias, impl=impl).name == "triton":
        return schema.linear_map(x, weight, bias)
    if _tf32(x):
        raise ValueError(
            "linear_map: expected float32 products in full precision for the reference on CUDA, "
            "got TF32 allowed, which is too coarse for an inverse "
            "(torch.set_float32_matmul_precision('highest') forbids it)"
        )
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return reference.linear_map(x, weight, bias)
    return reference.linear_map(x, weight, bias)


def linear_map_choice(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, impl: Impl | None = None
) -> Choice:
    """The implementation that `linear_map` would run, and why."""

    def obstacle() -> str | None:
        from flowkit.ops.linear import triton

        return triton.unsupported(x, weight, bias)

    def better() -> str | None:
        if _tf32(x):
            return None
        if x.dim() == 2:
            return "vectors are one matrix product, which is left to cuBLAS"
        if x.shape[1] > MEMORY_BOUND:
            return f"more than {MEMORY_BOUND} channels are left to cuBLAS"
        return None

    return choose("linear_map", impl, x, obstacle, better)


def _tf32(x: Tensor) -> bool:
    """Whether PyTorch would multiply in TF32."""
    if not x.is_cuda or x.dtype != torch.float32:
        return False
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # somebody has set it by the newer name
        return torch.backends.cuda.matmul.fp32_precision != "ieee"
