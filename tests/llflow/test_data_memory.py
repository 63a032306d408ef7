"""More pairs than memory holds: windows, the same ones every time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llflow import data
from llflow.data import Crops, Pair


def coded_pair(name, height, width):
    """Red is the pixel's row, green its column; blue tells the pictures apart."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pictures = (
        torch.stack([rows, columns, torch.full_like(rows, blue)]).to(torch.uint8)
        for blue in (10, 20, 30)
    )
    return Pair(name, *pictures)


def pictures(pair):
    return pair.dark, pair.equalized, pair.bright


@settings(max_examples=50)
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), pixels=st.integers(1, 3000), name=st.text()
)
def test_a_window(height, width, pixels, name):
    whole = coded_pair(name, height, width)
    part = data.window(whole, pixels)
    if height * width <= pixels:
        assert part is whole
        return
    _, rows, columns = part.bright.shape
    assert rows * columns <= pixels
    assert min(rows, columns) >= min(height, width, int(pixels**0.5))
    assert rows * columns > pixels - max(rows, columns) - 1  # one more row or column is too many
    top, left = (int(part.dark[channel, 0, 0]) for channel in (0, 1))
    for cut, uncut in zip(pictures(part), pictures(whole), strict=True):
        assert torch.equal(cut, uncut[:, top : top + rows, left : left + columns])
        assert cut.untyped_storage().nbytes() == 3 * rows * columns  # and not the whole picture's
    again = data.window(whole, pixels)
    assert all(map(torch.equal, pictures(part), pictures(again)))


def test_windows_lie_anywhere():
    corners = {
        tuple(data.window(coded_pair(str(name), 8, 8), 36).dark[:2, 0, 0].tolist())
        for name in range(100)
    }
    assert corners == {(top, left) for top in range(3) for left in range(3)}


@pytest.fixture
def files(tmp_path):
    """Four pairs of 40×30 and one of 10×8."""
    rng = np.random.default_rng(0)
    for name, size in {
        "a": (40, 30),
        "b": (40, 30),
        "c": (40, 30),
        "d": (40, 30),
        "e": (10, 8),
    }.items():
        for part in ("low", "high"):
            (tmp_path / part).mkdir(exist_ok=True)
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / f"{name}.png")
    return data.find_pairs(tmp_path)


@pytest.mark.parametrize(
    "read",
    [
        lambda files, **options: data.read_pairs(files, "pairs", **options),
        lambda files, **options: data.synthetic_pairs(files, 3, **options),
    ],
)
def test_pairs_stay_within_the_memory(files, read, caplog):
    whole = {pair.name: pair for pair in read(files)}
    assert not caplog.records
    memory = 9 * 400 * len(files)
    pairs = read(files, memory=memory)
    (record,) = caplog.records
    assert "4 of 5 " in record.message
    assert "such as 20×20 of 40×30 ('a')" in record.message
    assert [pair.name for pair in pairs] == list("abcde")
    assert [tuple(pair.bright.shape) for pair in pairs] == [(3, 20, 20)] * 4 + [(3, 8, 10)]
    assert sum(p.untyped_storage().nbytes() for pair in pairs for p in pictures(pair)) <= memory
    for pair in pairs:
        expected = data.window(whole[pair.name], 400)  # equalised as a whole, then cut
        assert all(map(torch.equal, pictures(pair), pictures(expected)))


def test_a_synthetic_pair_of_each(files):
    pairs = data.synthetic_pairs(files, 3)
    for pair, pair_files in zip(pairs, files, strict=True):
        expected = data.synthetic_pair(pair_files, 3)
        assert all(map(torch.equal, pictures(pair), pictures(expected)))


def test_crops_of_windows(files):
    pairs = data.read_pairs(files[:4], "pairs", memory=9 * 400 * 4)
    bright, low, *_ = Crops(pairs, size=16, batch=2, seed=0)[5]
    assert bright.shape == (2, 3, 16, 16)
    assert low.shape == (2, 6, 16, 16)
    with pytest.raises(data.DataError, match="smaller than the crop of 24: a, b, c, d"):
        Crops(pairs, size=24, batch=2, seed=0)


def test_a_name_that_is_no_unicode():
    pair = coded_pair("caf\udce9", 8, 8)
    assert data.window(pair, 16).bright.shape == (3, 4, 4)
