"""The affine coupling in few passes over memory, by PyTorch's own functions, for any device.

What is remembered is the noise side y and the scale s, from which the gradient follows in closed
form, with g and h the gradients of the two outputs:

    forward:  ∂L/∂x₂ = ∂L/∂t = g·s,             ∂L/∂raw =  (g·y₂ + h)·∂ log s/∂raw
    inverse:  ∂L/∂y₂ = g/s,  ∂L/∂t = -g,        ∂L/∂raw = -(g·y₂/s + h)·∂ log s/∂raw
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from flowkit.ops.affine_coupling import reference
from flowkit.ops.affine_coupling.scale import Scale, SigmoidScale

LARGEST = 8  # scales whose product is taken before the logarithm: more save little


def unsupported() -> str | None:
    """Why this wouldn't do, or None."""
    return "a compiler fuses the reference" if torch.compiler.is_compiling() else None


def affine_coupling(
    x: Tensor, params: Tensor, scale_map: Scale, *, inverse: bool
) -> tuple[Tensor, Tensor]:
    # Without gradients and transforms a Function is but overhead, for small images the most of it.
    recorded = torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()
    run = _Coupling.apply if recorded else _Coupling.forward
    result, logdet, _ = run(x, params, scale_map, inverse)
    return result, logdet


class _Coupling(torch.autograd.Function):
    """The scale is an output as well, so that gradients of gradients find their way through it."""

    @staticmethod
    def forward(
        x: Tensor, params: Tensor, scale_map: Scale, inverse: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        shift, raw = params.chunk(2, dim=1)
        kept = x.shape[1] - raw.shape[1]
        scale, logdet = _scale_and_logdet(raw, scale_map)
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        result[:, :kept] = x[:, :kept]
        if inverse:
            torch.div(x[:, kept:], scale, out=result[:, kept:]).sub_(shift)
            logdet.neg_()
        else:
            torch.add(x[:, kept:], shift, out=result[:, kept:]).mul_(scale)
        return result, logdet, scale

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        x, _, ctx.scale_map, ctx.inverse = inputs
        noise = x if ctx.inverse else output[0]
        ctx.save_for_backward(noise, output[2])
        ctx.save_for_forward(noise, output[2])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_logdet: Tensor | None, grad_scale: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        noise, scale = ctx.saved_tensors
        grad = torch.zeros_like(noise) if grad is None else grad
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, noise, scale, grad, grad_logdet, grad_scale)
        kept, changed = noise.shape[1] - scale.shape[1], scale.shape[1]
        outer = grad[:, kept:]
        grad_x = torch.empty_like(noise, memory_format=torch.contiguous_format)
        grad_x[:, :kept] = grad[:, :kept]
        through = torch.div if ctx.inverse else torch.mul
        inner = through(outer, scale, out=grad_x[:, kept:])
        grad_params = scale.new_empty(scale.shape[0], 2 * changed, *scale.shape[2:])
        by_raw = torch.mul(inner if ctx.inverse else outer, noise[:, kept:])
        if grad_logdet is not None:
            by_raw.add_(grad_logdet[:, None, None, None])
        if ctx.inverse:
            torch.neg(outer, out=grad_params[:, :changed])
            by_raw.neg_()
        else:
            grad_params[:, :changed] = inner
        if grad_scale is not None:
            by_raw.addcmul_(grad_scale, scale)
        if isinstance(ctx.scale_map, SigmoidScale):
            by_raw.div_(scale)
            torch.ops.aten.sigmoid_backward.grad_input(
                by_raw, scale - ctx.scale_map.floor, grad_input=grad_params[:, changed:]
            )
        else:
            torch.mul(by_raw, _slope(scale, ctx.scale_map), out=grad_params[:, changed:])
        return grad_x, grad_params, None, None

    @staticmethod
    def jvp(
        ctx: Any, x_tangent: Tensor | None, params_tangent: Tensor | None, *_: None
    ) -> tuple[Tensor, Tensor, Tensor]:
        noise, scale = ctx.saved_tensors
        kept = noise.shape[1] - scale.shape[1]
        x_tangent = torch.zeros_like(noise) if x_tangent is None else x_tangent
        if params_tangent is None:
            params_tangent = torch.cat([scale, scale], dim=1) * 0
        shift, raw = params_tangent.chunk(2, dim=1)
        log_scale = _slope(scale, ctx.scale_map) * raw
        moved = noise[:, kept:] * log_scale
        if ctx.inverse:
            changed = (x_tangent[:, kept:] - moved) / scale - shift
        else:
            changed = (x_tangent[:, kept:] + shift) * scale + moved
        logdet = log_scale.sum(dim=(1, 2, 3))
        result = torch.cat([x_tangent[:, :kept], changed], dim=1)
        return result, -logdet if ctx.inverse else logdet, scale * log_scale

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, x: Tensor, params: Tensor, scale_map: Scale, inverse: bool
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        def run(x: Tensor, params: Tensor) -> tuple[Tensor, ...]:
            direction = reference.affine_coupling_inverse if inverse else reference.affine_coupling
            scale, _ = scale_map(params.chunk(2, dim=1)[1])
            return *direction(x, params, scale_map), scale

        return torch.vmap(run, in_dims[:2])(x, params), (0, 0, 0)


def _differentiable_backward(
    ctx: Any,
    noise: Tensor,
    scale: Tensor,
    grad: Tensor,
    grad_logdet: Tensor | None,
    grad_scale: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """The same without writing into memory, which autograd couldn't follow."""
    kept = noise.shape[1] - scale.shape[1]
    outer = grad[:, kept:]
    inner = outer / scale if ctx.inverse else outer * scale
    by_log_scale = (inner if ctx.inverse else outer) * noise[:, kept:]
    if grad_logdet is not None:
        by_log_scale = by_log_scale + grad_logdet[:, None, None, None]
    if ctx.inverse:
        by_log_scale = -by_log_scale
    if grad_scale is not None:
        by_log_scale = by_log_scale + grad_scale * scale
    by_params = [-outer if ctx.inverse else inner, by_log_scale * _slope(scale, ctx.scale_map)]
    grad_x = torch.cat([grad[:, :kept], inner], dim=1)
    return grad_x, torch.cat(by_params, dim=1), None, None


def _scale_and_logdet(raw: Tensor, scale_map: Scale) -> tuple[Tensor, Tensor]:
    if not isinstance(scale_map, SigmoidScale):
        scale, log_scale = scale_map(raw)
        return scale, log_scale.sum(dim=(1, 2, 3))
    scale = (raw + scale_map.offset).sigmoid_().add_(scale_map.floor)
    # A logarithm costs as much as a dozen products. These stay within 1e±30.
    furthest = max(abs(math.log10(scale_map.floor)), math.log10(1 + scale_map.floor))
    together = min(LARGEST, int(30 / furthest)) if furthest else LARGEST
    changed = scale.shape[1]
    group = max((g for g in range(1, together + 1) if changed % g == 0), default=1)
    products = scale.unflatten(1, (changed // group, group)).prod(2) if group > 1 else scale
    return scale, products.log().sum(dim=(1, 2, 3))


def _slope(scale: Tensor, scale_map: Scale) -> Tensor:
    """d log s / d raw, from s."""
    if isinstance(scale_map, SigmoidScale):
        sigmoid = scale - scale_map.floor
        return sigmoid * (1 - sigmoid) / scale
    tanh = scale.log() / scale_map.bound
    return 1 - tanh * tanh
