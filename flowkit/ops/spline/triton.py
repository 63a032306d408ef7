"""The rational-quadratic spline in one pass over memory, and its backward in another.

Each program takes a block of elements. It finds the bin by walking along the K shares, which stay
in registers once loaded, and loads the two slopes of that bin. The backward pass, which has the
input and the net's output, finds the bin again.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowkit.choice import interpreted
from flowkit.ops.spline.knots import Knots

WARPS = 4
BINS = 16  # the kernels write out each bin, so more would only take longer to compile
INTERPRETED_BLOCK = 65536  # the interpreter's cost is per program


@triton.jit
def _exponentials(raw, size, mask, dtype: tl.constexpr, BINS: tl.constexpr):
    """What softmax needs: the largest of the raw numbers, and 1/Σ exp(raw - largest)."""
    largest = tl.load(raw, mask=mask, other=0.0).to(dtype)
    for k in tl.static_range(1, BINS):
        largest = tl.maximum(largest, tl.load(raw + k * size, mask=mask, other=0.0).to(dtype))
    total = tl.zeros_like(largest)
    for k in tl.static_range(BINS):
        total += tl.exp(tl.load(raw + k * size, mask=mask, other=0.0).to(dtype) - largest)
    return largest, 1.0 / total


@triton.jit
def _start(before, k, LOW: tl.constexpr, SPAN: tl.constexpr, LEAST: tl.constexpr, BINS):
    """Where a bin begins that has k bins and this sum of softmax before it. Constants meet tensors
    only in + - * /, where they take the tensor's precision."""
    return (before * (1.0 - LEAST * BINS) + k * LEAST) * SPAN + LOW


@triton.jit
def _size(share, SPAN: tl.constexpr, LEAST: tl.constexpr, BINS):
    return (share * (1.0 - LEAST * BINS) + LEAST) * SPAN


@triton.jit
def _search(
    raw,
    size,
    mask,
    value,
    LOW: tl.constexpr,
    SPAN: tl.constexpr,
    LEAST: tl.constexpr,
    BINS: tl.constexpr,
):
    """The bin that each value is in: its number, the sum of softmax before it, its softmax, where
    it begins."""
    largest, factor = _exponentials(raw, size, mask, value.dtype, BINS)
    index = tl.zeros(value.shape, tl.int32)
    total = tl.zeros_like(value)
    before, share, start = total, total, total + LOW
    for k in tl.static_range(BINS):
        own = tl.exp(tl.load(raw + k * size, mask=mask, other=0.0).to(value.dtype) - largest)
        own *= factor
        if k == 0:
            share = own
        else:
            begins = _start(total, k, LOW, SPAN, LEAST, BINS)
            beyond = value >= begins
            index = tl.where(beyond, k, index)
            before = tl.where(beyond, total, before)
            share = tl.where(beyond, own, share)
            start = tl.where(beyond, begins, start)
        total += own
    return index, before, share, start


@triton.jit
def _of_index(
    raw,
    size,
    mask,
    index,
    dtype: tl.constexpr,
    LOW: tl.constexpr,
    SPAN: tl.constexpr,
    LEAST: tl.constexpr,
    BINS: tl.constexpr,
):
    """The same, without its number, of the bin of that number."""
    largest, factor = _exponentials(raw, size, mask, dtype, BINS)
    total = tl.zeros_like(largest)
    before, share, start = total, total, total + LOW
    for k in tl.static_range(BINS):
        own = tl.exp(tl.load(raw + k * size, mask=mask, other=0.0).to(dtype) - largest) * factor
        here = index == k
        before = tl.where(here, total, before)
        share = tl.where(here, own, share)
        if k > 0:
            start = tl.where(here, _start(total, k, LOW, SPAN, LEAST, BINS), start)
        total += own
    return before, share, start


@triton.jit
def _slope_rows(index, BINS: tl.constexpr, ENDS: tl.constexpr):
    """Which of the raw slopes hold at a bin's ends; there is none at -1 and at BINS - 1 if the map
    is the identity outside."""
    if ENDS == "identity":
        return index - 1, index
    elif ENDS == "circular":
        return index, tl.where(index == BINS - 1, 0, index + 1)
    else:
        return index, index + 1


