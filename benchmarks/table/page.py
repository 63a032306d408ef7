"""Where is flowkit ahead of its peers, and where isn't it? Reads records, measures nothing.

python benchmarks/table/page.py

Makes docs/benchmarks/table.md of benchmarks/results/table_*.jsonl and flow_step.json. With
`--take FOLDER` the records of a run elsewhere are taken over first.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import densities
import pictures
import posteriors
import simulations
import tables
from journal import Cell, cells, runs
from part import Part
from scipy.stats import t
from simulators import SIMULATORS

from llflow.atomic import write_atomically

sys.path.append(str(Path(__file__).parents[1]))
import measure

PAGE = measure.REPOSITORY / "docs" / "benchmarks" / "table.md"
PARTS = {
    module.PART.name: module for module in (posteriors, simulations, densities, tables, pictures)
}
OURS = "flowkit"
STANDINGS = ("ahead", "level", "behind", "not known")
INTRODUCTION = """\
# flowkit beside zuko, nflows, normflows and FrEIA

`python benchmarks/table/run.py` trains every library's flow on the same data, in the same way:
standardised alike, nets of the same width and of two hidden layers (residual ones, flowkit's among
them, have three), Adam with the rate along half a cosine, the weights of the best validation. Every
library is built of the layers of its own that come closest (`benchmarks/table/of_*.py`). A row is
the mean over the seeds that all of its flows have; ± is Student's interval of 95 % over them; the
best mean is **bold**. "To the best peer" is flowkit less the best of the others, seed by seed:
below 0 flowkit is ahead, and level with it where the interval holds 0. Less is better in every
table.

The defaults of `flows.nsf` were chosen by seed 0 of the simulators and of the checkerboard, among
ten compositions; of the other libraries' flows one each was tried. So seed 0 proves nothing there.
It is shown, as "looked at", until a row has another seed.
"""


class Row:
    """A task's values by flow, of the seeds that all of its flows have."""

    def __init__(self, part: Part, task: str, found: Mapping[Cell, Mapping[str, Any]]) -> None:
        self.task, self.peers = task, part.tasks[task]
        of = {p: {c.seed: v for c, v in found.items() if c[:2] == (task, p)} for p in self.peers}
        self.failed = {p: [s for s, v in of[p].items() if "failed" in v] for p in self.peers}
        seeds = set.intersection(*(set(values) for values in of.values()))
        whole = seeds.difference(*self.failed.values())
        self.seeds = sorted(whole - part.looked_at) or sorted(whole)
        self.looked_at = bool(part.looked_at.intersection(self.seeds))
        self.cells = {peer: [of[peer][seed] for seed in self.seeds] for peer in self.peers}
        self.values = {p: [cell["value"] for cell in self.cells[p]] for p in self.peers}

    def mean(self, peer: str) -> float:
        return statistics.fmean(self.values[peer])

    def best(self, among: Sequence[str]) -> str:
        return min(among, key=self.mean)

    def difference(self) -> tuple[str, list[float]]:
        """The best flow of another library, and ours less it by seed."""
        other = self.best([peer for peer in self.peers if not peer.startswith(OURS)])
        pairs = zip(self.values[OURS], self.values[other], strict=True)
        return other, [mine - theirs for mine, theirs in pairs]


def reach(values: Sequence[float]) -> float | None:
    """Half of Student's interval of 95 %; None of one value."""
    if len(values) < 2:
        return None
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return float(t.ppf(0.975, len(values) - 1)) * deviation


def shown(values: Sequence[float], sign: str = "") -> str:
    half = reach(values)
    mean = f"{statistics.fmean(values):{sign}.3f}"
    return mean if half is None else f"{mean} ± {half:.3f}"


def standing(row: Row) -> str:
    """Ahead, level or behind; of one seed that can't be told."""
    _, differences = row.difference()
    mean, half = statistics.fmean(differences), reach(differences)
    if half is None:
        return "not known"
    if abs(mean) <= half:
        return "level"
    return "ahead" if mean < 0 else "behind"


def table(part: Part, rows: Sequence[Row]) -> str:
    peers = list(dict.fromkeys(peer for row in rows for peer in row.peers))
    lines = []
    for row in rows:
        best, (other, differences) = row.best(row.peers), row.difference()
        line = {"task": row.task}
        if part.name == "posteriors":
            line["published"] = f"{SIMULATORS[row.task].published:.3f}"
        for peer in peers:
            value = shown(row.values[peer]) if peer in row.peers else "–"
            line[peer] = f"**{value}**" if peer == best else value
        line["to the best peer"] = f"{shown(differences, '+')} ({other})"
        seeds = f"{len(row.seeds)}, looked at" if row.looked_at else str(len(row.seeds))
        line["seeds"], line["flowkit is"] = seeds, standing(row)
        lines.append(line)
    return measure.markdown(lines)


