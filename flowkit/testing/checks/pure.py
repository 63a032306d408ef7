"""Purity: a call leaves everything as it was."""

from __future__ import annotations

import torch

from flowkit.contract import Example
from flowkit.testing.comparison import require_identical
from flowkit.testing.draws import Draw
from flowkit.testing.subject import (
    each,
    entries,
    entry_called,
    require_same_state,
    state_of,
    subject_of,
)


def check_pure(example: Example) -> None:
    """Neither direction changes its input, the condition or the layer; a second call repeats the
    first bit for bit, in training and evaluation mode."""
    for training in (True, False):
        subject = subject_of(example, Draw(dtype=torch.float32))
        subject.layer.train(training)
        for side in subject.sides:
            before = state_of(subject.layer)
            value = side.value.clone()
            cond = each(subject.cond, lambda entry: entry.clone())
            first = [part.clone() for part in side(value, cond)]
            if not value.equal(side.value):
                raise AssertionError(f"{side.who}: expected its input unchanged, got it modified")
            for key, entry in entries(cond).items():
                if not entry.equal(entries(subject.cond)[key]):
                    raise AssertionError(
                        f"{side.who}: expected the condition{entry_called(key)} unchanged, got it "
                        "modified"
                    )
            require_same_state(side.who, subject.layer, before)
            require_identical(f"{side.who}, called again", side(value, cond), first)