@triton.jit
def _slope(
    raw,
    row,
    size,
    mask,
    dtype: tl.constexpr,
    LEAST: tl.constexpr,
    OFFSET: tl.constexpr,
    BINS: tl.constexpr,
    ENDS: tl.constexpr,
):
    """The slope of a row, and its derivative by the raw number."""
    free = mask
    if ENDS == "identity":
        free = mask & (row >= 0) & (row < BINS - 1)
    moved = tl.load(raw + row * size, mask=free, other=0.0).to(dtype) + OFFSET
    decay = tl.exp(-tl.abs(moved))
    sum = 1.0 + decay
    # log(1 + decay), right to the last digit also where the sum is rounded to 1.
    lost = sum == 1.0
    logarithm = tl.where(lost, decay, tl.log(sum) * decay / tl.where(lost, 1.0, sum - 1.0))
    slope = tl.where(moved > 0.0, moved, 0.0) + logarithm + LEAST
    sigmoid = tl.where(moved > 0.0, 1.0, decay) / sum
    if ENDS == "identity":
        slope = tl.where(free, slope, 1.0)
        sigmoid = tl.where(free, sigmoid, 0.0)
    return slope, sigmoid


@triton.jit
def _elements(size, total, BLOCK: tl.constexpr, FLAT: tl.constexpr):
    """Sample and place in it of a program's elements, and which of them there are. FLAT: samples
    are smaller than a block, which takes several."""
    if FLAT:
        index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        return index // size, index % size, index < total
    else:
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        return tl.program_id(1).to(tl.int64), offsets, offsets < size


@triton.jit
def _placed(value, LOW: tl.constexpr, HIGH: tl.constexpr, ENDS: tl.constexpr):
    """A value moved into the interval: where it then is, what was taken off, and whether it has
    been below or above."""
    low = tl.zeros_like(value) + LOW
    high = tl.zeros_like(value) + HIGH
    below = value < low
    above = value > high
    if ENDS == "circular":
        turned = tl.floor((value - LOW) / (HIGH - LOW)) * (HIGH - LOW)
        return value - turned, turned, below & above, below & above
    elif ENDS == "identity":
        # NaN is neither below nor above, but outside as well.
        inside = (value > low) & (value < high)
        return tl.where(inside, value, (low + high) / 2), low, inside == 0, inside == 0
    else:
        return tl.where(below, low, tl.where(above, high, value)), low, below, above


@triton.jit
def _bin(
    at,
    raw,
    size,
    mask,
    INVERSE: tl.constexpr,
    LOW: tl.constexpr,
    SPAN: tl.constexpr,
    LEAST: tl.constexpr,
    OFFSET: tl.constexpr,
    BINS: tl.constexpr,
    ENDS: tl.constexpr,
):
    """The bin that a value in the interval is in: its number, of its width and of its height the
    sum of softmax before it, its softmax and where it begins, and where in the bin the value is, as
    a share of its width; the slopes at its ends, and their derivatives by their raw numbers."""
    heights = raw + BINS * size
    if INVERSE:
        index, before_h, share_h, low = _search(heights, size, mask, at, LOW, SPAN, LEAST, BINS)
        before_w, share_w, left = _of_index(
            raw, size, mask, index, at.dtype, LOW, SPAN, LEAST, BINS
        )
    else:
        index, before_w, share_w, left = _search(raw, size, mask, at, LOW, SPAN, LEAST, BINS)
        before_h, share_h, low = _of_index(
            heights, size, mask, index, at.dtype, LOW, SPAN, LEAST, BINS
        )
    width, height = _size(share_w, SPAN, LEAST, BINS), _size(share_h, SPAN, LEAST, BINS)
    row0, row1 = _slope_rows(index, BINS, ENDS)
    slopes = raw + 2 * BINS * size
    d0, d0_by_raw = _slope(slopes, row0, size, mask, at.dtype, LEAST, OFFSET, BINS, ENDS)
    d1, d1_by_raw = _slope(slopes, row1, size, mask, at.dtype, LEAST, OFFSET, BINS, ENDS)
    if INVERSE:
        s = height / width
        up = at - low
        curve = up * (d0 + d1 - 2.0 * s)
        a, b, c = height * (s - d0) + curve, height * d0 - curve, -s * up
        inner = b * b - 4.0 * a * c
        # The larger root in the form that never cancels; negative only by rounding.
        xi = 2.0 * c / (-b - tl.sqrt(tl.where(inner > 0.0, inner, 0.0)))
    else:
        xi = (at - left) / width
    xi = tl.where(xi > 1.0, 1.0, tl.where(xi < 0.0, 0.0, xi))
    by_width = before_w, share_w, left, width
    by_height = before_h, share_h, low, height
    return index, by_width, by_height, xi, (d0, d1), (d0_by_raw, d1_by_raw)


