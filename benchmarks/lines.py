"""How long is the file of each layer, and how many cases hold flowkit to its contract?

python benchmarks/lines.py

Lines with docstring, examples and blank ones. A case is one example of one layer and one
check of `flowkit.testing`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

import measure
from measure import Target

import flowkit
from flowkit.testing import all_checks, all_examples

ROOMS = ("layers", "elementwise", "combine")
TARGET = Target("lines of the longest file of a layer", 80)


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def main(argv: Sequence[str] | None = None) -> None:
    args = measure.begin(measure.arguments(__doc__), argv)
    package = Path(inspect.getfile(flowkit)).parent
    examples = all_examples()
    files = []
    for room in ROOMS:
        for file in sorted((package / room).glob("[!_]*.py")):
            module = f"flowkit.{room}.{file.stem}"
            layers = {layer for layer, _ in examples if layer.__module__ == module}
            count = sum(layer in layers for layer, _ in examples)
            files.append({"file": f"{room}/{file.name}", "lines": lines(file), "examples": count})
    of_layers = [row for row in files if row["file"].startswith("layers/")]
    longest = max(of_layers, key=lambda row: row["lines"])
    layers = {layer for layer, _ in examples}
    sizes = {
        "layers": len(layers),
        "examples": len(examples),
        "checks": len(all_checks()),
        "cases": len(examples) * len(all_checks()),
    }
    measure.record(
        "lines",
        args,
        doc=__doc__,
        tables={"Files": files, "Cases, flowkit's and its plug-ins'": [sizes]},
        targets=[TARGET.judged(longest["lines"], longest["file"])],
    )


if __name__ == "__main__":
    sys.exit(main())
