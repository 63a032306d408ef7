"""Samples of a batch know nothing of one another."""

from __future__ import annotations

import torch

from flowkit.contract import Example
from flowkit.testing.comparison import close, require_close
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import Side, Subject, rows, subject_of
from flowkit.testing.tolerances import FLOAT64


@over_draws(batches=(2, 3, 4))
def check_independent_samples(example: Example, draw: Draw) -> None:
    """A sample's result is the same alone, in any batch, and at any place in it."""
    subject = subject_of(example, draw)
    for side in subject.sides:
        results = side(side.value, subject.cond)
        for index in range(draw.batch):
            row = slice(index, index + 1)
            alone = side(side.value[row], rows(subject.cond, row))
            for what, got, expected in zip(("value", "log-det"), results, alone, strict=True):
                same = close(got[row], expected, max(FLOAT64, example.tolerance))
                because = "" if same else _cause(side, subject, index)
                require_close(
                    side.who,
                    f"the {what} of sample {index} as if it were alone",
                    got[row],
                    expected,
                    max(FLOAT64, example.tolerance),
                    because,
                )
        turned = torch.arange(draw.batch).roll(1)
        moved = side(side.value[turned], rows(subject.cond, turned))
        for what, got, expected in zip(("values", "log-dets"), moved, results, strict=True):
            require_close(
                side.who,
                f"{what} that move with their samples",
                got,
                expected[turned],
                max(FLOAT64, example.tolerance),
            )


def _cause(side: Side, subject: Subject, index: int) -> str:
    """Which other sample it depends on."""
    before = side(side.value, subject.cond)
    for other in range(len(side.value)):
        if other == index:
            continue
        order = torch.arange(len(side.value))
        order[other] = index
        after = side(side.value[order], rows(subject.cond, order))
        if any(not close(a[index], b[index], FLOAT64) for a, b in zip(before, after, strict=True)):
            return f"sample {index} depends on sample {other}"
    return f"sample {index} depends on its place in the batch, or on the batch's size"
