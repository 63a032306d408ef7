"""The affine coupling in one pass over memory, and its backward in another.

Each program takes a block of one sample's channels as they lie in memory: the same number of kept
and of changed elements. What it finds of the log-det is stored by itself and summed afterwards, so
results repeat bit for bit. Both directions remember the noise side y and the net's output.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowkit.choice import interpreted
from flowkit.ops.coupling.scale import ExpScale, Scale, SigmoidScale

WARPS = 4
INTERPRETED_BLOCK = 65536  # the interpreter's cost is per program


@triton.jit
def _scale(raw, EXPONENTIAL: tl.constexpr, FIRST: tl.constexpr, FLOOR: tl.constexpr):
    """s, log s and d log s / d raw, see `scale.py`; no exponential of a positive number but log s.

    FIRST is the sigmoid's offset or the exponential's bound. Constants meet tensors only in
    + - * /, where they take the tensor's precision.
    """
    if EXPONENTIAL:
        decay = tl.exp(-2.0 * tl.abs(raw) / FIRST)
        tanh = (1.0 - decay) / (1.0 + decay)
        tanh = tl.where(raw < 0.0, -tanh, tanh)
        log_scale = tanh * FIRST
        return tl.exp(log_scale), log_scale, 1.0 - tanh * tanh
    moved = raw + FIRST
    decay = tl.exp(-tl.abs(moved))
    larger = 1.0 / (1.0 + decay)
    smaller = decay * larger
    sigmoid = tl.where(moved < 0.0, smaller, larger)
    scale = sigmoid + FLOOR
    return scale, tl.log(scale), smaller * larger / scale


@triton.jit
def _couple(
    x,
    params,
    y,
    partial,
    kept_size,
    changed_size,
    INVERSE: tl.constexpr,
    EXPONENTIAL: tl.constexpr,
    FIRST: tl.constexpr,
    FLOOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sample = tl.program_id(1).to(tl.int64)
    x += sample * (kept_size + changed_size)
    y += sample * (kept_size + changed_size)
    params += sample * 2 * changed_size
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    kept = offsets < kept_size
    tl.store(y + offsets, tl.load(x + offsets, mask=kept), mask=kept)
    changed = offsets < changed_size
    value = tl.load(x + kept_size + offsets, mask=changed, other=0.0)
    shift = tl.load(params + offsets, mask=changed, other=0.0).to(value.dtype)
    raw = tl.load(params + changed_size + offsets, mask=changed, other=0.0).to(value.dtype)
    scale, log_scale, _ = _scale(raw, EXPONENTIAL, FIRST, FLOOR)
    if INVERSE:
        value = value / scale - shift
        log_scale = -log_scale
    else:
        value = (value + shift) * scale
    tl.store(y + kept_size + offsets, value, mask=changed)
    logdet = tl.sum(tl.where(changed, log_scale, 0.0), axis=0)
    tl.store(partial + sample * tl.num_programs(0) + tl.program_id(0), logdet)


@triton.jit
def _couple_backward(
    grad,
    grad_logdet,
    y,
    params,
    grad_x,
    grad_params,
    kept_size,
    changed_size,
    INVERSE: tl.constexpr,
    EXPONENTIAL: tl.constexpr,
    FIRST: tl.constexpr,
    FLOOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sample = tl.program_id(1).to(tl.int64)
    grad += sample * (kept_size + changed_size)
    grad_x += sample * (kept_size + changed_size)
    y += sample * (kept_size + changed_size) + kept_size
    params += sample * 2 * changed_size
    grad_params += sample * 2 * changed_size
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    kept = offsets < kept_size
    tl.store(grad_x + offsets, tl.load(grad + offsets, mask=kept), mask=kept)
    changed = offsets < changed_size
    outer = tl.load(grad + kept_size + offsets, mask=changed, other=0.0)
    noise = tl.load(y + offsets, mask=changed, other=0.0)
    raw = tl.load(params + changed_size + offsets, mask=changed, other=0.0).to(outer.dtype)
    scale, _, slope = _scale(raw, EXPONENTIAL, FIRST, FLOOR)
    # y₂ = (x₂ + t)·s, so ∂y₂/∂log s = y₂; in the inverse ∂x₂/∂log s = -y₂/s.
    inner = outer / scale if INVERSE else outer * scale
    by_log_scale = (inner if INVERSE else outer) * noise + tl.load(grad_logdet + sample)
    tl.store(grad_x + kept_size + offsets, inner, mask=changed)
    tl.store(grad_params + offsets, -outer if INVERSE else inner, mask=changed)
    by_raw = by_log_scale * slope
    tl.store(grad_params + changed_size + offsets, -by_raw if INVERSE else by_raw, mask=changed)


def block(size: int, params: Tensor) -> int:
    """Elements per program: 16-byte loads of `params` for each thread."""
    if interpreted():
        return min(triton.next_power_of_2(size), INTERPRETED_BLOCK)
    return 2048 if params.element_size() == 2 else 1024


def unsupported(x: Tensor, params: Tensor, scale_map: Scale) -> str | None:
    """Why the kernels can't take this, or None."""
    # A subclass may compute anything.
    if type(scale_map) not in (SigmoidScale, ExpScale):
        name = getattr(scale_map, "__name__", type(scale_map).__name__)
        return f"the scale {name} is unknown to the kernel"
    if params.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        return f"params are {params.dtype}"
    if params.device != x.device:
        return f"x is on {x.device} and params on {params.device}"
    if x.numel() == 0:
        return f"x {tuple(x.shape)} is empty"
    if x.shape[0] > 65535:
        return f"{x.shape[0]} samples are more than a grid's 65535"
    if math.prod(params.shape[1:]) >= 2**31 or math.prod(x.shape[1:]) >= 2**31:
        return "a sample has 2³¹ elements or more"
    return None


def couple(x: Tensor, params: Tensor, *scale: Any) -> tuple[Tensor, Tensor]:
    x, params = x.contiguous(), params.contiguous()
    sizes, grid, constants = _shapes(x, params, *scale)
    y, partial = torch.empty_like(x), x.new_empty(grid[1], grid[0])
    with torch.cuda.device_of(x):
        _couple[grid](x, params, y, partial, *sizes, **constants)
    return y, partial.sum(1)


def couple_backward(
    grad: Tensor, grad_logdet: Tensor, y: Tensor, params: Tensor, *scale: Any
) -> tuple[Tensor, Tensor]:
    grad, grad_logdet = grad.contiguous(), grad_logdet.contiguous()
    y, params = y.contiguous(), params.contiguous()
    sizes, grid, constants = _shapes(y, params, *scale)
    grad_x, grad_params = torch.empty_like(y), torch.empty_like(params)
    with torch.cuda.device_of(y):
        _couple_backward[grid](
            grad, grad_logdet, y, params, grad_x, grad_params, *sizes, **constants
        )
    return grad_x, grad_params


def _shapes(
    x: Tensor, params: Tensor, inverse: bool, exponential: bool, first: float, floor: float
) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
    """(elements kept and changed in each sample), the grid, the kernels' constants."""
    changed = math.prod(params.shape[1:]) // 2
    kept = math.prod(x.shape[1:]) - changed
    size = block(max(kept, changed), params)
    constants = {
        "INVERSE": inverse,
        "EXPONENTIAL": exponential,
        "FIRST": first,
        "FLOOR": floor,
        "BLOCK": size,
        "num_warps": WARPS,
    }
    return (kept, changed), (triton.cdiv(max(kept, changed), size), x.shape[0]), constants
