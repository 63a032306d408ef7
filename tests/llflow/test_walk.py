"""The walk in docs/pictures.md: a folder of mixed files says what it says there."""

import shutil
from pathlib import Path

import numpy as np
from profiles import profile_of
from test_optional_formats import dng, heic
from test_pictures_cases import saved

from llflow.picture.files import read

ROOT = Path(__file__).parents[2]


def test_a_mixed_folder(llflow, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    levels = np.random.default_rng(0).integers(0, 9000, (32, 48, 3), dtype=np.uint16)
    heic(photos / "phone.heic", (levels >> 8).astype(np.uint8))
    dng(photos / "DSC_0001.dng")
    saved(photos / "coffee.png", levels)
    saved(photos / "launch.tif", levels, profile_of("Adobe RGB"))
    shutil.copy(ROOT / "examples" / "rocket.jpg", photos / "whole.jpg")
    content = (photos / "whole.jpg").read_bytes()
    (photos / "broken.jpg").write_bytes(content[: len(content) // 3])
    (photos / "whole.jpg").unlink()
    saved(photos / "rocket.jpg", (levels >> 8).astype(np.uint8))
    (photos / "notes.txt").write_text("buy film\n")
    page = (ROOT / "docs" / "pictures.md").read_text()
    call = ("enhance", "photos", "-o", "bright", "--weights", weights)
    for options, expected in [(("--dry-run",), 0), ((), 1), (("--skip-existing",), 1)]:
        code, out, err = llflow(*call, *options)
        assert code == expected
        assert f"\n{out}" in page
        assert f"\n{err}\n" in page
    for name, profile in (("DSC_0001", "Display P3"), ("launch", "Adobe RGB")):
        result = read(tmp_path / "bright" / f"{name}.tif")
        assert (result.bits, result.icc_profile) == (16, profile_of(profile))
