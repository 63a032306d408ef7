"""Saying in words how what came differs from what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def require_equal(who: str, what: str, got: Any, expected: Any, advice: str = "") -> None:
    """Raise unless two things that aren't tensors are equal."""
    __tracebackhide__ = True
    if got != expected:
        end = f" ({advice})" if advice else ""
        raise AssertionError(f"{who}: expected {what} {_short(expected)}, got {_short(got)}{end}")


def require_close(
    who: str, what: str, got: Tensor, expected: Tensor, tolerance: float, because: str = ""
) -> None:
    """Raise unless `got` has the dtype, shape and, up to `tolerance`, the numbers of `expected`."""
    __tracebackhide__ = True
    _require_alike(who, what, got, expected)
    if not close(got, expected, tolerance):
        raise AssertionError(
            f"{who}: expected {what}, {_numbers(got, expected)}"
            + (f": {because}" if because else "")
        )


def require_logdet(
    who: str,
    what: str,
    got: Tensor,
    expected: Tensor,
    tolerance: float,
    shape: Sequence[int],
) -> None:
    """`require_close` for log-determinants (B,) of samples (C, *S), which says what the numbers
    give away."""
    __tracebackhide__ = True
    _require_alike(who, what, got, expected)
    if not close(got, expected, tolerance):
        because = explained(got, expected, shape)
        raise AssertionError(
            f"{who}: expected {what}, {_numbers(got, expected)}"
            + (f": {because}" if because else "")
        )


def require_identical(who: str, got: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raise unless value and log-det are the same bit for bit."""
    __tracebackhide__ = True
    for what, a, b in zip(("value", "log-det"), got, expected, strict=True):
        _require_alike(who, f"the identical {what}", a, b)
        if not same_bits(a, b):
            raise AssertionError(f"{who}: expected the identical {what}, {_numbers(a, b)}")


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def close(got: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether two tensors are the same up to rounding; NaN is the same as NaN."""
    return torch.allclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def explained(got: Tensor, expected: Tensor, shape: Sequence[int]) -> str:
    """What the numbers of a wrong log-det give away; "" if nothing."""
    if got.isnan().any():
        return f"NaN in {int(got.isnan().sum())} of {got.numel()}"
    got, expected = got.detach().double(), expected.detach().double()
    if not got.any():
        return "no log-det at all?"
    for sign, minus in ((1, ""), (-1, "minus what is expected")):
        if minus and _same_ratio(got, -expected):
            return minus
        for factor, small, large in _factors(shape):
            size = f"{factor:g} times too "
            lead = f"{minus}, and " if minus else ""
            if small and _same_ratio(got * factor, sign * expected):
                return f"{lead}{size}small: {small}"
            if large and _same_ratio(got, sign * factor * expected):
                return f"{lead}{size}large: {large}"
    apart = got - expected
    if len(got) > 1 and (apart - apart.mean()).abs().max() < 1e-6 * apart.abs().max():
        return f"off by {apart.mean().item():.6g} in every sample"
    return ""


def _factors(shape: Sequence[int]) -> Iterator[tuple[float, str, str]]:
    """Factors by which a log-det of samples (C, *S) is often wrong: what is said if it is so much
    too small, and if it is so much too large."""
    channels, *places = shape
    count = math.prod(places)
    name = {1: "T", 2: "H·W"}.get(len(places), "|S|")
    sizes = "·".join(map(str, places))
    if count > 1:
        yield (
            count,
            f"{count} places ({sizes}), {name} missing?",
            f"{name} ({sizes}) counted twice?",
        )
    if len(places) == 2 and places[0] != places[1]:
        h, w = places
        yield w / h, "H² in place of H·W?", "W² in place of H·W?"
        yield h / w, "W² in place of H·W?", "H² in place of H·W?"
    if channels * count > 1:
        yield channels * count, "a mean in place of a sum?", "a sum counted twice?"
    if channels > 1:
        yield (
            channels,
            f"the sum over {channels} channels missing?",
            "",
        )
    yield 2, "a part of it missing?", "counted twice?"


def _same_ratio(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-9)


def _require_alike(who: str, what: str, got: Tensor, expected: Tensor) -> None:
    __tracebackhide__ = True
    require_equal(who, f"{what}, dtype", got.dtype, expected.dtype)
    require_equal(who, f"{what}, shape", tuple(got.shape), tuple(expected.shape))


def _numbers(got: Tensor, expected: Tensor) -> str:
    """The numbers where the two differ most, a number that isn't one before all others."""
    apart = (got.detach().double() - expected.detach().double()).abs().nan_to_num(math.inf)
    worst = int(apart.argmax())
    sample = f" (sample {worst // got[0].numel()})" if got.dim() and len(got) > 1 else ""
    a, b = got.flatten()[worst].item(), expected.flatten()[worst].item()
    digits = 6 if abs(a - b) > 1e-4 * abs(b) else 12
    return f"{b:.{digits}g}, got {a:.{digits}g}{sample}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else text[:200] + " …"