def effort(rows: Sequence[Row]) -> str:
    """What the flows took, over the measured tasks that all of them have."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row.peers))
    shared = [row for row in rows if set(row.peers) == set(peers)]
    if not shared:
        return ""
    lines = []
    for peer in peers:
        of = [cell for row in shared for cell in row.cells[peer]]
        steps, seconds = (sum(cell[key] for cell in of) for key in ("steps", "seconds"))
        sizes = [cell["parameters"] for cell in of]
        ends = dict.fromkeys(f"{size:,}" for size in (min(sizes), max(sizes)))
        lines.append(
            {
                "flow": peer,
                "parameters": " to ".join(ends),
                "steps of a training": f"{steps / len(of):.0f}",
                "ms of processor a step": f"{1e3 * seconds / steps:.1f}",
                "trainings failed": str(sum(len(row.failed.get(peer, ())) for row in rows)),
            }
        )
    return measure.markdown(lines)


def section(part: Part, module: object, path: Path) -> tuple[str, list[Row]]:
    found = cells(path)
    every = [Row(part, task, found) for task in part.tasks]
    rows, without = [row for row in every if row.seeds], [row for row in every if not row.seeds]
    failed = {row.task: [p for p in row.peers if row.failed[p]] for row in without}
    lacks = {
        "Not measured yet": [task for task, peers in failed.items() if not peers],
        "Failed": [f"{task} ({', '.join(peers)})" for task, peers in failed.items() if peers],
    }
    lacking = "".join(f"\n{word}: {', '.join(of)}.\n" for word, of in lacks.items() if of)
    title, _, rest = (inspect.getdoc(module) or "").partition("\n\n")
    head = f"## {title.rstrip('.')}\n\n{rest}\n" if rest else f"## {title.rstrip('.')}\n"
    if not rows:
        return head + (lacking if lacks["Failed"] else "\nNot measured yet.\n"), []
    first, last = runs(path)[0], runs(path)[-1]
    versions = ", ".join(f"{name} {value}" for name, value in last["versions"].items())
    when = " and ".join(
        dict.fromkeys(f"{run['date']} UTC, commit {_commit(run)}" for run in (first, last))
    )
    where = f"{when}; {last['machine']['processor']}, one thread; {versions}"
    return f"{head}\n{table(part, rows)}\n\n{effort(rows)}\n{lacking}\n{where}\n", rows


def _commit(run: Mapping[str, Any]) -> str:
    commit, _, dirty = (run["commit"] or "unknown").partition("-")
    return commit[:12] + (" with changes" if dirty else "")


def steps(path: Path) -> str:
    """The flow step, from its own benchmark."""
    record = json.loads(path.read_text())
    judged = measure.markdown(measure.shown_targets(record["targets"]))
    return (
        "## The flow step\n\nFour steps of [actnorm, linear map, affine coupling] at 12×80×80: "
        "`python benchmarks/flow_step.py`, [every time](flow_step.md).\n\n"
        f"{judged}\n"
    )


def verdict(rows: Mapping[str, Sequence[Row]]) -> str:
    lines = []
    for name, of in rows.items():
        if of:
            count = {word: sum(standing(r) == word for r in of) for word in STANDINGS}
            behind = [row.task for row in of if standing(row) == "behind"]
            lines.append(
                {
                    "part": name,
                    "tasks": str(len(of)),
                    **{word: str(number) for word, number in count.items()},
                    "behind on": ", ".join(behind) or "–",
                    "seeds": f"{min(len(r.seeds) for r in of)} to {max(len(r.seeds) for r in of)}",
                }
            )
    return measure.markdown(lines) if lines else "Nothing is measured yet."


def page(results: Path) -> str:
    sections, rows = [], {}
    for name, module in PARTS.items():
        text, rows[name] = section(module.PART, module, results / f"table_{name}.jsonl")
        sections.append(text)
    sections.append(steps(results / "flow_step.json"))
    return "\n".join([INTRODUCTION, verdict(rows), "", *sections])


def take(folder: Path, results: Path) -> None:
    """Take over records that have gone on elsewhere.

    Raises:
        ValueError: there are none, or one lacks what ours has.
    """
    taken = [path for path in sorted(folder.glob("table_*.jsonl")) if runs(path)]
    if not taken:
        raise ValueError(f"expected table_*.jsonl in --take, found none in {folder}")
    for path in taken:
        lacking = cells(results / path.name).keys() - cells(path).keys()
        if lacking:
            raise ValueError(
                f"expected {path} to go on from ours, it lacks {len(lacking)} of its cells, "
                f"such as {', '.join(map(str, min(lacking)))}"
            )
    for path in taken:
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        write_atomically(results / path.name, lambda file, whole=whole: file.write(whole))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=measure.RESULTS, help="folder of records")
    parser.add_argument("--page", type=Path, default=PAGE, help="what is written")
    parser.add_argument("--take", type=Path, metavar="FOLDER", help="take over its records first")
    args = parser.parse_args(argv)
    if args.take:
        try:
            take(args.take, args.results)
        except ValueError as error:
            parser.error(str(error))
    text = page(args.results)
    write_atomically(args.page, lambda file: file.write(text.encode()))
    print(text.partition("\n## ")[0])


if __name__ == "__main__":
    main()
