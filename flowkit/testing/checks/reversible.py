"""Inside `Reversible`."""

from __future__ import annotations

import torch

from flowkit.contract import Example
from flowkit.reversible import KEEP, Reversible
from flowkit.testing.comparison import require_close
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import each, entries, entry_called, loss_of, subject_of
from flowkit.testing.tolerances import FLOAT64


@over_draws(4)
def check_reversible(example: Example, draw: Draw) -> None:
    """Inside `Reversible`, which computes activations again instead of keeping them, value, log-det
    and every gradient are the same, both ways."""
    subject = subject_of(example, draw)
    parameters = {n: p for n, p in subject.layer.named_parameters() if p.requires_grad}
    cond = each(subject.cond, lambda entry: entry.requires_grad_())
    for side in subject.sides:
        inputs = {
            "the input": side.value.requires_grad_(),
            **{f"the condition{entry_called(k)}": e for k, e in entries(cond).items()},
            **parameters,
        }
        sides = [side]
        for keep in KEEP:
            layer = Reversible(subject.layer, keep=keep, tolerance=None)
            sides.append(side.of(layer, f"in Reversible with {keep} kept"))
        results = []
        for one in sides:
            value, logdet = one(side.value, cond)
            gradients = torch.autograd.grad(
                loss_of(value, logdet),
                list(inputs.values()),
                allow_unused=True,
                materialize_grads=True,
            )
            results.append((value, logdet, *gradients))
        names = ("value", "log-det", *(f"gradient for {name}" for name in inputs))
        tolerance = max(FLOAT64, example.tolerance)
        for one, got in zip(sides[1:], results[1:], strict=True):
            for name, came, expected in zip(names, got, results[0], strict=True):
                require_close(one.who, f"the same {name}", came, expected, tolerance)
