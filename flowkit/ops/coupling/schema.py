"""The affine coupling as PyTorch knows it: one opaque op, its shapes and its gradient.

Registered when `flowkit.ops` is imported, so that what was compiled or saved finds it; Triton is
imported by the first call that runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SCALE = "bool inverse, bool exponential, float first, float floor"

_library = torch.library.Library("flowkit", "FRAGMENT")
_library.define(f"affine_coupling(Tensor x, Tensor params, {SCALE}) -> (Tensor, Tensor)")
_library.define(
    "affine_coupling_backward(Tensor grad, Tensor grad_logdet, Tensor y, Tensor params, "
    f"{SCALE}) -> (Tensor, Tensor)"
)


def affine_coupling(
    x: Tensor, params: Tensor, inverse: bool, exponential: bool, first: float, floor: float
) -> tuple[Tensor, Tensor]:
    """`flowkit.ops.affine_coupling`, or its inverse, by the kernel. It knows two scales: `ExpScale`
    of bound `first`, and `SigmoidScale` of offset `first` and this floor."""
    return torch.ops.flowkit.affine_coupling(x, params, inverse, exponential, first, floor)


def _couple(x: Tensor, params: Tensor, *scale: Any) -> tuple[Tensor, Tensor]:
    from flowkit.ops.coupling import triton

    return triton.couple(x, params, *scale)


def _couple_backward(
    grad: Tensor, grad_logdet: Tensor, y: Tensor, params: Tensor, *scale: Any
) -> tuple[Tensor, Tensor]:
    from flowkit.ops.coupling import triton

    return triton.couple_backward(grad, grad_logdet, y, params, *scale)


_library.impl("affine_coupling", _couple, "CompositeExplicitAutograd")
_library.impl("affine_coupling_backward", _couple_backward, "CompositeExplicitAutograd")


@torch.library.register_fake("flowkit::affine_coupling", lib=_library)
def _(x: Tensor, params: Tensor, *scale: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[0])


@torch.library.register_fake("flowkit::affine_coupling_backward", lib=_library)
def _(
    grad: Tensor, grad_logdet: Tensor, y: Tensor, params: Tensor, *scale: Any
) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), params.new_empty(params.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, params, *ctx.scale = inputs
    inverse = ctx.scale[0]
    ctx.save_for_backward(x if inverse else output[0], params)


def _backward(ctx: Any, grad: Tensor, grad_logdet: Tensor) -> tuple[Tensor | None, ...]:
    found = torch.ops.flowkit.affine_coupling_backward(
        grad, grad_logdet, *ctx.saved_tensors, *ctx.scale
    )
    return *found, None, None, None, None


def _no_second_backward(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "affine_coupling: the kernel's gradient has no gradient of its own; "
        "impl='reference' can be differentiated twice"
    )


torch.library.register_autograd(
    "flowkit::affine_coupling", _backward, setup_context=_remember, lib=_library
)
torch.library.register_autograd(
    "flowkit::affine_coupling_backward", _no_second_backward, lib=_library
)
