"""The frozen copy."""

from __future__ import annotations

import torch

from flowkit.contract import Bijection, Example
from flowkit.testing.checks.logdet import jacobian_logdet
from flowkit.testing.comparison import (
    require_close,
    require_equal,
    require_identical,
    require_logdet,
)
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import (
    Subject,
    outcome,
    require_same_state,
    state_of,
    subject_of,
)
from flowkit.testing.tolerances import FLOAT64

# An own log-det is compared with the Jacobian of the map as it is, in float32 arithmetic: rounding
# of 6e-8 through a determinant of up to 36 rows. bf16 constants that were rounded apart differ by
# 4e-3 for each channel and place.
OWN_LOGDET = 1e-3


@over_draws(4)
def check_fold(example: Example, draw: Draw) -> None:
    """`fold()` gives the same map, with and without `given`, frozen: it needs no gradient, leaves
    the layer as it was, and stays when the layer changes. One that a layer defines itself remains a
    map with its own log-det in bfloat16."""
    subject = subject_of(example, draw)
    expected = [side(side.value, subject.cond) for side in subject.sides]
    before = state_of(subject.layer)
    folded = _folded(subject)
    for other, cond, what in (
        (folded, subject.cond, "folded"),
        (folded.given(subject.cond), None, "folded and given"),
    ):
        for side, results in zip(subject.sides, expected, strict=True):
            side = side.of(other, what)
            for part, got, wanted in zip(
                ("value", "log-det"), side(side.value, cond), results, strict=True
            ):
                require_close(
                    side.who, f"the same {part}", got, wanted, max(FLOAT64, example.tolerance)
                )
    require_same_state(f"{subject.who}.fold", subject.layer, before)
    learning = [name for name, p in folded.named_parameters() if p.requires_grad]
    require_equal(f"{subject.who}.fold", "parameters that need a gradient", learning, [])
    with torch.no_grad():
        who = f"{subject.who}, folded"
        first = outcome(who, folded, subject.x, subject.cond)
        for parameter in subject.layer.parameters():
            parameter.zero_()
        require_identical(
            f"{who}, after the layer changed", outcome(who, folded, subject.x, subject.cond), first
        )
    if type(subject.layer).fold is not Bijection.fold and draw.scale <= 1:
        _check_bfloat16(example, draw)


def _folded(subject: Subject) -> Bijection:
    try:
        folded = subject.layer.fold()
    except Exception as error:
        raise AssertionError(
            f"{subject.who}.fold: expected a bijection, got {type(error).__name__}: {error}"
        ) from error
    if not isinstance(folded, Bijection):
        raise AssertionError(
            f"{subject.who}.fold: expected a bijection, got {type(folded).__name__}"
        )
    return folded


def _check_bfloat16(example: Example, draw: Draw) -> None:
    subject = subject_of(example, Draw(1, draw.seed, draw.scale, dtype=torch.float32))
    folded = _folded(subject).bfloat16()
    for side in subject.sides:
        side = side.of(folded, "folded, in bfloat16")
        require_logdet(
            side.who,
            "the log-det of its own map",
            side(side.value, subject.cond)[1],
            jacobian_logdet(side, subject.cond),
            max(OWN_LOGDET, example.tolerance),
            side.value.shape[1:],
        )
