"""What each layer of a flow does to one batch: a table, and a picture of it."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.functional import jacobian, jvp, vjp

from flowkit.choice import implementation
from flowkit.combine import At, Chain, Inverse, OnChannels
from flowkit.combine.parts import run
from flowkit.conditions import mapped
from flowkit.contract import Bijection, Cond, Given, Shape
from flowkit.reversible import Reversible

EXACT = 64
"""Numbers of a sample up to which its Jacobian is worked out as a whole."""
ROUNDS = 20
"""Rounds of the power iteration where it isn't."""

FIGURES = "logdet", "conditioning", "error"


@dataclass(frozen=True)
class Row:
    """One layer, or the whole flow.

    Args:
        place: "2.0" is layer 0 of the chain that is layer 2; "" for the whole.
        name: the layer's class, and the condition's entry that it sees.
        shape: (C, *S) of a sample behind it.
        parameters: how many numbers it learns.
        logdet: its log-det, mean over the batch.
        share: |logdet| by the sum over all layers of such.
        conditioning: σ_max/σ_min of the Jacobian at the batch's first sample.
        exact: whether from the whole Jacobian; else from two power iterations, which give a lower
            bound.
        error: largest |f⁻¹(f(x)) - x| over the batch.
    """

    place: str
    name: str
    shape: Shape
    parameters: int
    logdet: float
    share: float
    conditioning: float
    exact: bool
    error: float


