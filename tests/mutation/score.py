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


def reasons() -> dict[tuple[str, str], str]:
    """Why a survivor may be one, by its file and change."""
    with (ROOT / "tests" / "survivors.toml").open("rb") as file:
        entries = tomllib.load(file).get("survivor", [])
    return {(entry["file"], entry["change"]): entry["why"] for entry in entries}


def recorded(path: Path = RECORD) -> dict[str, Entry]:
    """The entries by file: how many mutants there are, how many were drawn, how many of these the
    checks caught and how many the tests, and which survived."""
    return json.loads(path.read_text())["files"] if path.exists() else {}


@dataclass(frozen=True)
class Score:
    """The share caught of the mutants that can be noticed, files weighted by how many they have,
    and half the width of its 95 % interval (0 where every mutant was tried)."""

    planted: int
    drawn: int
    by_checks: int
    by_tests: int
    excused: int
    share: float
    half: float

    def __str__(self) -> str:
        interval = f" ± {self.half:.1%}" if self.half else ""
        return (
            f"{self.drawn} of {self.planted} mutants tried: {self.by_checks} caught by the checks, "
            f"{self.by_tests} more by the tests, {self.excused} survive for a reason that is known,"
            f" {self.drawn - self.by_checks - self.by_tests - self.excused} without; caught of "
            f"those that can be: {self.share:.1%}{interval}"
        )


def score(files: Mapping[str, Entry], known: Mapping[tuple[str, str], str]) -> Score:
    """Stratified by file: Σ Nf·cf/nf / Σ Nf·(nf - ef)/nf, N planted, n drawn, c caught, e excused.
    The variance of each file's share is that of (c + 1/2)/(n + 1), so that a file of which
    everything drawn was caught counts as uncertain, and is 0 where everything was drawn."""
    planted = drawn = by_checks = by_tests = excused = 0
    caught_of_all = expected_of_all = variance = 0.0
    for name, entry in files.items():
        n, total = entry["drawn"], entry["planted"]
        if not n:
            continue
        may = sum((name, survivor["change"]) in known for survivor in entry["survivors"])
        caught = entry["by_checks"] + entry["by_tests"]
        planted, drawn, excused = planted + total, drawn + n, excused + may
        by_checks, by_tests = by_checks + entry["by_checks"], by_tests + entry["by_tests"]
        caught_of_all += total * caught / n
        expected_of_all += total * (n - may) / n
        smoothed = (caught + 0.5) / (n - may + 1)
        variance += total**2 * (1 - n / total) * smoothed * (1 - smoothed) / n
    share = caught_of_all / expected_of_all if expected_of_all else 0.0
    half = 1.96 * math.sqrt(variance) / expected_of_all if expected_of_all else 0.0
    return Score(planted, drawn, by_checks, by_tests, excused, share, half)


def table(files: Mapping[str, Entry], known: Mapping[tuple[str, str], str]) -> str:
    """The scores of each folder, and of all, in columns."""
    folders: dict[str, dict[str, Entry]] = {}
    for name, entry in sorted(files.items()):
        folders.setdefault(name.rpartition("/")[0], {})[name] = entry
    rows = [("", "planted", "tried", "by checks", "by tests", "excused", "survive", "share caught")]
    for folder, part in [*folders.items(), ("all", files)]:
        s = score(part, known)
        survive = s.drawn - s.by_checks - s.by_tests - s.excused
        counts = s.planted, s.drawn, s.by_checks, s.by_tests, s.excused, survive
        share = f"{s.share:.1%}" + (f" ± {s.half:.1%}" if s.half else "")
        rows.append((folder, *map(str, counts), share))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def write_down(text: str) -> None:
    """Put the table into the page that shows it."""
    page = PAGE.read_text()
    PAGE.write_text(re.sub(r"(?<=```text\n).*?(?=\n```)", lambda _: text, page, flags=re.DOTALL))
