"""Elementwise maps, apart from the families that give them their numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.elementwise import Elementwise, require_elementwise
from flowkit.testing.comparison import require_close, require_equal
from flowkit.testing.tolerances import FLOAT64

SHAPE = (2, 3, 40)
NEAR = 1.0
"""How far from x a map at params = 0 may be, for x in ±3: "near the identity" as the maps of
logistic curves are, the farthest of flowkit's, within 0.7."""


def check_elementwise(how: Elementwise, *, tolerance: float = 0.0) -> None:
    """An elementwise map keeps its word: values and log-slopes (B, n, *S) for x of that shape and
    params (B, count, n, *S), increasing, each element by itself, the log-slope that of autograd,
    undone by its inverse, finite for all params, near the identity at params = 0, and none of its
    numbers without use.

    Args:
        how: the map.
        tolerance: of its inverse, where it is found numerically.

    Raises:
        TypeError: it is no elementwise map.
        AssertionError: it doesn't.
    """
    require_elementwise("check_elementwise", how)
    who = type(how).__name__
    if not isinstance(how.count, int) or how.count < 0:
        raise AssertionError(f"{who}: expected count as a number of numbers, got {how.count!r}")
    for seed, spread in enumerate((0.3, 1.0, 3.0)):
        x, params = _drawn(how.count, seed, spread)
        _check_map(f"{who}.forward", how.forward, x, params)
        _check_map(f"{who}.inverse", how.inverse, x, params)
        _check_inverse(who, how, x, params, max(FLOAT64, tolerance))
        _check_increasing(who, how, params)
        _check_params_used(who, how, x, params)
    _check_finite(who, how)
    x = torch.linspace(-3, 3, 61, dtype=torch.float64).reshape(1, 1, -1)
    y, _ = how.forward(x, x.new_zeros(1, how.count, 1, x.shape[-1]))
    if not (y - x).abs().max() < NEAR:
        raise AssertionError(
            f"{who}.forward: expected nearly x at params = 0, got {(y - x).abs().max():.3g} beside "
            "it"
        )


def _drawn(count: int, seed: int, spread: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch, *rest = SHAPE
    x = 2 * torch.randn(*SHAPE, generator=generator, dtype=torch.float64)
    params = torch.randn(batch, count, *rest, generator=generator, dtype=torch.float64)
    return x, spread * params


def _check_map(who: str, direction, x: Tensor, params: Tensor) -> None:
    """Shapes, precision, and that each element's log-slope is that of this element alone."""
    x = x.clone().requires_grad_()
    y, log_slope = direction(x, params)
    for what, part in (("a value", y), ("a log-slope", log_slope)):
        require_equal(who, f"{what} for each element, shape", tuple(part.shape), tuple(x.shape))
        require_equal(who, f"{what} in", part.dtype, x.dtype)
    (slope,) = torch.autograd.grad(y.sum(), x)
    if not (slope > 0).all():
        raise AssertionError(f"{who}: expected it to increase, got a slope of {slope.min():.3g}")
    require_close(who, "the log-slope that autograd finds", log_slope, slope.log(), 1e-6)
    moved = x.detach().clone()
    moved[0, 0, 0] += 0.25
    changed = (direction(moved, params)[0] != y).nonzero().tolist()
    require_equal(who, "none to change with one of x but", changed, [[0, 0, 0]])


def _check_inverse(who: str, how: Elementwise, x: Tensor, params: Tensor, tolerance: float) -> None:
    for names, first, second in (
        (("inverse", "forward"), how.forward, how.inverse),
        (("forward", "inverse"), how.inverse, how.forward),
    ):
        y, log_slope = first(x, params)
        back, log_slope_back = second(y, params)
        require_close(f"{who}.{names[0]}", f"to undo {names[1]}", back, x, tolerance)
        require_close(
            f"{who}.{names[0]}",
            f"minus the log-slope of {names[1]}",
            log_slope_back,
            -log_slope,
            max(1e-6, tolerance),
        )


def _check_increasing(who: str, how: Elementwise, params: Tensor) -> None:
    x = torch.linspace(-20, 20, 401, dtype=torch.float64).expand(1, 1, -1)
    y, _ = how.forward(x, params[:1, :, :1, :1].expand(-1, -1, -1, x.shape[-1]))
    if not (y.diff() > 0).all():
        at = x[0, 0, int(y.diff().argmin())].item()
        raise AssertionError(f"{who}.forward: expected it to increase, got a step down at {at:.3g}")


def _check_params_used(who: str, how: Elementwise, x: Tensor, params: Tensor) -> None:
    for name, direction in (("forward", how.forward), ("inverse", how.inverse)):
        params = params.detach().clone().requires_grad_()
        y, log_slope = direction(x, params)
        if not how.count:
            return
        (slopes,) = torch.autograd.grad((y + log_slope.sin()).sum(), params)
        unused = (slopes == 0).all(dim=0).flatten(1).all(dim=1).nonzero().flatten().tolist()
        if unused:
            raise AssertionError(
                f"{who}.{name}: expected each of {how.count} numbers to matter, got the same "
                f"whatever number {unused} is"
            )


def _check_finite(who: str, how: Elementwise) -> None:
    for size in (50.0, 1e4):
        x, params = _drawn(how.count, 0, size)
        for name, direction in (("forward", how.forward), ("inverse", how.inverse)):
            for what, part in zip(("value", "log-slope"), direction(x, params), strict=True):
                if not part.isfinite().all():
                    raise AssertionError(
                        f"{who}.{name}, params of {size:g}: expected a finite {what}, got "
                        f"{part[~part.isfinite()][0].item()}"
                    )
