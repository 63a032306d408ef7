"""Scores for people (a table), for spreadsheets (CSV) and for the record (JSON)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from llflow.atomic import write_atomically
from llflow.evaluation.conventions import GREY, Convention
from llflow.evaluation.evaluate import Scores
from llflow.evaluation.intervals import LEVEL, RESAMPLES, bootstrap

WIDTH = 100  # characters


def summary(scores: Scores, scenes: Sequence[Hashable]) -> dict[str, np.ndarray]:
    """By method, (3, conventions): mean over pictures, lower and upper end of its interval.

    Args:
        scores: of the pictures.
        scenes: each picture's, see `bootstrap`.
    """
    return {
        method: np.vstack([values.mean(0), bootstrap(values, scenes)])
        for method, values in scores.values.items()
    }


def interval_in_words(scenes: Sequence[Hashable]) -> str:
    """What was drawn for the intervals."""
    count = len(set(scenes))
    drawn = (
        f"{count} scenes of {len(scenes)} pictures"
        if count < len(scenes)
        else f"{count} pictures one by one, as if no two were of one scene"
    )
    return f"{LEVEL * 100:.0f} % bootstrap interval, drawing {drawn}"


def table(scores: Scores, scenes: Sequence[Hashable]) -> str:
    """Markdown: a row a convention, a column a method; several tables if one were too wide."""
    titles, rows = [""], []
    groups = groupby(enumerate(scores.conventions), key=lambda pair: pair[1].adjustment)
    for adjustment, group in groups:
        titles.append(f"**{adjustment.title}**")
        rows.append(None)
        for index, convention in group:
            titles.append(convention.title)
            rows.append(index)
    parts = [[_aligned(titles)]]
    for method, means in summary(scores, scenes).items():
        cells = ["" if i is None else _cell(scores.conventions[i], means[:, i]) for i in rows]
        column = _aligned([method.replace("|", "\\|"), *cells])
        width = sum(len(c[0]) + 3 for c in [*parts[-1], column]) + 1
        if width > WIDTH and len(parts[-1]) > 1:
            parts.append([parts[0][0]])
        parts[-1].append(column)
    return "\n\n".join(_markdown(columns) for columns in parts)


def _aligned(column: Sequence[str]) -> list[str]:
    width = max(3, *map(len, column))
    return [text.ljust(width) for text in column]


def _markdown(columns: Sequence[Sequence[str]]) -> str:
    header, *rows = (f"| {' | '.join(row)} |" for row in zip(*columns, strict=True))
    rule = f"|{'|'.join('-' * (len(column[0]) + 2) for column in columns)}|"
    return "\n".join([header, rule, *rows])


def _cell(convention: Convention, values: np.ndarray) -> str:
    digits = 2 if convention.measure == "psnr" else 4
    mean, low, high = values
    if math.isnan(mean):
        return "-"
    ends = min(digits, 3)
    interval = f" [{low:.{ends}f}, {high:.{ends}f}]" if math.isfinite(low) else ""
    return f"{mean:.{digits}f}{interval}"


def write_csv(path: Path, scores: Scores, *, overwrite: bool = True) -> None:
    """A line a picture and method, a column a convention; where a file is only if it may
    `overwrite` that."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "method", *(c.key for c in scores.conventions)])
    for method, values in scores.values.items():
        for picture, row in zip(scores.pictures, values.tolist(), strict=True):
            writer.writerow([picture, method, *row])
    content = text.getvalue().encode(errors="backslashreplace")  # names may be no Unicode
    write_atomically(path, lambda file: file.write(content), overwrite=overwrite)


def write_json(
    path: Path,
    scores: Scores,
    scenes: Sequence[Hashable],
    settings: Mapping[str, Any],
    *,
    overwrite: bool = True,
) -> None:
    """Every figure, `settings`, and the protocol in words; where a file is only if it may
    `overwrite` that.

    What isn't a number is null (a picture too small, an interval of a single scene), infinity is
    the text "inf".
    """
    keys = [convention.key for convention in scores.conventions]
    means = summary(scores, scenes)
    record = {
        **settings,
        "protocol": {
            "adjustments": {c.adjustment.key: c.adjustment.definition for c in scores.conventions},
            "measures": {c.measure: c.definition for c in scores.conventions},
            "names": "a figure's name is ADJUSTMENT_MEASURE",
            "grey": GREY,
            "mean": "over pictures, each with the same weight",
            "interval": f"{interval_in_words(scenes)}; percentiles of {RESAMPLES} draws, seed 0",
        },
        "means": {
            method: {
                key: {"mean": _number(mean), "interval": [_number(low), _number(high)]}
                for key, (mean, low, high) in zip(keys, values.T.tolist(), strict=True)
            }
            for method, values in means.items()
        },
        "pictures": {
            method: {
                picture: dict(zip(keys, map(_number, row), strict=True))
                for picture, row in zip(scores.pictures, values.tolist(), strict=True)
            }
            for method, values in scores.values.items()
        },
    }
    content = json.dumps(record, indent=1, allow_nan=False).encode()
    write_atomically(path, lambda file: file.write(content), overwrite=overwrite)


def _number(value: float) -> float | str | None:
    return value if math.isfinite(value) else None if math.isnan(value) else str(value)
