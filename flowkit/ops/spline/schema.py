"""The rational-quadratic spline as PyTorch knows it: one opaque op, its shapes and its gradient.

Registered when `flowkit.ops` is imported, so that what was compiled or saved finds it; Triton is
imported by the first call that runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowkit.ops.spline.knots import Knots

KNOTS = "bool inverse, int bins, float low, float high, float least, str ends"

_library = torch.library.Library("flowkit", "FRAGMENT")
_library.define(f"rational_quadratic(Tensor x, Tensor params, {KNOTS}) -> (Tensor, Tensor)")
_library.define(
    "rational_quadratic_backward(Tensor grad, Tensor grad_log, Tensor x, Tensor params, "
    f"{KNOTS}) -> (Tensor, Tensor)"
)


def rational_quadratic(
    x: Tensor, params: Tensor, inverse: bool, knots: Knots
) -> tuple[Tensor, Tensor]:
    """`flowkit.ops.rational_quadratic`, or its inverse, by the kernel."""
    return torch.ops.flowkit.rational_quadratic(
        x, params, inverse, knots.bins, knots.low, knots.high, knots.least, knots.ends
    )


def _transform(x: Tensor, params: Tensor, inverse: bool, *knots: Any) -> tuple[Tensor, Tensor]:
    from flowkit.ops.spline import triton

    return triton.transform(x, params, inverse, Knots(*knots))


def _transform_backward(
    grad: Tensor, grad_log: Tensor, x: Tensor, params: Tensor, inverse: bool, *knots: Any
) -> tuple[Tensor, Tensor]:
    from flowkit.ops.spline import triton

    return triton.transform_backward(grad, grad_log, x, params, inverse, Knots(*knots))


_library.impl("rational_quadratic", _transform, "CompositeExplicitAutograd")
_library.impl("rational_quadratic_backward", _transform_backward, "CompositeExplicitAutograd")


@torch.library.register_fake("flowkit::rational_quadratic", lib=_library)
def _(x: Tensor, params: Tensor, *knots: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@torch.library.register_fake("flowkit::rational_quadratic_backward", lib=_library)
def _(
    grad: Tensor, grad_log: Tensor, x: Tensor, params: Tensor, *knots: Any
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), params.new_empty(params.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, params, *ctx.knots = inputs
    ctx.save_for_backward(x, params)


def _backward(ctx: Any, grad: Tensor, grad_log: Tensor) -> tuple[Tensor | None, ...]:
    found = torch.ops.flowkit.rational_quadratic_backward(
        grad, grad_log, *ctx.saved_tensors, *ctx.knots
    )
    return *found, *[None] * len(ctx.knots)


def _no_second_backward(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "rational_quadratic: the kernel's gradient has no gradient of its own; "
        "impl='reference' can be differentiated twice"
    )


torch.library.register_autograd(
    "flowkit::rational_quadratic", _backward, setup_context=_remember, lib=_library
)
torch.library.register_autograd(
    "flowkit::rational_quadratic_backward", _no_second_backward, lib=_library
)
