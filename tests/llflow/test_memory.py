"""A picture of any size takes the memory that it may, and looks as if it took all there is."""

from pathlib import Path

import numpy as np
import pytest
import sizes
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llflow import enhance, inference, load
from llflow.enhancement import TooLittleMemory, brighten, unclipped
from llflow.inference import Drawing, Draws
from llflow.network.illumination import Light
from llflow.picture import files, highlights, night, preprocess, retinex, rows
from llflow.picture.files import Picture
from llflow.picture.overview import Overview
from llflow.picture.rows import Largest, Scratch, Whole


@pytest.fixture(scope="module")
def tiny():
    return load().fold()


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(280, 430), st.integers(280, 430), st.integers(64, 200), st.integers(0, 99))
def test_tiled_equals_whole_within_one_of_255_with_the_shipped_weights(
    tiny, height, width, tile, seed
):
    """Shapes, edges and noise: cuts through all of them."""
    torch.manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8)
    shapes = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")[0]
    picture = (0.15 * shapes + 0.02 * torch.randn(3, height, width)).clamp(0, 1)
    whole, tiled = enhance(tiny, picture), enhance(tiny, picture, tile=tile)
    assert (whole - tiled).abs().max() < 1 / 255


@pytest.fixture
def narrow_strips(monkeypatch):
    monkeypatch.setattr(rows, "_STRIP", 4000)


def test_what_is_of_the_whole_is_found_strip_by_strip(narrow_strips):
    picture = torch.rand(3, 173, 201, generator=torch.Generator().manual_seed(0)) ** 3
    picture[:, :60] *= 0.002  # night
    overview = Overview.of(Whole(picture))
    equalized = retinex.equalize(picture)
    assert torch.equal(retinex.equalized(picture, overview.tables), equalized)
    assert overview.mean == pytest.approx(picture.mean().item(), rel=1e-6)
    for found, image in zip(
        overview.averages(Whole(picture), (64, 96)), (picture, equalized), strict=True
    ):
        torch.testing.assert_close(found, preprocess.averaged(image, (64, 96)))
    share = torch.cat([overview.night.share(at) for at in rows.strips(173, 201)])
    whole = night.share_that_is_no_night(picture)
    assert 0.1 < whole.mean() < 0.9
    torch.testing.assert_close(share, whole, rtol=0, atol=1e-6)  # float32, otherwise rounded
    largest = Largest(highlights.number_above(picture.numel()))
    for _, strip in rows.each(Whole(picture)):
        largest.see(strip)
    assert largest.least.item() == highlights.brightest(picture)


def test_strips_change_nothing_visible(tiny, narrow_strips, monkeypatch):
    picture = 0.2 * torch.rand(3, 120, 90, generator=torch.Generator().manual_seed(0))
    in_strips = enhance(tiny, picture, exposure=0.4, strength=0.9)
    monkeypatch.setattr(rows, "_STRIP", 1 << 20)
    torch.testing.assert_close(
        in_strips, enhance(tiny, picture, exposure=0.4, strength=0.9), rtol=0, atol=1e-5
    )


def test_part_of_the_illumination():
    light = Light(torch.zeros(1), torch.ones(1), torch.rand(1, 1, 16, 24))
    whole = light.over(123, 77)
    part = light.over_part((123, 77), torch.tensor([5, 122, 121]), torch.arange(30, 50))
    torch.testing.assert_close(part, whole[..., [5, 122, 121], 30:50])


def test_noise_of_a_part_is_a_part_of_the_noise():
    picture = Whole(torch.rand(3, 150, 41))
    draws = Draws(picture, Drawing(temperature=1.0, seed=3))
    whole = draws.noise(1, (slice(0, 152), slice(0, 48)))
    expected = torch.randn(1, 3, 152, 48, generator=draws._generator("1"))
    assert torch.equal(whole, expected)
    part = slice(56, 136), slice(8, 32)
    assert torch.equal(draws.noise(1, part), whole[(..., *part)])


