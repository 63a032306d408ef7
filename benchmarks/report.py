"""What have the benchmarks found? Pages made from benchmarks/results; runs nothing.

python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measure import Spread

from llflow.atomic import write_atomically

PAGE = measure.REPOSITORY / "docs" / "benchmarks.md"
ORDER = (
    "lines",
    "against",
    "flow_step",
    "samples",
    "memory",
    "enhance",
    "sizes",
    "training_step",
    "training_throughput",
    "coupling",
    "linear",
)
OURS, THEIRS = "#c2571a", "#9aa5b1"

INTRODUCTION = """\
# Benchmarks

`make bench` measures what a CPU can, `make bench-gpu` what needs a GPU, and both end with this
page, which `python benchmarks/report.py` makes from `benchmarks/results/*.json`. Every file of
`benchmarks/` answers one question and runs alone; the tables behind a target are a page of their
own. `python benchmarks/against.py --against PATH` times whole steps against another checkout's,
`python benchmarks/compare.py OLD NEW` says what has become worse between two folders of results.

Ways of doing the same are timed in turn in one process: processor time on one thread, wall time on
more, CUDA events on a GPU with inputs that its L2 cache can't hold. A ratio is the median of the
rounds' ratios, its quartiles in brackets; a time is the least of all rounds. What computes
something wrong isn't timed. On a CPU the allocator is told to keep what is freed, except in
`against.py`: page faults come and go with its state. Other work on the machine blurs ratios by some
per cent; the quartiles, on the pages behind, tell how much.
"""


def read(folder: Path) -> list[dict[str, Any]]:
    """The benchmarks' records, in the page's order."""
    paths = sorted(folder.glob("*.json"))
    records = [json.loads(path.read_text()) | {"name": path.stem} for path in paths]
    return sorted((r for r in records if "benchmark" in r), key=_place)


def _place(record: Mapping[str, Any]) -> tuple[int, str]:
    known = [name for name in ORDER if _is(record, name)]
    return (ORDER.index(known[0]) if known else len(ORDER)), record["name"]


def _is(record: Mapping[str, Any], name: str) -> bool:
    return record["name"].startswith(name)


def targets(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every target once, with the name of the record it is from; where several records have it, a
    measured one."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        for target in record["targets"]:
            before = found.get(target["what"])
            if before is None or before["result"] is None:
                found[target["what"]] = target | {"name": record["name"]}
    return list(found.values())


def page(records: Sequence[Mapping[str, Any]], details: str) -> str:
    """Targets, what came of them and by which command; `details` is the folder of the rest."""
    judged = targets(records)
    rows = [
        row | {"by": f"[{target['name']}]({details}/{target['name']}.md)"}
        for row, target in zip(measure.shown_targets(judged), judged, strict=True)
    ]
    commands = [
        f"- [{record['name']}]({details}/{record['name']}.md): {record['question']} "
        f"`{record['command'] or record['benchmark']}`"
        for record in records
    ]
    parts = [INTRODUCTION, "## Targets\n"]
    parts.append(measure.markdown(rows) if rows else "None.")
    parts += ["\n## Questions\n", *commands]
    missing = [name for name in ORDER if not any(_is(record, name) for record in records)]
    if missing:
        names = ", ".join(f"`benchmarks/{name}.py`" for name in missing)
        parts.append(f"\nNot measured on the layers as they are now: {names}.")
    return "\n".join(parts) + "\n"


def detail(record: Mapping[str, Any], plot: str | None) -> str:
    """All tables of one record; `plot` is a link."""
    parts = [f"# {record['question']}\n", f"{record['description']}\n", _origin(record)]
    for title, rows in record["tables"].items():
        parts.append(f"\n**{title}**\n\n{measure.markdown(rows)}")
    if record["targets"]:
        parts.append(f"\n{measure.markdown(measure.shown_targets(record['targets']))}")
    if plot:
        parts.append(f"\n![{record['name']}]({plot})")
    return "\n".join(parts) + "\n"


def _origin(record: Mapping[str, Any]) -> str:
    machine, versions = record["machine"], record["versions"]
    where = [machine["processor"], f"{machine['cores']} cores", f"threads: {machine['threads']}"]
    if record["settings"]["device"] == "cuda":
        where = [machine["gpu"]]
    ran = [f"{op}: {choice['name']}" for op, choice in record["implementation"].items()]
    lines = [
        f"`{record['command'] or record['benchmark']}`, {record['date']} UTC, "
        f"commit {(record['commit'] or 'unknown')[:12]}"
        + (" with changes" if (record["commit"] or "").endswith("-dirty") else ""),
        "; ".join([*where, record["clock"]]),
        ", ".join(f"{package} {number}" for package, number in versions.items()),
        *([f"ran {'; '.join(ran)}"] if ran else []),
    ]
    return "  \n".join(lines)


def plot(record: Mapping[str, Any]) -> Figure | None:
    """Ratios as bars, one panel a table; None if the record has none."""
    panels = [(title, rows, _ratio(rows)) for title, rows in record["tables"].items()]
    panels = [(title, rows, column) for title, rows, column in panels if column]
    if not panels:
        return None
    heights = [len(rows) for _, rows, _ in panels]
    figure = Figure(figsize=(8, 0.26 * sum(heights) + 0.9 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, rows, column) in zip(axes, panels, strict=True):
        _bars(axis, rows, column)
        axis.set_title(title, fontsize=10, loc="left")
    return figure


def _ratio(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The first column of spreads."""
    return next((key for key, value in rows[0].items() if isinstance(value, Mapping)), None)


