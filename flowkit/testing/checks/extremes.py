"""Very large, very small, and no number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowkit.contract import Example
from flowkit.testing.comparison import close
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import Side, Subject, subject_of
from flowkit.testing.tolerances import FLOAT64


@over_draws(4, batches=(2, 3), scales=(1.0,), dtypes=(torch.float64, torch.float32))
def check_extremes(example: Example, draw: Draw) -> None:
    """Numbers of ±1e6 and denormal ones stay finite, where the layer doesn't grow beyond bounds;
    NaN comes out as NaN, and stays within its sample."""
    subject = subject_of(example, draw)
    for side, domain in zip(subject.sides, (example.domain, example.codomain), strict=True):
        if domain is None:
            _check_finite(side, subject)
        _check_nan(side, subject, max(1e-5, example.tolerance))


def _check_finite(side: Side, subject: Subject) -> None:
    signs = side.value.sign()
    denormal = torch.finfo(side.value.dtype).tiny / 8
    magnitudes = [denormal]
    # What grows by a straight line from 60 to 600 has no reason to overflow at 1e6; what grows
    # faster, such as sinh, or a coupling whose scale has no bound, has.
    near, far = (side(size * signs, subject.cond)[0].abs().max() for size in (60, 600))
    if far < 30 * near:
        magnitudes.append(1e6)
    for magnitude in magnitudes:
        parts = side(magnitude * signs, subject.cond)
        for what, part in zip(("value", "log-det"), parts, strict=True):
            if not part.isfinite().all():
                raise AssertionError(
                    f"{side.who}, input ±{magnitude:g}: expected a finite {what}, got "
                    f"{_first_bad(part)}"
                )


def _check_nan(side: Side, subject: Subject, tolerance: float) -> None:
    expected = side(side.value, subject.cond)
    spoilt = side.value.clone()
    spoilt[(0,) * spoilt.dim()] = math.nan
    try:
        value, logdet = side.map(spoilt, subject.cond)
    except ValueError:
        return  # refused, and that isn't silent
    except Exception as error:
        raise AssertionError(
            f"{side.who}, NaN in sample 0: expected NaN there or a ValueError, got {error!r}"
        ) from error
    if not value[0].isnan().any():
        raise AssertionError(
            f"{side.who}, NaN in sample 0: expected NaN in what becomes of it, got only numbers"
        )
    if side.value.dtype == torch.float64:
        tolerance = FLOAT64
    for what, got, as_before in zip(("value", "log-det"), (value, logdet), expected, strict=True):
        if not close(got[1:], as_before[1:], tolerance):
            raise AssertionError(
                f"{side.who}, NaN in sample 0: expected the {what} of the other samples as without "
                f"it, got {_first_bad(got[1:])}"
            )


def _first_bad(part: Tensor) -> str:
    bad = part[~part.isfinite()]
    return f"{bad[0].item()} in {len(bad)} of {part.numel()}" if len(bad) else "other numbers"
