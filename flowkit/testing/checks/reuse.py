"""Use, change, use again."""

from __future__ import annotations

from collections.abc import Callable

import torch

from flowkit.contract import Bijection, Example
from flowkit.testing.comparison import close
from flowkit.testing.subject import built, each, subject_of
from flowkit.testing.tolerances import FLOAT32_LOGDET, FLOAT64

Change = Callable[[Bijection, Bijection], None]


def check_reuse(example: Example) -> None:
    """A layer that has been used and whose parameters have then changed, by an optimiser's step, by
    `.data`, by loading a state, or to another precision, is the same map as a fresh layer with
    those parameters: nothing that depends on them is remembered."""
    for how, change in CHANGES.items():
        subject = subject_of(example)
        for side in subject.sides:
            side(side.value, subject.cond)
            with torch.no_grad():
                side(side.value, subject.cond)
        change(subject.layer, built(example, 1, torch.float64))
        dtype = torch.float32 if how == PRECISION else torch.float64
        fresh = built(example, 2, dtype)
        fresh.load_state_dict(subject.layer.state_dict())
        cond = each(subject.cond, lambda entry, dtype=dtype: entry.to(dtype))
        tolerance = FLOAT32_LOGDET if how == PRECISION else FLOAT64
        for side in subject.sides:
            value = side.value.to(dtype)
            results = side(value, cond), side.of(fresh, "fresh")(value, cond)
            for what, got, expected in zip(("value", "log-det"), *results, strict=True):
                if not close(got, expected, max(tolerance, example.tolerance)):
                    raise AssertionError(
                        f"{side.who}, used, then changed {how}: expected the {what} of a fresh "
                        "layer with these parameters, got another (is something remembered that "
                        "depends on them?)"
                    )


def _step(layer: Bijection, other: Bijection) -> None:
    with torch.no_grad():
        for parameter, value in _learned(layer, other):
            parameter.add_(0.2 * (value - parameter))


def _data(layer: Bijection, other: Bijection) -> None:
    for parameter, value in _learned(layer, other):
        parameter.data.add_(0.2 * (value.detach() - parameter.data))


def _another_data(layer: Bijection, other: Bijection) -> None:
    for parameter, value in _learned(layer, other):
        parameter.data = parameter.data + 0.2 * (value.detach() - parameter.data)


def _load(layer: Bijection, other: Bijection) -> None:
    layer.load_state_dict(other.state_dict())


def _narrow(layer: Bijection, other: Bijection) -> None:
    layer.float()


def _learned(layer: Bijection, other: Bijection):
    pairs = zip(layer.parameters(), other.parameters(), strict=True)
    return [(p, value) for p, value in pairs if p.requires_grad]


PRECISION = "to another precision"
CHANGES: dict[str, Change] = {
    "by a step in place": _step,
    "through .data": _data,
    "by another .data": _another_data,
    "by load_state_dict": _load,
    PRECISION: _narrow,
}
