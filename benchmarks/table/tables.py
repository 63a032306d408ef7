"""Tables of the UCI repository: -log p of rows that weren't trained on, in nats.

A density of all columns, or of one given the others. A seed is a split, a fifth of the rows for
the test. Taken is what comes with packages: scikit-learn's diabetes, wine, breast cancer and
digits (optical recognition), and the Boston housing of Orange's wheel. Concrete, energy, kin8nm,
naval, power, protein and yacht, with which the literature goes on, lie in no package of PyPI or
Debian that was found.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from likelihood import Training, score, train
from part import Part
from sklearn import datasets
from splines import FLOWS
from torch import Tensor
from wheels import wheel

TRAINING = Training(epochs=100, batch=64, rate=2e-3)
Table = tuple[Tensor, Tensor | None]


def diabetes() -> Table:
    """Progress, a whole number, given ten measurements of 442 patients."""
    measured, progress = datasets.load_diabetes(return_X_y=True)
    return _dequantized(np.asarray(progress)[:, None], 1.0), torch.tensor(measured)


def housing() -> Table:
    """Price, in steps of 0.1, given thirteen measurements of 506 quarters."""
    with zipfile.ZipFile(wheel("orange3", "3.40.0")) as file:
        content = file.read("Orange/datasets/housing.tab")
    rows = np.loadtxt(io.BytesIO(content), skiprows=3)
    return _dequantized(rows[:, -1:], 0.1), torch.tensor(rows[:, :-1])


def wine() -> Table:
    """Thirteen measurements of 178 wines."""
    return torch.tensor(datasets.load_wine(return_X_y=True)[0]), None


def breast_cancer() -> Table:
    """Thirty measurements of 569 pictures."""
    return torch.tensor(datasets.load_breast_cancer(return_X_y=True)[0]), None


def digits() -> Table:
    """64 numbers of 17 levels of 1797 digits."""
    return _dequantized(datasets.load_digits(return_X_y=True)[0], 1.0), None


def _dequantized(values: np.ndarray, step: float) -> Tensor:
    """Numbers that were rounded down to a step, made continuous: else their density is infinite."""
    return torch.tensor(values) + step * torch.rand(values.shape, dtype=torch.float64)


TABLES: dict[str, Callable[[], Table]] = {
    table.__name__: table for table in (diabetes, housing, wine, breast_cancer, digits)
}


def measure(task: str, peer: str, seed: int, quick: bool) -> dict[str, Any]:
    how = Training(epochs=1, batch=64, rate=1e-3) if quick else TRAINING
    torch.manual_seed(seed)
    x, cond = TABLES[task]()
    order = torch.randperm(len(x))
    rows, test = order[len(x) // 5 :], order[: len(x) // 5]
    scaled, unit = _standardized(x, rows)
    given = None if cond is None else _standardized(cond, rows)[0]
    torch.manual_seed(seed)
    density = FLOWS[peer](x.shape[1], 0 if given is None else given.shape[1])

    def of(rows: Tensor) -> tuple[Tensor, Tensor | None]:
        return scaled[rows], None if given is None else given[rows]

    trained = train(density, *of(rows), how)
    return {"value": score(density, *of(test)) + unit.log().sum().item(), **asdict(trained)}


def _standardized(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """By these rows' means and deviations, and the deviations; a constant column stays."""
    deviation = x[rows].std(0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return ((x - x[rows].mean(0)) / deviation).float(), deviation


ALONE = ("diabetes", "housing")
"""One number each, of which FrEIA has no map but an affine one."""
PART = Part(
    "tables",
    {task: [p for p in FLOWS if task not in ALONE or p != "FrEIA"] for task in TABLES},
    measure,
)
