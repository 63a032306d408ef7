"""Put the tables of benchmarks/results into docs/paper.md and docs/flow.md.

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
PAGES = [REPOSITORY / "docs" / name for name in ("paper.md", "flow.md")]
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
    for page in PAGES:
        content = filled(page.read_text(), RESULTS).encode()
        write_atomically(page, lambda file, content=content: file.write(content))
