"""What was caught of what was planted, file by file, and what that says of all mutants."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation.defects import ROOT

PAGE = ROOT / "docs" / "features.md"
RECORD = ROOT / "benchmarks" / "results" / "mutants.json"
Entry = dict[str, Any]


Known = Mapping[tuple[str, str, str], str]
"""Why a survivor may be one, by its file, function and change."""


def reasons() -> Known:
    """What tests/survivors.toml says."""
    with (ROOT / "tests" / "survivors.toml").open("rb") as file:
        entries = tomllib.load(file).get("survivor", [])
    return {(entry["file"], entry["in"], entry["change"]): entry["why"] for entry in entries}


def recorded(path: Path = RECORD) -> dict[str, Entry]:
    """The entries by file: how many mutants there are, how many were drawn, how many of these the
    checks caught and how many the tests, how many of both only on a later try, and which survived.
    """
    return json.loads(path.read_text())["files"] if path.exists() else {}


@dataclass(frozen=True)
class Score:
    """The share caught of the mutants that can be noticed, files weighted by how many they have,
    and half the width of its 95 % interval (0 where every mutant was tried), which ends at 1."""

    planted: int
    drawn: int
    by_checks: int
    by_tests: int
    excused: int
    share: float
    half: float

    def __str__(self) -> str:
        return (
            f"{self.drawn} of {self.planted} mutants tried: {self.by_checks} caught by the checks, "
            f"{self.by_tests} more by the tests, {self.excused} survive for a reason that is known,"
            f" {self.drawn - self.by_checks - self.by_tests - self.excused} without; caught of "
            f"those that can be: {self.caught}"
        )

    @property
    def caught(self) -> str:
        """The share and its interval."""
        if not self.drawn:
            return "–"
        if not self.half:
            return f"{self.share:.1%}"
        low, high = max(self.share - self.half, 0.0), min(self.share + self.half, 1.0)
        return f"{self.share:.1%} ({low:.1%} to {high:.1%})"


def score(files: Mapping[str, Entry], known: Known) -> Score:
    """Stratified by file: Σ (cf + (Nf - nf)·c'f/nf) / Σ Nf·(nf - ef)/nf, N planted, n drawn, c
    caught, c' of these on the first try, e excused. A survivor that was mended for says nothing
    about those that weren't drawn: they count as it was before.

    The variance of each file's share, over samples without replacement, is that of
    (c' + 1/2)/(n + 1), so that a file of which everything drawn was caught counts as uncertain,
    and is 0 where everything was drawn. A file of which nothing was drawn is in the number of
    those planted alone."""
    planted = drawn = by_checks = by_tests = excused = 0
    caught_of_all = expected_of_all = variance = 0.0
    for name, entry in files.items():
        n, total = entry["drawn"], entry["planted"]
        planted += total
        if not n:
            continue
        may = sum((name, s["in"], s["change"]) in known for s in entry["survivors"])
        caught = entry["by_checks"] + entry["by_tests"]
        first = caught - entry.get("later", 0)
        drawn, excused = drawn + n, excused + may
        by_checks, by_tests = by_checks + entry["by_checks"], by_tests + entry["by_tests"]
        caught_of_all += caught + (total - n) * first / n
        expected_of_all += total * (n - may) / n
        smoothed = (first + 0.5) / (n - may + 1)
        variance += total**2 * (1 - n / total) * smoothed * (1 - smoothed) / n
    share = caught_of_all / expected_of_all if expected_of_all else 0.0
    half = 1.96 * math.sqrt(variance) / expected_of_all if expected_of_all else 0.0
    return Score(planted, drawn, by_checks, by_tests, excused, share, half)


def table(files: Mapping[str, Entry], known: Known) -> str:
    """The scores of each folder, and of all, in columns."""
    folders: dict[str, dict[str, Entry]] = {}
    for name, entry in sorted(files.items()):
        folders.setdefault(name.rpartition("/")[0], {})[name] = entry
    rows = [("", "planted", "tried", "by checks", "by tests", "excused", "survive", "share caught")]
    for folder, part in [*folders.items(), ("all", files)]:
        s = score(part, known)
        survive = s.drawn - s.by_checks - s.by_tests - s.excused
        counts = s.planted, s.drawn, s.by_checks, s.by_tests, s.excused, survive
        rows.append((folder, *map(str, counts), s.caught))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def write_down(text: str) -> None:
    """Put the table into the page that shows it."""
    page = PAGE.read_text()
    PAGE.write_text(re.sub(r"(?<=```text\n).*?(?=\n```)", lambda _: text, page, flags=re.DOTALL))
