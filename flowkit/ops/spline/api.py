"""Rational-quadratic spline of every element, from the raw numbers that a net gives for it."""

from __future__ import annotations

from torch import Tensor

from flowkit.choice import Choice, Impl, choose
from flowkit.contract import require_channels, require_floating, wide
from flowkit.ops.spline import reference, schema
from flowkit.ops.spline.knots import Knots


def rational_quadratic(
    x: Tensor, params: Tensor, knots: Knots, *, impl: Impl | None = None
) -> tuple[Tensor, Tensor]:
    """y = f(x), by a monotone spline f of K rational-quadratic bins for each element.

    In a bin of width w, height h, slope s = h/w and end slopes d₀, d₁, with ξ = (x - x₀)/w:

        y = y₀ + h·(s·ξ² + d₀·ξ(1-ξ)) / (s + (d₀ + d₁ - 2s)·ξ(1-ξ))
        dy/dx = s²·(d₁·ξ² + 2s·ξ(1-ξ) + d₀·(1-ξ)²) / (s + (d₀ + d₁ - 2s)·ξ(1-ξ))²

    Args:
        x: (B, n, *S).
        params: (B, knots.count, n, *S): K raw widths, K raw heights, raw slopes. bf16 and fp16 are
            read as float32.
        knots: the interval, and what is beyond it.
        impl: "auto", "reference" or "triton"; None: see `flowkit.ops.implementation`. The kernel
            reads widths and heights once and of the slopes the two that matter, and remembers x
            and params for the backward pass, which can't be differentiated again.

    Returns:
        y and log dy/dx, (B, n, *S), in float32, or float64 for float64 x.

    Raises:
        TypeError, ValueError: the tensors aren't as above, or Triton can't take them.

    Durkan et al., Neural spline flows, 2019, arXiv:1906.04032, §3.1, eq. 4-8, and appendix A;
    circles: Rezende et al., Normalizing flows on tori and spheres, 2020, arXiv:2002.02428, §2.1.
    """
    return _run(x, params, knots, impl, inverse=False)


def rational_quadratic_inverse(
    y: Tensor, params: Tensor, knots: Knots, *, impl: Impl | None = None
) -> tuple[Tensor, Tensor]:
    """The inverse of `rational_quadratic`, in closed form: x and log dx/dy."""
    return _run(y, params, knots, impl, inverse=True)


def rational_quadratic_choice(
    x: Tensor, params: Tensor, knots: Knots, *, impl: Impl | None = None
) -> Choice:
    """The implementation that `rational_quadratic` and its inverse would run, and why."""

    def obstacle() -> str | None:
        from flowkit.ops.spline import triton

        return triton.unsupported(x, params, knots)

    return choose("rational_quadratic", impl, x, obstacle)


def _run(
    x: Tensor, params: Tensor, knots: Knots, impl: Impl | None, *, inverse: bool
) -> tuple[Tensor, Tensor]:
    require_channels("rational_quadratic", x)
    require_floating("rational_quadratic (params)", params)
    batch, *sizes = x.shape
    expected = (batch, knots.count, *sizes)
    if params.shape != expected:
        raise ValueError(
            f"rational_quadratic: expected params of shape {expected}, got {tuple(params.shape)}"
        )
    x = wide(x)
    if rational_quadratic_choice(x, params, knots, impl=impl).name == "triton":
        return schema.rational_quadratic(x, params, inverse, knots)
    run = reference.rational_quadratic_inverse if inverse else reference.rational_quadratic
    return run(x, params.to(x.dtype), knots)
