"""The log-determinant against the Jacobian."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import Cond, Example
from flowkit.testing.comparison import require_logdet
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import Side, rows, subject_of
from flowkit.testing.tolerances import FLOAT64


@over_draws(6)
def check_logdet(example: Example, draw: Draw) -> None:
    """The log-det of each sample is log|det| of the Jacobian that autograd finds, both ways."""
    subject = subject_of(example, draw)
    for side in subject.sides:
        _, logdet = side(side.value, subject.cond)
        require_logdet(
            side.who,
            "the log-det of the Jacobian",
            logdet,
            jacobian_logdet(side, subject.cond),
            max(FLOAT64, example.tolerance),
            side.value.shape[1:],
        )


def jacobian_logdet(side: Side, cond: Cond) -> Tensor:
    """log|det| of each sample's Jacobian, found by autograd, (B,)."""
    found = []
    for index in range(len(side.value)):
        row = rows(cond, slice(index, index + 1))
        x = side.value[index : index + 1].detach().clone().requires_grad_()
        value = side(x, row)[0].flatten()
        if not value.requires_grad:
            raise AssertionError(
                f"{side.who}: expected a value that autograd can follow, got one without gradient"
            )
        jacobian = [torch.autograd.grad(y, x, retain_graph=True)[0].flatten() for y in value]
        found.append(torch.linalg.slogdet(torch.stack(jacobian)).logabsdet)
    return torch.stack(found)
