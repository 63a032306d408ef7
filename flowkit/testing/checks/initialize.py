"""Set from data."""

from __future__ import annotations

from unittest import SkipTest

import torch

from flowkit.contract import Example
from flowkit.density.initialization import initialize
from flowkit.testing.draws import Draw
from flowkit.testing.subject import require_same_state, state_of, subject_of


def check_initialize(example: Example) -> None:
    """What `flowkit.initialize` makes of a layer follows from the batch: whatever was before in the
    modules that have an `initialize_from`, it is gone afterwards, and a second call changes
    nothing.

    Raises:
        unittest.SkipTest: there is no such module, or the layer runs it backwards.
    """
    subject = subject_of(example, Draw(batch=8))
    who, layer = f"{subject.who}, after initialize", subject.layer
    other = subject_of(example, Draw(batch=8)).layer
    found = [module for module in other.modules() if hasattr(module, "initialize_from")]
    if not found:
        raise SkipTest("nothing in this layer is set from data")
    with torch.no_grad():
        for module in found:
            for parameter in module.parameters(recurse=False):
                parameter.add_(1)
    try:
        initialize(layer, subject.x, subject.cond)
    except ValueError as error:
        raise SkipTest(str(error)) from error
    first = state_of(layer)
    initialize(other, subject.x, subject.cond)
    require_same_state(f"{who}, whatever it was before", other, first)
    initialize(layer, subject.x, subject.cond)
    require_same_state(f"{who}, twice", layer, first)
