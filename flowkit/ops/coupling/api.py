"""Affine coupling from the whole input and the whole output of the conditioner net."""

from __future__ import annotations

from torch import Tensor

from flowkit.choice import Choice, Impl, choose
from flowkit.contract import require_channels, wide
from flowkit.ops.coupling import reference, schema
from flowkit.ops.coupling.scale import ExpScale, Scale, SigmoidScale


def affine_coupling(
    x: Tensor, params: Tensor, scale_map: Scale = ExpScale(), *, impl: Impl | None = None
) -> tuple[Tensor, Tensor]:
    """Keep the first channels of x, shift and scale the last n: y = [x₁, (x₂ + t)·s].

    Args:
        x: (B, C, *S).
        params: (B, 2n, *S) with 1 <= n <= C: the shift t, then the raw scale. n = C keeps nothing
            (an injector). bf16 and fp16 are read as float32.
        scale_map: raw -> (s, log s). The kernel knows `ExpScale` and `SigmoidScale`; any other, a
            subclass too, goes through the definition.
        impl: "auto", "reference" or "triton"; None: see `flowkit.ops.implementation`. The kernel
            reads x and params once, writes y once, and remembers y and params for the
            backward pass, which can't be differentiated again.

    Returns:
        y (B, C, *S) and Σ log s (B,), both float32, or float64 for float64 x.

    Raises:
        TypeError, ValueError: the tensors aren't as above, or Triton can't take them.

    Dinh et al., Density estimation using Real NVP, 2017, arXiv:1605.08803, eq. 7, but shift first
    and then scale, which is how Glow and its successors are implemented.
    """
    return _run(x, params, scale_map, impl, inverse=False)


def affine_coupling_inverse(
    y: Tensor, params: Tensor, scale_map: Scale = ExpScale(), *, impl: Impl | None = None
) -> tuple[Tensor, Tensor]:
    """The inverse of `affine_coupling`: x = [y₁, y₂ / s - t] and -Σ log s (B,)."""
    return _run(y, params, scale_map, impl, inverse=True)


def affine_coupling_choice(
    x: Tensor, params: Tensor, scale_map: Scale = ExpScale(), *, impl: Impl | None = None
) -> Choice:
    """The implementation that `affine_coupling` and its inverse would run, and why."""

    def obstacle() -> str | None:
        from flowkit.ops.coupling import triton

        return triton.unsupported(x, params, scale_map)

    return choose("affine_coupling", impl, x, obstacle)


def _run(
    x: Tensor, params: Tensor, scale_map: Scale, impl: Impl | None, *, inverse: bool
) -> tuple[Tensor, Tensor]:
    require_channels("affine_coupling", x)
    require_channels("affine_coupling (params)", params)
    batch, channels, *places = x.shape
    fits = params.shape[0] == batch and params.shape[2:] == x.shape[2:]
    if not fits or params.shape[1] % 2 or not 2 <= params.shape[1] <= 2 * channels:
        raise ValueError(
            f"affine_coupling: expected params of shape {(batch, '2n', *places)} with "
            f"1 <= n <= {channels}, got {tuple(params.shape)}"
        )
    x = wide(x)
    if affine_coupling_choice(x, params, scale_map, impl=impl).name == "triton":
        return schema.affine_coupling(x, params, inverse, *_numbers(scale_map))
    run = reference.affine_coupling_inverse if inverse else reference.affine_coupling
    return run(x, params.to(x.dtype), scale_map)


def _numbers(scale_map: Scale) -> tuple[bool, float, float]:
    """The op's `exponential`, `first` and `floor`."""
    if isinstance(scale_map, ExpScale):
        return True, scale_map.bound, 0.0
    assert isinstance(scale_map, SigmoidScale)
    return False, scale_map.offset, scale_map.floor
