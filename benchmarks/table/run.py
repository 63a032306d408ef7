"""Is flowkit ahead of zuko, nflows, normflows and FrEIA, and where isn't it?

python benchmarks/table/run.py

Measures what the records, benchmarks/results/table_*.jsonl, don't have yet: seed 0 of every task
and library, then seed 1, and so on, so that it can be stopped at any time and started again.
`python benchmarks/table/page.py` makes docs/benchmarks/table.md of them.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import densities
import pictures
import posteriors
import simulations
import tables
import torch
from journal import Cell, Journal, cells
from likelihood import Diverged
from part import Part

sys.path.append(str(Path(__file__).parents[1]))
import measure

PARTS = {
    module.PART.name: module.PART
    for module in (densities, simulations, tables, posteriors, pictures)
}


def wanted(args: argparse.Namespace) -> Iterator[tuple[Part, Cell]]:
    """In the order in which they are measured."""
    for seed in range(args.seeds):
        for part in (PARTS[name] for name in args.part):
            for task, peers in part.tasks.items():
                for peer in peers:
                    if task in (args.tasks or [task]) and peer in (args.peers or [peer]):
                        yield part, Cell(task, peer, seed)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = sorted({task for part in PARTS.values() for task in part.tasks})
    flows = (flow for part in PARTS.values() for of in part.tasks.values() for flow in of)
    peers = sorted(set(flows))
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    for name, of in {"tasks": tasks, "peers": peers}.items():
        parser.add_argument(
            f"--{name}", nargs="+", choices=of, metavar=name[:-1].upper(), help=", ".join(of)
        )
    parser.add_argument("--seeds", type=int, default=10, help="how many (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after")
    parser.add_argument("--results", type=Path, default=measure.RESULTS, help="folder of records")
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it runs")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.quick and args.results == measure.RESULTS:
        parser().error("expected --results for --quick, whose figures are worth nothing")
    if args.seeds < 1:
        parser().error(f"expected --seeds >= 1, got {args.seeds}")
    if not args.results.is_dir():
        parser().error(f"expected a folder for --results, got {args.results}")
    torch.set_num_threads(1)
    provenance = measure.provenance()
    provenance["versions"] |= {name: version(name) for name in ("zuko", "scikit-learn")}
    paths = {name: args.results / f"table_{name}.jsonl" for name in args.part}
    journals = {name: Journal(path, provenance) for name, path in paths.items()}
    done = {name: cells(path) for name, path in paths.items()}
    until = time.monotonic() + 60 * args.minutes
    for part, cell in wanted(args):
        if cell in done[part.name]:
            continue
        if time.monotonic() >= until:
            break
        began = time.process_time()
        try:
            found = part.measure(*cell, args.quick)
            if not all(map(math.isfinite, found.values())):
                raise Diverged(f"expected finite figures, got {found}")
        except Exception as error:  # what a library raises is a result of it
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}"}
        journals[part.name].append(cell, {**found, "took": time.process_time() - began})
        print(f"{part.name}, {', '.join(map(str, cell))}: {found.get('value', found)}", flush=True)


if __name__ == "__main__":
    main()
