"""Do whole steps of LLFlow take longer than at another commit?

python benchmarks/against.py --against PATH [--sizes narrow small]

PATH is another checkout. Two processes, one a checkout, take turns step by step, so that whatever
slows the machine down slows both, and only their ratio is kept. Training is two crops of 160×160,
forward, backward and Adam; enhancement is the core of `llflow enhance` on 400×600, condition and
inverse of the folded model. Processor time on one thread. `benchmarks/whole_step.py` has the
networks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import measure
from measure import REPOSITORY, Target, Times
from whole_step import CONFIGS, STEPS

LIMIT = 1.03


class Checkout:
    """A process that runs whole steps of the code in a folder."""

    def __init__(self, folder: Path) -> None:
        path = os.pathsep.join(str(folder / part) for part in (".", "plugins"))
        self.process = subprocess.Popen(
            [sys.executable, REPOSITORY / "benchmarks" / "whole_step.py"],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, size: str, what: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{size}\t{what}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"against: a step of {size}, {what}, failed; see above")
        return float(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(now: Checkout, before: Checkout, size: str, what: str, args) -> Times:
    ways = {"now": now, "before": before}
    for checkout in 2 * list(ways.values()):
        checkout.ask(size, what)  # allocates
    taken: dict[str, list[float]] = {way: [] for way in ways}
    began, order = time.monotonic(), list(ways)
    while len(taken["now"]) < 5 or time.monotonic() - began < args.seconds:
        for way in order:
            taken[way].append(ways[way].ask(size, what))
        order.reverse()
        if args.quick:
            break
    return Times(taken, "processor time")


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--sizes", nargs="+", choices=CONFIGS, default=["narrow", "small"])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    args = measure.begin(parser, argv)
    if not (args.against / "flowkit").is_dir():
        parser.error(f"expected a checkout with a folder flowkit, got {args.against}")
    rows, targets = [], []
    with Checkout(REPOSITORY) as now, Checkout(args.against) as before:
        for size in args.sizes:
            if now.ask(size, "parameters") != before.ask(size, "parameters"):
                raise SystemExit(f"against: {size} has another number of parameters; not timed")
            for what in args.steps:
                times = compare(now, before, size, what, args)
                ratio = times.ratio("now", "before")
                rows.append(
                    {
                        "size": size,
                        "what": what,
                        "rounds": len(times.seconds["now"]),
                        "time, of the other checkout's": ratio,
                    }
                )
                targets.append(
                    Target(f"whole step of {size}, {what}, of the commit before", LIMIT).judged(
                        ratio.median
                    )
                )
                print(size, what, ratio, flush=True)
    measure.record("against", args, doc=__doc__, tables={"Whole steps": rows}, targets=targets)


if __name__ == "__main__":
    sys.exit(main())
