"""Photographs without a dark partner become pairs."""

import numpy as np
import pytest
import torch
from PIL import Image

from llflow import data
from llflow.data import DataError
from llflow.picture import retinex


def photograph(path, size=(48, 32), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(60, 250, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def test_every_photograph_becomes_a_pair(tmp_path, caplog):
    for index, name in enumerate(["b.png", "a.jpg", "2025/c.WEBP", "2025/deep/d.tif"]):
        photograph(tmp_path / name, seed=index)
    photograph(tmp_path / ".thumbnails" / "e.png")
    photograph(tmp_path / ".f.png")
    pairs = data.synthetic_from(tmp_path, 0, 16)
    assert [pair.name for pair in pairs] == ["a.jpg", "b.png", "2025/c.WEBP", "2025/deep/d.tif"]
    assert not caplog.records
    bright = np.asarray(Image.open(tmp_path / "b.png"))
    assert torch.equal(pairs[1].bright, torch.from_numpy(bright.copy()).permute(2, 0, 1))
    for pair in pairs:
        assert pair.dark.float().mean() < pair.bright.float().mean()
        expected = (retinex.equalize(pair.dark / 255) * 255).round().to(torch.uint8)
        assert torch.equal(pair.equalized, expected)


def test_seed_and_name_decide(tmp_path):
    for name in ("a", "b"):
        photograph(tmp_path / f"{name}.png")
    a, b = data.synthetic_from(tmp_path, 1, 16)
    again, _ = data.synthetic_from(tmp_path, 1, 16)
    other, _ = data.synthetic_from(tmp_path, 2, 16)
    assert torch.equal(a.dark, again.dark)
    assert not torch.equal(a.dark, b.dark)
    assert not torch.equal(a.dark, other.dark)
    (tmp_path / "b.png").unlink()
    assert torch.equal(data.synthetic_from(tmp_path, 1, 16)[0].dark, a.dark)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((50, 40), (40, 50)),
        ((60, 40), (20, 30)),
        ((101, 80), (26, 33)),  # 3×3
        ((400, 20), (20, 400)),  # half would be smaller than the crop
        ((400, 40), (20, 200)),
    ],
)
def test_large_ones_are_averaged_over_blocks(tmp_path, monkeypatch, size, expected):
    monkeypatch.setattr("llflow.data.photographs.LARGE", 2000)
    source = np.asarray(Image.open(photograph(tmp_path / "a.png", size))).astype(np.float64)
    (pair,) = data.synthetic_from(tmp_path, 0, 16)
    assert tuple(pair.bright.shape[1:]) == expected
    block = size[0] // expected[1]
    first = source[:block, :block].mean((0, 1))
    assert np.abs(pair.bright[:, 0, 0].numpy() - first).max() < 0.51  # rounded to 8 bits


def test_what_is_left_out_is_said(tmp_path, caplog):
    photograph(tmp_path / "a.png")
    photograph(tmp_path / "small.png", (15, 40))
    (tmp_path / "film.mp4").touch()
    (tmp_path / "a.xmp").touch()
    assert [pair.name for pair in data.synthetic_from(tmp_path, 0, 16)] == ["a.png"]
    assert [record.message.removeprefix(str(tmp_path)) for record in caplog.records] == [
        ": 2 files without a picture's suffix left out",
        ": 1 photographs smaller than the crop left out",
    ]


def test_memory_is_bounded(tmp_path, caplog):
    for name in ("a", "b"):
        photograph(tmp_path / f"{name}.png")
    pairs = data.synthetic_from(tmp_path, 0, 16, memory=2 * 9 * 400)
    assert [tuple(pair.bright.shape) for pair in pairs] == [(3, 20, 20)] * 2
    assert "2 of 2 photographs are larger than their share" in caplog.records[0].message


def test_none(tmp_path):
    with pytest.raises(DataError, match="expected pictures, found none"):
        data.synthetic_from(tmp_path, 0, 16)
    photograph(tmp_path / "small.png", (15, 40))
    with pytest.raises(DataError, match="no photograph is as large as the crop of 16"):
        data.synthetic_from(tmp_path, 0, 16)
    with pytest.raises(FileNotFoundError):
        data.synthetic_from(tmp_path / "nothing", 0, 16)


def test_a_bad_one_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"text")
    with pytest.raises(DataError, match=r"a\.jpg: not a picture"):
        data.synthetic_from(tmp_path, 0, 16)
