"""The linear map as PyTorch knows it: one opaque op, its shapes and its gradients.

Registered when `flowkit.ops` is imported, so that what was compiled or saved finds it; Triton is
imported by the first call that runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("flowkit", "FRAGMENT")
_library.define("linear_map(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_library.define("linear_map_weight_gradient(Tensor grad, Tensor x) -> (Tensor, Tensor)")


def linear_map(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`flowkit.ops.linear_map` by its kernel."""
    return torch.ops.flowkit.linear_map(x, weight, bias)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    from flowkit.ops.linear import triton

    return triton.multiply(x, weight, bias)


def _weight_gradient(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    from flowkit.ops.linear import triton

    return triton.weight_gradient(grad, x)


_library.impl("linear_map", _multiply, "CompositeExplicitAutograd")
_library.impl("linear_map_weight_gradient", _weight_gradient, "CompositeExplicitAutograd")


@torch.library.register_fake("flowkit::linear_map", lib=_library)
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake("flowkit::linear_map_weight_gradient", lib=_library)
def _(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    channels = x.shape[1]
    return x.new_empty(channels, channels), x.new_empty(channels)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x = grad_weight = grad_bias = None
    if ctx.needs_input_grad[0]:
        grad_x = torch.ops.flowkit.linear_map(grad, weight.t(), None)
    if any(ctx.needs_input_grad[1:]):
        grad_weight, grad_bias = torch.ops.flowkit.linear_map_weight_gradient(grad, x)
    return grad_x, grad_weight, grad_bias if ctx.bias else None


def _remember_both(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _weight_gradient_backward(ctx: Any, by_weight: Tensor, by_bias: Tensor) -> tuple[Tensor, ...]:
    # The weight's gradient is Σ grad·xᵀ over samples and places, the bias's Σ grad.
    grad, x = ctx.saved_tensors
    by_grad = torch.ops.flowkit.linear_map(x, by_weight, by_bias)
    return by_grad, torch.ops.flowkit.linear_map(grad, by_weight.t(), None)


torch.library.register_autograd(
    "flowkit::linear_map", _backward, setup_context=_remember, lib=_library
)
torch.library.register_autograd(
    "flowkit::linear_map_weight_gradient",
    _weight_gradient_backward,
    setup_context=_remember_both,
    lib=_library,
)
