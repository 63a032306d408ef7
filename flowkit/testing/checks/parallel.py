"""An inverse in parallel."""

from __future__ import annotations

from unittest import SkipTest

import torch

from flowkit.contract import Example
from flowkit.testing.comparison import require_close
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import subject_of
from flowkit.testing.tolerances import FLOAT64


@over_draws(6)
def check_parallel_inverse(example: Example, draw: Draw) -> None:
    """Where an inverse may be found in parallel (a layer has `parallel`, the tolerance), it is what
    is found step by step, to the last digits if the tolerance is 0."""
    subject = subject_of(example, draw)
    parts = [m for m in subject.layer.modules() if getattr(m, "parallel", None) is not None]
    if not parts:
        raise SkipTest(f"{subject.who}: no inverse in parallel")
    for part in parts:
        setattr(part, "parallel", 0.0)  # noqa: B010
    with torch.no_grad():
        _, inverse = subject.sides
        found = inverse(inverse.value, subject.cond)
        for part in parts:
            setattr(part, "parallel", None)  # noqa: B010
        step_by_step = inverse(inverse.value, subject.cond)
    for what, got, expected in zip(("value", "log-det"), found, step_by_step, strict=True):
        require_close(
            f"{inverse.who}, in parallel", f"the {what} found step by step", got, expected, FLOAT64
        )
