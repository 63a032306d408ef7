"""Put the tables of benchmarks/results into docs/paper.md.

python benchmarks/paper/document.py

Between <!-- NAME --> and <!-- /NAME --> belong the table of benchmarks/results/NAME.json and the
weights that it is of.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from llflow.atomic import write_atomically

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "paper.md"
RESULTS = REPOSITORY / "benchmarks" / "results"


def filled(text: str, results: Path) -> str:
    """The page's text with the present tables in it."""

    def fill(match: re.Match[str]) -> str:
        record = json.loads((results / f"{match[1]}.json").read_text())
        lines = [f"<!-- {match[1]} -->", record["table"], f"<!-- /{match[1]} -->"]
        if "sha256" in record["weights"]:
            weights = record["weights"]
            lines[2:2] = ["", f"Weights: `{weights['name']}`, SHA-256 {weights['sha256'][:12]}…"]
        return "\n".join(lines)

    return re.sub(r"<!-- ([\w/]+) -->\n.*?<!-- /\1 -->", fill, text, flags=re.DOTALL)


if __name__ == "__main__":
    content = filled(PAGE.read_text(), RESULTS).encode()
    write_atomically(PAGE, lambda file: file.write(content))
