"""The condition given beforehand."""

from __future__ import annotations

import torch

from flowkit.contract import Bijection, Cond, Example
from flowkit.testing.comparison import close, require_close
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import Side, Subject, each, entries, entry_called, loss_of, subject_of
from flowkit.testing.tolerances import FLOAT64


@over_draws(4, batches=(2, 1, 3))
def check_given(example: Example, draw: Draw) -> None:
    """`given(cond)` is the same map, both ways, with the same gradients, also the parameters'; it
    serves k·B samples under B conditions, and after its parameters have changed it is the new map
    or refuses."""
    subject = subject_of(example, draw)
    cond = each(subject.cond, lambda entry: entry.requires_grad_())
    given = _given(subject, cond)
    for side in subject.sides:
        with_cond = side.of(given, "given(cond)")
        _check_values(side, with_cond, cond, count=1)
        _check_values(side, with_cond, cond, count=3)
        _check_gradients(side, with_cond, cond, subject)
        _check_number(side, with_cond, cond)
    _check_change(subject, given, cond)


def _given(subject: Subject, cond: Cond) -> Bijection:
    try:
        given = subject.layer.given(cond)
    except Exception as error:
        raise AssertionError(
            f"{subject.who}.given: expected a bijection, got {type(error).__name__}: {error}"
        ) from error
    if not isinstance(given, Bijection):
        raise AssertionError(
            f"{subject.who}.given: expected a bijection, got {type(given).__name__}"
        )
    return given


def _check_values(side: Side, given: Side, cond: Cond, count: int) -> None:
    # The samples differ, so that a mixed-up order of conditions shows.
    value = torch.cat([side.value.detach().roll(k, dims=-1) for k in range(count)])
    many = each(cond, lambda entry: torch.cat([entry] * count))
    who = given.who if count == 1 else f"{given.who}, {count} samples a condition"
    results = Side(who, *given[1:])(value, None), side(value, many)
    for what, got, expected in zip(("value", "log-det"), *results, strict=True):
        require_close(who, f"the {what} of {side.name}(·, cond)", got, expected, FLOAT64)


def _check_gradients(side: Side, given: Side, cond: Cond, subject: Subject) -> None:
    parameters = {n: p for n, p in subject.layer.named_parameters() if p.requires_grad}
    value = side.value.detach().clone().requires_grad_()
    inputs = {
        "the input": value,
        **{f"the condition{entry_called(k)}": e for k, e in entries(cond).items()},
        **parameters,
    }
    gradients = []
    for loss in (loss_of(*given(value, None)), loss_of(*side(value, cond))):
        gradients.append(
            torch.autograd.grad(
                loss,
                list(inputs.values()),
                allow_unused=True,
                materialize_grads=True,
                retain_graph=True,
            )
            if loss.requires_grad
            else [torch.zeros_like(tensor) for tensor in inputs.values()]
        )
    for name, got, expected in zip(inputs, *gradients, strict=True):
        cut = not got.any() and bool(expected.any())
        because = "is the work of given done without gradients?" if cut else ""
        require_close(
            given.who, f"the gradient for {name} as without given", got, expected, FLOAT64, because
        )


def _check_number(side: Side, given: Side, cond: Cond) -> None:
    batch = len(side.value)
    if cond is None or batch < 2:
        return
    value = torch.cat([side.value.detach(), side.value[:1].detach()])
    try:
        given.map(value)
    except Exception:  # that it isn't silent is what matters
        return
    raise AssertionError(
        f"{given.who}: expected a refusal of {batch + 1} samples under {batch} conditions, "
        "got a result"
    )


def _check_change(subject: Subject, given: Bijection, cond: Cond) -> None:
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in subject.layer.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.add_(0.05 * noise)
        for side in subject.sides:
            try:
                came = (given if side.name == "forward" else given.inverse)(side.value)
            except ValueError:
                continue
            expected = side(side.value, cond)
            if not all(close(a, b, FLOAT64) for a, b in zip(came, expected, strict=True)):
                raise AssertionError(
                    f"{side.who}, given(cond), after the parameters changed: expected the changed "
                    "map, or a ValueError, got neither (work done with the old parameters?)"
                )
