"""Affine coupling from the whole input and the whole output of the conditioner net."""

from __future__ import annotations

from torch import Tensor

from flowkit.bijection import logdet_dtype, require_image
from flowkit.ops.affine_coupling import eager, reference
from flowkit.ops.affine_coupling.scale import ExpScale, Scale, SigmoidScale
from flowkit.ops.implementation import Choice, choose

__all__ = [
    "ExpScale",
    "Scale",
    "SigmoidScale",
    "affine_coupling",
    "affine_coupling_choice",
    "affine_coupling_inverse",
]


def affine_coupling(
    x: Tensor, params: Tensor, scale_map: Scale = SigmoidScale(), *, impl: str | None = None
) -> tuple[Tensor, Tensor]:
    """Keep the first channels of x, shift and scale the last n: y = [x₁, (x₂ + t)·s].

    Args:
        x: (B, C, H, W).
        params: (B, 2n, H, W) with 1 <= n <= C: the shift t, then the raw scale. n = C keeps nothing
            (an injector). bf16 and fp16 are read as float32.
        scale_map: raw -> (s, log s).
        impl: "auto", "reference", "eager" or "triton"; None: see `flowkit.ops.implementation`. The
            kernel reads x and params once, writes y once, and remembers y and params for the
            backward pass, which can't be differentiated again.

    Returns:
        y (B, C, H, W) and Σ log s (B,), both float32, or float64 for float64 x.

    Raises:
        TypeError, ValueError: the tensors aren't as above, or Triton can't take them.

    Dinh et al., Density estimation using Real NVP, 2017, arXiv:1605.08803, eq. 7, but shift first
    and then scale, which is how Glow and its successors are implemented.
    """
    return _run(x, params, scale_map, impl, inverse=False)


def affine_coupling_inverse(
    y: Tensor, params: Tensor, scale_map: Scale = SigmoidScale(), *, impl: str | None = None
) -> tuple[Tensor, Tensor]:
    """The inverse of `affine_coupling`: x = [y₁, y₂ / s - t] and -Σ log s (B,)."""
    return _run(y, params, scale_map, impl, inverse=True)


def affine_coupling_choice(
    x: Tensor, params: Tensor, scale_map: Scale = SigmoidScale(), *, impl: str | None = None
) -> Choice:
    """The implementation that `affine_coupling` and its inverse would run, and why."""

    def obstacle() -> str | None:
        from flowkit.ops.affine_coupling import triton

        return triton.unsupported(x, params, scale_map)

    return choose("affine_coupling", impl, x, obstacle, eager=eager.unsupported)


def _run(
    x: Tensor, params: Tensor, scale_map: Scale, impl: str | None, *, inverse: bool
) -> tuple[Tensor, Tensor]:
    require_image("affine_coupling", x)
    require_image("affine_coupling (params)", params)
    batch, channels, height, width = x.shape
    fits = params.shape[0] == batch and params.shape[2:] == x.shape[2:]
    if not fits or params.shape[1] % 2 or not 2 <= params.shape[1] <= 2 * channels:
        raise ValueError(
            f"affine_coupling: expected params of shape ({batch}, 2n, {height}, {width}) with "
            f"1 <= n <= {channels}, got {tuple(params.shape)}"
        )
    x = x.to(logdet_dtype(x))
    chosen = affine_coupling_choice(x, params, scale_map, impl=impl).name
    if chosen == "triton":
        from flowkit.ops.affine_coupling import triton

        return triton.affine_coupling(x, params, scale_map, inverse=inverse)
    if chosen == "eager":
        return eager.affine_coupling(x, params.to(x.dtype), scale_map, inverse=inverse)
    run = reference.affine_coupling_inverse if inverse else reference.affine_coupling
    return run(x, params.to(x.dtype), scale_map)
