"""docs/features.md names a test for every tick of ours, and those tests exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line[1:-1].split("|")]
    for line in (ROOT / "docs" / "features.md").read_text().splitlines()
    if line.startswith("|")
][2:]
TICKED = {row[0]: row[-1] for row in ROWS if row[1] == "✓"}


def test_every_row_says_yes_with_a_test_or_no_without():
    assert len(TICKED) > 30
    for row in ROWS:
        assert len(row) == 8, row
        assert row[1] in ("✓", "✗") or row[0].startswith("**"), row
        assert bool(row[-1]) == (row[1] == "✓"), row


@pytest.mark.parametrize("feature", TICKED)
def test_the_test_exists(feature):
    named = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", TICKED[feature])
    assert named, TICKED[feature]
    path, name = named.groups()
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M)