@triton.jit
def _transform(
    x,
    params,
    y,
    log_slope,
    x_stride,
    size,
    total,
    INVERSE: tl.constexpr,
    BINS: tl.constexpr,
    COUNT: tl.constexpr,
    ENDS: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    LEAST: tl.constexpr,
    OFFSET: tl.constexpr,
    FLAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    SPAN: tl.constexpr = HIGH - LOW
    sample, offsets, mask = _elements(size, total, BLOCK, FLAT)
    value = tl.load(x + sample * x_stride + offsets, mask=mask, other=0.0)
    raw = params + sample * (COUNT * size) + offsets
    at, turned, below, above = _placed(value, LOW, HIGH, ENDS)
    _, by_width, by_height, xi, slopes, _ = _bin(
        at, raw, size, mask, INVERSE, LOW, SPAN, LEAST, OFFSET, BINS, ENDS
    )
    _, _, left, width = by_width
    _, _, floor, height = by_height
    d0, d1 = slopes
    s = height / width
    between = xi * (1.0 - xi)
    bottom = s + (d0 + d1 - 2.0 * s) * between
    risen = height * (s * xi * xi + d0 * between) / bottom
    found = left + xi * width if INVERSE else floor + risen
    low = tl.zeros_like(value) + LOW
    high = tl.zeros_like(value) + HIGH
    found = tl.where(found < low, low, tl.where(found > high, high, found))
    steep = d1 * xi * xi + 2.0 * s * between + d0 * (1.0 - xi) * (1.0 - xi)
    log = 2.0 * tl.log(s / bottom) + tl.log(steep)
    if INVERSE:
        log = -log
    if ENDS == "circular":
        found += turned
    elif ENDS == "identity":
        found = tl.where(below, value, found)
        log = tl.where(below, 0.0, log)
    else:
        slope = tl.where(below, d0, d1)
        if INVERSE:
            slope = 1.0 / slope
        end = tl.where(below, low, high)
        outside = below | above
        found = tl.where(outside, end + (value - end) * slope, found)
        log = tl.where(outside, tl.log(slope), log)
    tl.store(y + sample * size + offsets, found, mask=mask)
    tl.store(log_slope + sample * size + offsets, log, mask=mask)


@triton.jit
def _store_shares(
    raw,
    grad_raw,
    size,
    mask,
    index,
    before,
    share,
    by_start,
    by_size,
    LEAST: tl.constexpr,
    SPAN: tl.constexpr,
    BINS: tl.constexpr,
):
    """The gradient of the raw widths or heights, from those of where the bin begins and of its
    size: through softmax, whose other outputs matter only by the sum of those before."""
    scale: tl.constexpr = (1.0 - LEAST * BINS) * SPAN
    by_start *= scale
    by_size *= scale
    mean = by_start * before + by_size * share
    largest, factor = _exponentials(raw, size, mask, share.dtype, BINS)
    for k in tl.static_range(BINS):
        own = tl.exp(tl.load(raw + k * size, mask=mask, other=0.0).to(share.dtype) - largest)
        outer = tl.where(index > k, by_start, tl.where(index == k, by_size, 0.0))
        tl.store(grad_raw + k * size, own * factor * (outer - mean), mask=mask)


@triton.jit
def _transform_backward(
    grad,
    grad_log,
    x,
    params,
    grad_x,
    grad_params,
    x_stride,
    size,
    total,
    INVERSE: tl.constexpr,
    BINS: tl.constexpr,
    COUNT: tl.constexpr,
    ENDS: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    LEAST: tl.constexpr,
    OFFSET: tl.constexpr,
    FLAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    SPAN: tl.constexpr = HIGH - LOW
    sample, offsets, mask = _elements(size, total, BLOCK, FLAT)
    value = tl.load(x + sample * x_stride + offsets, mask=mask, other=0.0)
    by_y = tl.load(grad + sample * size + offsets, mask=mask, other=0.0)
    by_log = tl.load(grad_log + sample * size + offsets, mask=mask, other=0.0)
    raw = params + sample * (COUNT * size) + offsets
    grad_raw = grad_params + sample * (COUNT * size) + offsets
    at, _, below, above = _placed(value, LOW, HIGH, ENDS)
    index, by_width, by_height, xi, slopes, by_raw = _bin(
        at, raw, size, mask, INVERSE, LOW, SPAN, LEAST, OFFSET, BINS, ENDS
    )
    before_w, share_w, _, w = by_width
    before_h, share_h, _, h = by_height
    d0, d1 = slopes
    d0_by_raw, d1_by_raw = by_raw
    s = h / w
    bend = d0 + d1 - 2.0 * s
    rest = 1.0 - xi
    between = xi * rest
    turn = 1.0 - 2.0 * xi
    bottom = s + bend * between
    share = (s * xi * xi + d0 * between) / bottom  # of the bin's height
    steep = d1 * xi * xi + 2.0 * s * between + d0 * rest * rest
    slope = (s / bottom) * (s / bottom) * steep
    # Of log dy/dx by x alone: y's own derivative by it is the slope.
    log_by_xi = 2.0 * (d1 * xi + s * turn - d0 * rest) / steep - 2.0 * bend * turn / bottom
    log_by_x = log_by_xi / w
    outside = below | above
    if ENDS == "identity":
        slope = tl.where(outside, 1.0, slope)
        log_by_x = tl.where(outside, 0.0, log_by_x)
    elif ENDS == "straight":
        slope = tl.where(outside, tl.where(below, d0, d1), slope)
        log_by_x = tl.where(outside, 0.0, log_by_x)
    if INVERSE:
        # f(x; θ) = y defines x, so dx = (dy - ∂f/∂θ dθ)/slope: the gradients of θ are f's own at
        # x, of by_y = -∂/∂x / slope and of -log.
        by_x = (by_y - by_log * log_by_x) / slope
        by_y = -by_x
        by_log = -by_log
    else:
        by_x = by_y * slope + by_log * log_by_x
    tl.store(grad_x + sample * size + offsets, by_x, mask=mask)
    inner_y, inner_log = by_y, by_log
    if ENDS != "circular":
        inner_y = tl.where(outside, 0.0, by_y)
        inner_log = tl.where(outside, 0.0, by_log)
    by_xi = inner_y * (slope * w) + inner_log * log_by_xi
    by_share = inner_y * h
    by_s = by_share * (xi * xi - share * (1.0 - 2.0 * between)) / bottom
    by_s += inner_log * (2.0 / s + 2.0 * between / steep - 2.0 * (1.0 - 2.0 * between) / bottom)
    by_d0 = by_share * (between * (1.0 - share)) / bottom
    by_d0 += inner_log * (rest * rest / steep - 2.0 * between / bottom)
    by_d1 = -by_share * (between * share) / bottom
    by_d1 += inner_log * (xi * xi / steep - 2.0 * between / bottom)
    if ENDS == "straight":
        end = tl.where(below, tl.zeros_like(value) + LOW, tl.zeros_like(value) + HIGH)
        beyond = value - end
        if INVERSE:
            beyond /= slope
        by_end = by_y * beyond + by_log / slope
        by_d0 = tl.where(below, by_end, by_d0)
        by_d1 = tl.where(above, by_end, by_d1)
    _store_shares(
        raw,
        grad_raw,
        size,
        mask,
        index,
        before_w,
        share_w,
        -by_xi / w,
        -(by_xi * xi + by_s * s) / w,
        LEAST,
        SPAN,
        BINS,
    )
    _store_shares(
        raw + BINS * size,
        grad_raw + BINS * size,
        size,
        mask,
        index,
        before_h,
        share_h,
        inner_y,
        inner_y * share + by_s / w,
        LEAST,
        SPAN,
        BINS,
    )
    row0, row1 = _slope_rows(index, BINS, ENDS)
    for k in tl.static_range(COUNT - 2 * BINS):
        by_slope = tl.where(row0 == k, by_d0 * d0_by_raw, 0.0)
        by_slope += tl.where(row1 == k, by_d1 * d1_by_raw, 0.0)
        tl.store(grad_raw + (2 * BINS + k) * size, by_slope, mask=mask)


def block(size: int, bins: int) -> int:
    """Elements per program: as many for each thread as it has registers for their bins, at most 4,
    which are loaded at once."""
    if interpreted():
        return min(triton.next_power_of_2(size), INTERPRETED_BLOCK)
    return max(128, min(512, 4096 // triton.next_power_of_2(bins)))


def unsupported(x: Tensor, params: Tensor, knots: Knots) -> str | None:
    """Why the kernels can't take this, or None."""
    if params.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        return f"params are {params.dtype}"
    if params.device != x.device:
        return f"x is on {x.device} and params on {params.device}"
    if knots.bins > BINS:
        return f"{knots.bins} bins are more than {BINS}"
    if x.numel() == 0:
        return f"x {tuple(x.shape)} is empty"
    size = math.prod(x.shape[1:])
    if x.shape[0] > 65535 and size >= block(size, knots.bins):
        return f"{x.shape[0]} samples of {size} elements are more than a grid's 65535"
    if math.prod(params.shape[1:]) >= 2**31:
        return "a sample's params have 2³¹ elements or more"
    return None


def transform(x: Tensor, params: Tensor, inverse: bool, knots: Knots) -> tuple[Tensor, Tensor]:
    x, params = _samples(x), params.contiguous()
    sizes, grid, constants = _shapes(x, params, inverse, knots)
    y, log_slope = x.new_empty(x.shape), x.new_empty(x.shape)
    with torch.cuda.device_of(x):
        _transform[grid](x, params, y, log_slope, *sizes, **constants)
    return y, log_slope


def transform_backward(
    grad: Tensor, grad_log: Tensor, x: Tensor, params: Tensor, inverse: bool, knots: Knots
) -> tuple[Tensor, Tensor]:
    grad, grad_log = grad.contiguous(), grad_log.contiguous()
    x, params = _samples(x), params.contiguous()
    sizes, grid, constants = _shapes(x, params, inverse, knots)
    grad_x, grad_params = x.new_empty(x.shape), torch.empty_like(params)
    with torch.cuda.device_of(x):
        _transform_backward[grid](
            grad, grad_log, x, params, grad_x, grad_params, *sizes, **constants
        )
    return grad_x, grad_params


def _samples(x: Tensor) -> Tensor:
    """x, each sample of which lies in one piece, as the last channels of a larger x do."""
    return x if x[0].is_contiguous() else x.contiguous()


def _shapes(
    x: Tensor, params: Tensor, inverse: bool, knots: Knots
) -> tuple[tuple[int, int, int], tuple[int, int], dict[str, Any]]:
    """(distance of samples in x, elements in one and in all), the grid, the kernels' constants."""
    size, total = math.prod(x.shape[1:]), x.numel()
    length = block(size, knots.bins)
    flat = size < length
    if flat:
        length = block(total, knots.bins)
    grid = (triton.cdiv(total, length), 1) if flat else (triton.cdiv(size, length), x.shape[0])
    constants = {
        "INVERSE": inverse,
        "BINS": knots.bins,
        "COUNT": knots.count,
        "ENDS": knots.ends,
        "LOW": knots.low,
        "HIGH": knots.high,
        "LEAST": knots.least,
        "OFFSET": knots.offset,
        "FLAT": flat,
        "BLOCK": length,
        "num_warps": WARPS,
    }
    return (x.stride(0), size, total), grid, constants
