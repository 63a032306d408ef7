"""A batch of nothing."""

from __future__ import annotations

import torch

from flowkit.contract import Example
from flowkit.testing.comparison import require_equal
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import subject_of


@over_draws(3, batches=(0,), dtypes=(torch.float32, torch.float64))
def check_empty_batch(example: Example, draw: Draw) -> None:
    """No samples in, no samples out, both ways."""
    subject = subject_of(example, draw)
    for side, back in zip(subject.sides, (subject.y, subject.x), strict=True):
        value, logdet = side(side.value, subject.cond)
        require_equal(side.who, "no samples, shape", tuple(value.shape), tuple(back.shape))
        require_equal(side.who, "no log-dets, shape", tuple(logdet.shape), (0,))
