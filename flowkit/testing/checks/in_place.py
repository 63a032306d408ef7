"""What the caller may do with a log-det."""

from __future__ import annotations

import torch

from flowkit.contract import Example
from flowkit.testing.comparison import require_close, require_identical
from flowkit.testing.draws import Draw
from flowkit.testing.subject import said, subject_of
from flowkit.testing.tolerances import FLOAT64


def check_logdet_in_place(example: Example) -> None:
    """The caller may add to a log-det in place: every sample has a number of its own, which neither
    the layer nor autograd's records need any more."""
    subject = subject_of(example, Draw(batch=3))
    added = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for side in subject.sides:
        who = f"{side.who}, log-det added to in place"
        first = side(side.value.clone().requires_grad_(), subject.cond)
        value, logdet = first
        before, kept = logdet.detach().clone(), value.detach().clone()
        try:
            logdet += added
            if logdet.requires_grad:
                (value.sum() + logdet.sum()).backward()
        except RuntimeError as error:
            raise AssertionError(
                f"{who}: expected a number of its own for each sample "
                f"(flowkit.same_logdet makes them of one), got {said(error)}"
            ) from error
        require_close(who, "the sum", logdet.detach(), before + added, FLOAT64)
        again = [part.detach() for part in side(side.value, subject.cond)]
        require_identical(f"{who} and called again", again, (kept, before))
