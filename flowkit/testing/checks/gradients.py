"""Gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import Example
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import Side, each, entries, entry_called, said, subject_of


def check_gradients(example: Example) -> None:
    """Gradients of value and log-det for input, condition and parameters agree with differences,
    both ways, and every parameter gets one."""
    __tracebackhide__ = True
    _check_gradcheck(example)
    _check_parameters_used(example)


@over_draws(4)
def _check_gradcheck(example: Example, draw: Draw) -> None:
    subject = subject_of(example, draw)
    parameters = [p for p in subject.layer.parameters() if p.requires_grad]
    cond = each(subject.cond, lambda entry: entry.requires_grad_())
    # The default differences, 1e-6 apart with a tolerance of 1e-5, are made for float64. What is
    # found numerically to within t is jagged at that scale, and gets wider ones: their error is t
    # over the distance.
    eps = max(1e-6, example.tolerance**0.5)
    for side in subject.sides:

        def value_and_logdet(value: Tensor, *_: Tensor, side: Side = side) -> tuple[Tensor, Tensor]:
            mapped, logdet = side(value, cond)
            # Adds nothing, but gradcheck passes over an output that needs no gradient, as a
            # detached log-det doesn't.
            return mapped, logdet + 0 * mapped.sum()

        inputs = (side.value.requires_grad_(), *entries(cond).values(), *parameters)
        names = ["the input", *(f"the condition{entry_called(k)}" for k in entries(cond))]
        names += [n for n, p in subject.layer.named_parameters() if p.requires_grad]
        try:
            torch.autograd.gradcheck(
                value_and_logdet,
                inputs,
                eps=eps,
                atol=max(1e-5, 10 * eps),
                fast_mode=True,
                # Convolutions may sum in another order the second time.
                nondet_tol=1e-12,
            )
        except RuntimeError as error:
            raise AssertionError(
                f"{side.who}: expected gradients that agree with differences, got "
                f"{_which(error, names)}"
            ) from error


def _which(error: RuntimeError, names: list[str]) -> str:
    """gradcheck's finding with names in place of numbers."""
    text = said(error)
    _, found, rest = text.partition("for output ")
    if not found or "with respect to input " not in rest:
        return text
    output, _, index = rest.partition(" with respect to input ")
    number = int(index.split(",")[0].rstrip(".: "))
    return f"another {('value', 'log-det')[int(output)]} gradient for {names[number]}"


def _check_parameters_used(example: Example) -> None:
    for side_index in range(2):
        without: set[str] = set()
        # A ReLU that is off for a whole batch hides what lies behind it; three seeds don't agree.
        for seed in range(3):
            subject = subject_of(example, Draw(batch=3, seed=seed))
            side = subject.sides[side_index]
            value, logdet = side(side.value, subject.cond)
            weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype)
            loss = (value.flatten() * weights).sum() + (logdet * weights[: len(logdet)]).sum()
            names = [n for n, p in subject.layer.named_parameters() if p.requires_grad]
            if not names:
                break
            if not loss.requires_grad:
                raise AssertionError(f"{side.who}: expected gradients for {names}, got none at all")
            parameters = [subject.layer.get_parameter(name) for name in names]
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
            for name, grad in zip(names, grads, strict=True):
                if grad is not None and not grad.isfinite().all():
                    raise AssertionError(
                        f"{side.who}: expected a finite gradient for {name}, got NaN or infinity"
                    )
            unused = {
                name
                for name, grad in zip(names, grads, strict=True)
                if grad is None or not grad.any()
            }
            without = unused if seed == 0 else without & unused
        if without:
            raise AssertionError(
                f"{side.who}: expected a gradient for every parameter, got none for "
                f"{sorted(without)} (constants are buffers)"
            )
