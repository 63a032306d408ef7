"""The page of before and after: whole, alone, and of the pictures that there are."""

import io
import re
from base64 import b64decode
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    levels = np.random.default_rng(0).integers(0, 60, (700, 1000, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", (30, 20)), ("<b> & 'c'.png", (20, 30))):
        Image.fromarray(levels).crop((0, 0, *size)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def enhanced(llflow, weights, folder, *more):
    options = ["--weights", weights, "--device", "cpu", "-o", folder.parent / "out"]
    return llflow("enhance", folder, *options, *more)


def test_a_page_of_a_folder(llflow, weights, folder, tmp_path):
    page = tmp_path / "pages" / "report.html"
    code, _, err = enhanced(llflow, weights, folder, "--report", page)
    assert (code, err) == (0, "")
    text = page.read_text()
    assert text.count('class="slider"') == 2
    assert "&lt;b&gt; &amp; &#x27;c&#x27;.png" in text
    assert "<b>" not in text
    urls = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    sizes = [Image.open(io.BytesIO(b64decode(url))).size for url in urls]
    assert sorted(sizes) == [(20, 30), (20, 30), (30, 20), (30, 20)]
    assert "http://" not in text
    assert "https://" not in text
    for tag in ("style", "script"):
        inline = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = re.search(f"{tag}-src 'sha256-([^']+)'", text)[1]
        assert b64decode(digest) == sha256(inline.encode()).digest()


def test_what_failed_isn_t_on_it_and_what_was_there_is(llflow, weights, folder, tmp_path):
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    page = tmp_path / "report.html"
    assert enhanced(llflow, weights, folder)[0] == 1
    code, _, err = enhanced(llflow, weights, folder, "--skip-existing", "--report", page)
    assert code == 1
    assert "broken.png" in err
    assert page.read_text().count('class="slider"') == 2


def test_it_replaces_nothing(llflow, weights, folder, tmp_path):
    before = (folder / "a.png").read_bytes()
    code, _, err = enhanced(llflow, weights, folder, "--report", folder / "a.png")
    assert (code, "is a picture or its result" in err) == (2, True)
    assert (folder / "a.png").read_bytes() == before
    page = tmp_path / "report.html"
    page.write_text("mine")
    code, _, err = enhanced(llflow, weights, folder, "--report", page)
    assert (code, "exists (--overwrite" in err) == (1, True)
    assert page.read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_a_pair_that_is_left_out_is_told_and_fails(llflow, weights, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("no picture")
    page = tmp_path / "report.html"
    code, _, err = enhanced(llflow, weights, folder, "--skip-existing", "--report", page)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "a.png: not in the report (not a picture" in err
    assert page.read_text().count('class="slider"') == 1


def test_nothing_is_reported_of_what_is_only_planned(llflow, weights, folder, tmp_path):
    page = tmp_path / "report.html"
    code, _, err = enhanced(llflow, weights, folder, "--dry-run", "--report", page)
    assert (code, "--dry-run and --report exclude each other" in err) == (2, True)
