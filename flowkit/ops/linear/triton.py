"""The linear map as one matrix product for each block of places, in full float32 accuracy.

Up to 64 channels every place is read once and written once. The gradient of the input is the same
kernel with the weight transposed; that of the weight is summed by a fixed number of programs, each
over its own places, and then over the programs, so results repeat bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowkit.choice import interpreted
from flowkit.contract import positions

WEIGHT_PROGRAMS = 512  # about four for each multiprocessor of a large GPU


@triton.jit
def _multiply(
    x,
    weight,
    bias,
    y,
    channels,
    places,
    BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    PLACES: tl.constexpr,
):
    sample = tl.program_id(2).to(tl.int64)
    x += sample * channels * places
    y += sample * channels * places
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    total = tl.zeros((ROWS, PLACES), dtype=x.dtype.element_ty)
    for start in range(0, CHANNELS, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        factors = tl.load(
            weight + rows[:, None] * channels + depth[None, :],
            mask=(rows[:, None] < channels) & (depth[None, :] < channels),
            other=0.0,
        )
        values = tl.load(
            x + depth[:, None] * places + columns[None, :],
            mask=(depth[:, None] < channels) & (columns[None, :] < places),
            other=0.0,
        )
        total = tl.dot(
            factors, values, total, input_precision=PRECISION, out_dtype=x.dtype.element_ty
        )
    if BIAS:
        total += tl.load(bias + rows, mask=rows < channels, other=0.0)[:, None]
    tl.store(
        y + rows[:, None] * places + columns[None, :],
        total,
        mask=(rows[:, None] < channels) & (columns[None, :] < places),
    )


@triton.jit
def _weight_gradient(
    grad,
    x,
    weight_partial,
    bias_partial,
    samples,
    channels,
    places,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    PLACES: tl.constexpr,
):
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS, ROWS), dtype=x.dtype.element_ty)
    total_bias = tl.zeros((ROWS,), dtype=x.dtype.element_ty)
    blocks = tl.cdiv(places, PLACES)
    for index in range(tl.program_id(0), samples * blocks, tl.num_programs(0)):
        start = (index // blocks).to(tl.int64) * channels * places
        place = (index % blocks) * PLACES + tl.arange(0, PLACES)
        outer = tl.load(
            grad + start + rows[:, None] * places + place[None, :],
            mask=(rows[:, None] < channels) & (place[None, :] < places),
            other=0.0,
        )
        inner = tl.load(
            x + start + columns[:, None] * places + place[None, :],
            mask=(columns[:, None] < channels) & (place[None, :] < places),
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
    places: int
    weight_places: int
    warps: int


def tiles(channels: int) -> Tiles:
    """Chosen so that ahead-of-time compilation for sm_80 and sm_90 spills no registers."""
    if channels <= 16:
        return Tiles(rows=16, depth=16, places=256, weight_places=64, warps=4)
    if channels <= 32:
        return Tiles(rows=32, depth=16, places=128, weight_places=64, warps=4)
    return Tiles(rows=64, depth=16, places=128, weight_places=32, warps=4)


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
    if math.prod(x.shape[1:]) >= 2**31:
        return "a sample has 2³¹ elements or more"
    return None


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    samples, channels, places = len(x), x.shape[1], positions(x)
    size, y = tiles(channels), torch.empty_like(x)
    grid = triton.cdiv(places, size.places), triton.cdiv(channels, size.rows), samples
    with torch.cuda.device_of(x):
        _multiply[grid](
            x,
            weight,
            weight if bias is None else bias.contiguous(),
            y,
            channels,
            places,
            BIAS=bias is not None,
            PRECISION=precision(x),
            CHANNELS=channels,
            ROWS=size.rows,
            DEPTH=size.depth,
            PLACES=size.places,
            num_warps=size.warps,
        )
    return y


def weight_gradient(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    grad, x = grad.contiguous(), x.contiguous()
    samples, channels, places = len(x), x.shape[1], positions(x)
    size = tiles(channels)
    across = triton.cdiv(channels, size.rows)
    blocks = samples * triton.cdiv(places, size.weight_places)
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
            places,
            PRECISION=precision(x),
            ROWS=size.rows,
            PLACES=size.weight_places,
            num_warps=size.warps,
        )
    return weight_partial.sum(0), bias_partial.sum(0)
