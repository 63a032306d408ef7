"""Captured as a graph, by torch.compile and torch.export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.contract import Bijection, Cond, Example
from flowkit.testing.comparison import require_close
from flowkit.testing.draws import Draw
from flowkit.testing.subject import each, rows, said, subject_of
from flowkit.testing.tolerances import FLOAT64

PARTS = ("value of forward", "log-det of forward", "value of inverse", "log-det of inverse")


class BothWays(nn.Module):
    """Forward of x and inverse of y at once, so that one graph is captured and not two."""

    def __init__(self, layer: Bijection) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, y: Tensor, cond: Cond = None) -> tuple[Tensor, ...]:
        return *self.layer(x, cond), *self.layer.inverse(y, cond)


def check_compiles(example: Example) -> None:
    """torch.compile finds no graph break and gives the same numbers, both ways, with a condition or
    after `given`."""
    subject = subject_of(example)
    layers = [(subject.layer, subject.cond, subject.who)]
    if example.cond_shape is not None:
        layers.append((subject.layer.given(subject.cond), None, f"{subject.who}.given(cond)"))
    for layer, cond, who in layers:
        both = BothWays(layer)
        expected = both(subject.x, subject.y, cond)
        # The backend "eager" runs the captured graph as it is: what is tested is the capture.
        torch.compiler.reset()
        try:
            got = torch.compile(both, fullgraph=True, backend="eager")(subject.x, subject.y, cond)
        except Exception as error:
            raise AssertionError(
                f"{who}: expected torch.compile(fullgraph=True) to take it, got {said(error)}"
            ) from error
        finally:
            torch.compiler.reset()
        # To rounding: under a compiler an op may choose another implementation.
        for what, a, b in zip(PARTS, got, expected, strict=True):
            require_close(f"{who}, compiled", f"the same {what}", a, b, FLOAT64)


def check_exports(example: Example) -> None:
    """torch.export makes a graph, without running Python again, that gives the same numbers; where
    it was made for any number of samples, also for another one."""
    subject = subject_of(example, Draw(batch=5))
    both = BothWays(subject.layer)
    few = 3
    expected = both(subject.x, subject.y, subject.cond)
    some = (*(side.value[:few] for side in subject.sides), rows(subject.cond, slice(few)))
    dynamic = {0: torch.export.Dim.AUTO}
    shapes = (dynamic, dynamic, each(subject.cond, lambda _: dynamic))  # pyright: ignore[reportArgumentType]
    try:
        graph = torch.export.export(both, some, dynamic_shapes=shapes, strict=False)
        got = graph.module()(*some)
    except Exception as error:
        raise AssertionError(
            f"{subject.who}: expected torch.export to take it, got {said(error)}"
        ) from error
    for what, a, b in zip(PARTS, got, expected, strict=True):
        require_close(f"{subject.who}, exported", f"the same {what}", a, b[:few], FLOAT64)
    try:
        got = graph.module()(subject.x, subject.y, subject.cond)
    except AssertionError:  # a guard: unlike x.shape[0], `len(x)` is made a constant of the graph
        return
    for what, a, b in zip(PARTS, got, expected, strict=True):
        require_close(f"{subject.who}, exported", f"the same {what} of 5", a, b, FLOAT64)
