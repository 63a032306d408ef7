"""The 1x1 convolution as one matrix product for each block of pixels, in full float32 accuracy.

Up to 64 channels every pixel is read once and written once. The gradient of the input is the same
kernel with the weight transposed; that of the weight is summed by a fixed number of programs, each
over its own pixels, and then over the programs, so results repeat bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowkit.choice import interpreted

WEIGHT_PROGRAMS = 512  # about four for each multiprocessor of a large GPU


@triton.jit
def _multiply(
    x,
    weight,
    bias,
    y,
    channels,
    pixels,
    BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    PIXELS: tl.constexpr,
):
    sample = tl.program_id(2).to(tl.int64)
    x += sample * channels * pixels
    y += sample * channels * pixels
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    total = tl.zeros((ROWS, PIXELS), dtype=x.dtype.element_ty)
    for start in range(0, CHANNELS, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        factors = tl.load(
            weight + rows[:, None] * channels + depth[None, :],
            mask=(rows[:, None] < channels) & (depth[None, :] < channels),
            other=0.0,
        )
        values = tl.load(
            x + depth[:, None] * pixels + columns[None, :],
            mask=(depth[:, None] < channels) & (columns[None, :] < pixels),
            other=0.0,
        )
        total = tl.dot(
            factors, values, total, input_precision=PRECISION, out_dtype=x.dtype.element_ty
        )
    if BIAS:
        total += tl.load(bias + rows, mask=rows < channels, other=0.0)[:, None]
    tl.store(
        y + rows[:, None] * pixels + columns[None, :],
        total,
        mask=(rows[:, None] < channels) & (columns[None, :] < pixels),
    )


@triton.jit
def _weight_gradient(
    grad,
    x,
    weight_partial,
    bias_partial,
    samples,
    channels,
    pixels,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS, ROWS), dtype=x.dtype.element_ty)
    total_bias = tl.zeros((ROWS,), dtype=x.dtype.element_ty)
    blocks = tl.cdiv(pixels, PIXELS)
    for index in range(tl.program_id(0), samples * blocks, tl.num_programs(0)):
        start = (index // blocks).to(tl.int64) * channels * pixels
        place = (index % blocks) * PIXELS + tl.arange(0, PIXELS)
        outer = tl.load(
            grad + start + rows[:, None] * pixels + place[None, :],
            mask=(rows[:, None] < channels) & (place[None, :] < pixels),
            other=0.0,
        )
        inner = tl.load(
            x + start + columns[:, None] * pixels + place[None, :],
            mask=(columns[:, None] < channels) & (place[None, :] < pixels),
            other=0.0,
        )
        total = tl.dot(
            outer,
            tl.trans(inner),
            total,
            input_precision=PRECISION,
            out_dtype=x.dtype.element_ty,
        )
        total_bias += tl.sum(outer, axis=1)
    program = tl.program_id(0).to(tl.int64)
    tl.store(
        weight_partial + program * channels * channels + rows[:, None] * channels + columns,
        total,
        mask=(rows[:, None] < channels) & (columns[None, :] < channels),
    )
    if tl.program_id(2) == 0:
        tl.store(bias_partial + program * channels + rows, total_bias, mask=rows < channels)


@dataclass(frozen=True)
class Tiles:
    """Sizes of what a program holds at once, all powers of 2, and its warps."""

    rows: int
    depth: int
    pixels: int
    weight_pixels: int
    warps: int


def tiles(channels: int) -> Tiles:
    """Chosen so that ahead-of-time compilation for sm_80 and sm_90 spills no registers."""
    if channels <= 16:
        return Tiles(rows=16, depth=16, pixels=256, weight_pixels=64, warps=4)
    if channels <= 32:
        return Tiles(rows=32, depth=16, pixels=128, weight_pixels=64, warps=4)
    return Tiles(rows=64, depth=16, pixels=128, weight_pixels=32, warps=4)


def precision(x: Tensor) -> str:
    """How tensor cores may multiply: three TF32 products make up for TF32's short mantissa."""
    if x.dtype == torch.float64 or interpreted() or torch.version.hip is not None:
        return "ieee"
    return "tf32x3" if torch.cuda.get_device_capability(x.device)[0] >= 8 else "ieee"


