"""What has become worse between two runs of the benchmarks? Reads results, runs nothing.

python benchmarks/compare.py OLD NEW

OLD and NEW are folders of results, such as `benchmarks/results` of two checkouts, or one file of
each. Numbers that both have are compared: each target's result, and each of our times, as a ratio
to what it was measured beside in the same process, so that the machine's own speed cancels. Worse
is a result that has moved to the wrong side by more than --tolerance, or a ratio that has grown by
more than that and whose quartiles lie apart. Then the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import report
from measure import Spread


@dataclass(frozen=True)
class Number:
    """One number of a run: its quartiles, and whether more of it is better."""

    spread: Spread
    more_is_better: bool = False

    def change_to(self, new: Number) -> float:
        """By which factor it has become worse; below 1 where better."""
        old, came = self.spread.median, new.spread.median
        return old / came if self.more_is_better else came / old

    def apart_from(self, new: Number) -> bool:
        first, second = sorted((self.spread, new.spread), key=lambda spread: spread.median)
        return first.upper < second.lower


def numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, Number]]:
    """The numbers of one benchmark by name: results of targets, then ratios of our times."""
    for target in record["targets"]:
        if target["result"] is not None:
            result = Spread(*[target["result"]] * 3)
            yield target["what"], Number(result, target["at_least"])
    for title, rows in record["tables"].items():
        for row in rows:
            if not report.is_ours(row.get("way", "flowkit")):
                continue
            for column, value in row.items():
                if isinstance(value, Mapping) and "time" in column:
                    name = f"{title}, {', '.join(report.names(row))}: {column}"
                    yield name, Number(Spread(**value))


def read(path: Path) -> dict[str, Number]:
    """The numbers of a folder of results, or of one file."""
    records = report.read(path) if path.is_dir() else report.read(path.parent)
    if path.is_file():
        records = [record for record in records if record["name"] == path.stem]
    return {
        f"{record['name']}: {name}": number
        for record in records
        for name, number in numbers(record)
    }


def compared(
    old: Mapping[str, Number], new: Mapping[str, Number], tolerance: float
) -> list[dict[str, Any]]:
    """A row for each number that both have, the worst first."""
    rows = []
    for name in old.keys() & new.keys():
        before, after = old[name], new[name]
        worse = before.change_to(after)
        verdict = "worse" if worse > 1 + tolerance else "better" if worse < 1 - tolerance else ""
        if not before.apart_from(after):
            verdict = ""
        rows.append(
            {
                "what": name,
                "old": before.spread.median,
                "new": after.spread.median,
                "worse by": worse,
                "verdict": verdict,
            }
        )
    return sorted(rows, key=lambda row: (-row["worse by"], row["what"]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument(
        "--tolerance", type=float, default=0.03, help="what may change (default %(default)s)"
    )
    parser.add_argument("--all", action="store_true", help="show what hasn't changed as well")
    args = parser.parse_args(argv)
    runs = []
    for path in (args.old, args.new):
        if not path.exists():
            parser.error(f"expected a folder or a file of results, got {path}, which isn't there")
        runs.append(read(path))
        if not runs[-1]:
            parser.error(f"expected results of benchmarks in {path}, found none")
    rows = compared(*runs, args.tolerance)
    if not rows:
        parser.error(f"expected numbers that {args.old} and {args.new} both have, found none")
    shown = [row for row in rows if args.all or row["verdict"]]
    if shown:
        print(measure.markdown(shown))
    counts = {kind: sum(row["verdict"] == kind for row in rows) for kind in ("worse", "better")}
    print(f"{len(rows)} numbers: {counts['worse']} worse, {counts['better']} better")
    return 1 if counts["worse"] else 0


if __name__ == "__main__":
    sys.exit(main())