@pytest.mark.parametrize("in_a_file", [False, True])
def test_scratch_gives_back_what_was_put(tmp_path, in_a_file):
    picture = torch.rand(3, 40, 30)
    scratch = Scratch(40, 30, tmp_path if in_a_file else None)
    for at in (slice(0, 17), slice(17, 40)):
        for columns in (slice(0, 11), slice(11, 30)):
            scratch.put(at, columns, picture[:, at, columns])
    assert torch.equal(rows.whole(scratch), picture)
    scratch.put(slice(3, 9), rows.ALL, picture[:, 13:19])
    assert torch.equal(scratch.rows(slice(3, 9)), picture[:, 13:19])
    assert torch.equal(scratch.rows(slice(9, 40), slice(4, 6)), picture[:, 9:, 4:6])
    assert not list(tmp_path.iterdir())  # it has no name


def exhausted(monkeypatch, pixels):
    """A device whose memory holds tiles of so many pixels."""
    drawn, sizes = inference._Part.drawn, []

    def only_small(self, tile):
        down, across = (span.stop - span.start for span in tile.outer)
        if down * across > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        sizes.append(down * across)
        return drawn(self, tile)

    monkeypatch.setattr(inference._Part, "drawn", only_small)
    return sizes


def test_tiles_halve_where_memory_is_at_an_end(nano, monkeypatch):
    picture = 0.1 * torch.rand(3, 300, 500)
    whole = unclipped(nano, picture)
    sizes = exhausted(monkeypatch, 105_000)
    told = []
    halved = unclipped(nano, picture, progress=told.append)
    assert len(sizes) > 3
    torch.testing.assert_close(halved, whole, rtol=0, atol=1e-4)  # float32
    assert told == sorted(told)
    assert told[-1] == 1


def test_memory_that_holds_no_tile_is_an_error(nano, monkeypatch):
    exhausted(monkeypatch, 0)
    with pytest.raises(TooLittleMemory, match="smallest tile"):
        enhance(nano, 0.1 * torch.rand(3, 100, 100))


def stored(height, width):
    generator = np.random.default_rng(0)
    return generator.integers(0, 9000, (height, width, 3), dtype=np.uint16)


def read(tmp_path, samples):
    files.write(
        tmp_path / "a.tif", Picture(torch.from_numpy(samples / 65535).permute(2, 0, 1)), bits=16
    )
    return files.read(tmp_path / "a.tif")


def test_a_file_is_brightened_as_its_tensor(nano, tmp_path, monkeypatch):
    picture = read(tmp_path, stored(70, 50))
    settings = {"temperature": 0.5, "samples": 2, "strength": 0.8, "brightness": 0.5}
    expected = enhance(nano, picture.image, **settings)
    for held in (1 << 30, 0):  # in memory, and in a temporary file
        monkeypatch.setattr("llflow.enhancement.HELD", held)
        bright = brighten(nano, picture, folder=tmp_path, **settings)
        assert torch.equal(bright.image, expected)


def test_less_memory_makes_smaller_tiles_of_the_same_picture(tiny, tmp_path):
    picture = read(tmp_path, stored(900, 1000))
    told = []
    small = brighten(tiny, picture, max_memory=155_000_000, progress=told.append)
    assert len(told) > 1
    assert (small.image - enhance(tiny, picture.image)).abs().max() < 1 / 255
    with pytest.raises(TooLittleMemory, match=r"0.9 megapixels take 5 MB twice.*limit is 100 MB"):
        brighten(tiny, picture, max_memory=100_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [230, 400])
def test_no_more_is_resident_than_may_be(tmp_path, megabytes):
    """As `benchmarks/sizes.py` measures it."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the most that was resident")
    told = sizes.take(tmp_path, 2.0, 16, megabytes * 10**6)
    assert told["tiles"] > 1
    assert told["bytes"] < megabytes * 10**6


def test_transparent_rows_are_shown_as_read_whole(tmp_path, narrow_strips):
    samples = np.random.default_rng(0).integers(0, 255, (90, 120, 4), dtype=np.uint8)
    samples[..., 3] *= samples[..., 3] > 120
    samples[10:30, :, 3] = 0
    alpha = samples[..., 3].copy()
    image = torch.from_numpy(samples[..., :3].copy()).permute(2, 0, 1) / 255
    files.write(tmp_path / "a.png", Picture(image, alpha=alpha))
    picture = files.read(tmp_path / "a.png")
    expected = image.numpy().copy()
    files.levels.fill_hidden(expected, alpha > 0)
    assert torch.equal(picture.image, torch.from_numpy(expected))
    part = picture.shown.rows(slice(8, 40), slice(20, 50))
    assert torch.equal(part, picture.image[:, 8:40, 20:50])