def _bars(axis: Axes, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    place, places, labels = 0.0, [], []
    for row, before in zip(rows, [rows[0], *rows[:-1]], strict=True):
        *group, way = label = names(row)
        place += 1.0 if group == names(before)[:-1] else 1.6
        places.append(place)
        labels.append(", ".join(label))
        spread = Spread(**row[column])
        axis.barh(place, spread.median, height=0.75, color=OURS if is_ours(way) else THEIRS)
        axis.plot([spread.lower, spread.upper], [place, place], color="black", linewidth=1)
        end = max(spread.median, spread.upper), place
        axis.annotate(f" {spread.median:.2f}", end, va="center", fontsize=8)
    axis.set_yticks(places, labels, fontsize=8)
    axis.invert_yaxis()
    axis.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axis.set_xlabel(column, fontsize=9)
    axis.margins(x=0.1)
    axis.spines[["top", "right"]].set_visible(False)


def names(row: Mapping[str, Any]) -> list[str]:
    """What tells a row from the others; the last is the way."""
    return [row[key] for key in ("level", "size", "precision", "what", "keep", "way") if key in row]


def is_ours(way: str) -> bool:
    return way.startswith(("flowkit", "llflow", "inputs", "nothing", "8 samples", "now", "of one"))


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=measure.RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args(argv)
    records = read(args.results)
    if not records:
        parser.error(f"expected results of benchmarks in {args.results}, found none")
    folder = args.page.with_suffix("")
    for record in records:
        figure, plot_file = plot(record), folder / f"{record['name']}.png"
        if figure is not None:
            write_atomically(
                plot_file, lambda f, figure=figure: figure.savefig(f, format="png", dpi=100)
            )
        drawn = args.results / plot_file.name  # by the benchmark itself
        if figure is None and drawn.exists():
            write_atomically(plot_file, lambda f, drawn=drawn: f.write(drawn.read_bytes()))
        shown = figure is not None or drawn.exists()
        text = detail(record, plot_file.name if shown else None)
        _write(folder / f"{record['name']}.md", text)
    _write(args.page, page(records, folder.name))
    print(measure.markdown(measure.shown_targets(targets(records))))


if __name__ == "__main__":
    sys.exit(main())