@dataclass(frozen=True)
class Summary:
    """A row for each layer and one for the whole flow; `print` shows the table."""

    rows: list[Row]
    whole: Row

    def __str__(self) -> str:
        head = ["layer", "", "shape", "parameters", "log-det", "share", "conditioning", "inverse"]
        lines = [head, *map(_cells, [*self.rows, self.whole])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        left = (str.ljust, str.ljust, str.ljust)
        align = (*left, *[str.rjust] * (len(head) - len(left)))
        return "\n".join(
            "  ".join(a(c, w) for a, c, w in zip(align, line, widths, strict=True)).rstrip()
            for line in lines
        )

    def picture(self, path: str | os.PathLike[str]) -> None:
        """Draw log-det, conditioning and error of the inverse by layer.

        Args:
            path: where to; its end tells the format, such as .png or .svg.

        Raises:
            ImportError: matplotlib isn't installed.
            ValueError: matplotlib knows no such format.
        """
        from matplotlib.figure import Figure

        rows = self.rows[::-1]
        labels = [f"{row.place}  {row.name}" for row in rows]
        figure = Figure(figsize=(11, 1.2 + 0.28 * len(rows)), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        titles = "log-det, nats", "conditioning", "error of the inverse"
        for panel, title, what in zip(panels, titles, FIGURES, strict=True):
            values = [getattr(row, what) for row in rows]
            panel.barh(range(len(rows)), values, color="#33658a")
            panel.set_title(title)
            if what != "logdet" and any(0 < value < math.inf for value in values):
                panel.set_xscale("log")
        panels[0].set_yticks(range(len(rows)), labels)
        drawn = io.BytesIO()
        figure.savefig(drawn, format=Path(path).suffix.removeprefix(".") or "png", dpi=120)
        Path(path).write_bytes(drawn.getvalue())


def summarized(bijection: Bijection, x: Tensor, cond: Cond) -> Summary:
    """The summary of data -> noise for a batch x (B, C, *S), B >= 1."""
    rows: list[Row] = []

    def visit(layer: Bijection, x: Tensor, cond: Cond, place: str, entry: str) -> Tensor:
        kind = type(layer)
        if isinstance(layer, Chain) and kind is Chain:
            for number, inner in enumerate(layer):
                x = visit(inner, x, cond, f"{place}.{number}".lstrip("."), entry)
            return x
        if isinstance(layer, At) and kind is At:
            return visit(layer.bijection, x, layer.entry(cond), place, f"{entry}[{layer.key!r}]")
        if isinstance(layer, Given) and kind is Given:
            return visit(layer.bijection, x, layer.cond, place, entry)
        if isinstance(layer, OnChannels) and kind is OnChannels:
            first, rest = x[:, : layer.channels], x[:, layer.channels :]
            return torch.cat([visit(layer.bijection, first, cond, place, entry), rest], dim=1)
        row, y = _row(layer, x, cond, place, type(layer).__name__ + entry)
        rows.append(row)
        return y

    bijection = _remembering(bijection)
    with torch.no_grad():
        visit(bijection, x, cond, "", "")
        whole, _ = _row(bijection, x, cond, "", "whole flow")
    total = sum(abs(row.logdet) for row in rows) or 1.0
    shared = [replace(row, share=abs(row.logdet) / total) for row in rows]
    return Summary(shared, replace(whole, share=1.0))


def _remembering(layer: Bijection) -> Bijection:
    """The same layers without `Reversible`, whose gradients have no gradients."""
    kind = type(layer)
    if isinstance(layer, Reversible) and kind is Reversible:
        return _remembering(layer.bijection)
    if isinstance(layer, Chain) and kind is Chain:
        return Chain(*map(_remembering, layer))
    if isinstance(layer, At) and kind is At:
        return At(layer.key, _remembering(layer.bijection))
    if isinstance(layer, OnChannels) and kind is OnChannels:
        return OnChannels(layer.channels, _remembering(layer.bijection))
    if isinstance(layer, Inverse) and kind is Inverse:
        return Inverse(_remembering(layer.bijection))
    return layer


def _row(layer: Bijection, x: Tensor, cond: Cond, place: str, name: str) -> tuple[Row, Tensor]:
    y, logdet = run(layer, x, cond)
    back, _ = run(layer, y, cond, inverse=True)
    one = mapped(cond, lambda entry: entry[:1])
    conditioning, exact = _conditioning(
        lambda value: run(layer, value, one)[0],
        lambda value: run(layer, value, one, inverse=True)[0],
        x[:1],
        y[:1],
    )
    row = Row(
        place,
        name,
        tuple(y.shape[1:]),
        sum(p.numel() for p in layer.parameters() if p.requires_grad),
        logdet.mean().item(),
        0.0,
        conditioning,
        exact,
        (back - x).abs().max().item(),
    )
    return row, y


Function = Callable[[Tensor], Tensor]


def _conditioning(forward: Function, inverse: Function, x: Tensor, y: Tensor) -> tuple[float, bool]:
    """σ_max/σ_min of the Jacobian at x, and whether it is exact."""
    count = x.numel()
    # Kernels have a gradient, but not one of that.
    with torch.enable_grad(), implementation("reference"):
        if count <= EXACT:
            slope = jacobian(forward, x)
            assert isinstance(slope, Tensor)
            values = torch.linalg.svdvals(slope.reshape(count, count).double())
            return (values[0] / values[-1]).item(), True
        return _stretch(forward, x) * _stretch(inverse, y), False


def _stretch(function: Function, x: Tensor) -> float:
    """σ_max of the Jacobian at x by the power method on JᵀJ, from below."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=generator).to(x)
    size = torch.tensor(0.0)
    for _ in range(ROUNDS):
        stretched = jvp(function, x, v / v.norm())[1]
        assert isinstance(stretched, Tensor)
        size = stretched.norm()
        v = vjp(function, x, stretched)[1]
        assert isinstance(v, Tensor)
        if not size > 0:
            break
    return size.item()


def _cells(row: Row) -> list[str]:
    return [
        row.place,
        row.name,
        "×".join(map(str, row.shape)),
        str(row.parameters),
        f"{row.logdet:.2f}",
        f"{100 * row.share:.0f} %",
        ("" if row.exact else "> ") + f"{row.conditioning:.3g}",
        f"{row.error:.0e}",
    ]