def unsupported(x: Tensor, weight: Tensor, bias: Tensor | None) -> str | None:
    """Why the kernels can't take this, or None."""
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.device != x.device:
            return f"x is on {x.device} and {name} on {tensor.device}"
    if x.dtype == torch.float64 and not interpreted():
        return "x is float64"
    if x.numel() == 0:
        return f"x {tuple(x.shape)} is empty"
    if x.shape[0] > 65535:
        return f"{x.shape[0]} samples are more than a grid's 65535"
    if x[0].numel() >= 2**31:
        return "a sample has 2³¹ elements or more"
    return None


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.flowkit.conv1x1(x, weight, bias)


_library = torch.library.Library("flowkit", "FRAGMENT")
_library.define("conv1x1(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_library.define("conv1x1_weight_gradient(Tensor grad, Tensor x) -> (Tensor, Tensor)")


def _launch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    samples, channels, height, width = x.shape
    size, y = tiles(channels), torch.empty_like(x)
    grid = triton.cdiv(height * width, size.pixels), triton.cdiv(channels, size.rows), samples
    with torch.cuda.device_of(x):
        _multiply[grid](
            x,
            weight,
            weight if bias is None else bias.contiguous(),
            y,
            channels,
            height * width,
            BIAS=bias is not None,
            PRECISION=precision(x),
            CHANNELS=channels,
            ROWS=size.rows,
            DEPTH=size.depth,
            PIXELS=size.pixels,
            num_warps=size.warps,
        )
    return y


def _launch_weight_gradient(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    grad, x = grad.contiguous(), x.contiguous()
    samples, channels, height, width = x.shape
    size = tiles(channels)
    across = triton.cdiv(channels, size.rows)
    blocks = samples * triton.cdiv(height * width, size.weight_pixels)
    programs = min(blocks, max(1, WEIGHT_PROGRAMS // across**2))
    weight_partial = x.new_empty(programs, channels, channels)
    bias_partial = x.new_empty(programs, channels)
    with torch.cuda.device_of(x):
        _weight_gradient[(programs, across, across)](
            grad,
            x,
            weight_partial,
            bias_partial,
            samples,
            channels,
            height * width,
            PRECISION=precision(x),
            ROWS=size.rows,
            PIXELS=size.weight_pixels,
            num_warps=size.warps,
        )
    return weight_partial.sum(0), bias_partial.sum(0)


_library.impl("conv1x1", _launch, "CompositeExplicitAutograd")
_library.impl("conv1x1_weight_gradient", _launch_weight_gradient, "CompositeExplicitAutograd")


@torch.library.register_fake("flowkit::conv1x1", lib=_library)
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake("flowkit::conv1x1_weight_gradient", lib=_library)
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
        grad_x = torch.ops.flowkit.conv1x1(grad, weight.t(), None)
    if any(ctx.needs_input_grad[1:]):
        grad_weight, grad_bias = torch.ops.flowkit.conv1x1_weight_gradient(grad, x)
    return grad_x, grad_weight, grad_bias if ctx.bias else None


def _remember_both(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _weight_gradient_backward(ctx: Any, by_weight: Tensor, by_bias: Tensor) -> tuple[Tensor, ...]:
    # The weight's gradient is Σ grad·xᵀ over the pixels, the bias's Σ grad.
    grad, x = ctx.saved_tensors
    by_grad = torch.ops.flowkit.conv1x1(x, by_weight, by_bias)
    return by_grad, torch.ops.flowkit.conv1x1(grad, by_weight.t(), None)


torch.library.register_autograd(
    "flowkit::conv1x1", _backward, setup_context=_remember, lib=_library
)
torch.library.register_autograd(
    "flowkit::conv1x1_weight_gradient",
    _weight_gradient_backward,
    setup_context=_remember_both,
    lib=_library,
)
