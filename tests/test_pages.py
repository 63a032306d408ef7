"""Every page of the site runs from top to bottom, as one module, and prints what it says."""

import sys

import pytest
import torch
from pages import ROOT, blocks, outputs, run
from PIL import Image

PAGES = [
    str(page.relative_to(ROOT))
    for page in [ROOT / "AGENTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if blocks(page.relative_to(ROOT))
]


def test_there_are_pages():
    assert "docs/start.md" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_it_runs(page, tmp_path, monkeypatch):
    if "import triton" in "".join(blocks(page)):
        pytest.importorskip("triton")
    monkeypatch.chdir(tmp_path)
    for picture in ("dark.jpg", "dark.tif"):
        Image.new("RGB", (48, 32), (20, 10, 5)).save(picture)
    name, printed = page.removesuffix(".md").replace("/", "_"), []
    with torch.random.fork_rng():
        run(blocks(page), name, printed)
    del sys.modules[name]
    for said, output in zip(outputs(page), printed, strict=True):
        assert said is None or output == said
