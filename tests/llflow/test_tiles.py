"""Tiles cover a picture once, and a picture made of tiles is the one made in one piece."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llflow import LARGE, SMALL, TINY, Config, LLFlow, enhance
from llflow.network.model import LeanConfig
from llflow.picture.tiles import LEAST, Stage, halves, memory_of, nearer, sides, tiles


@given(
    *(st.integers(1, 40).map(lambda eighths: 8 * eighths) for _ in range(2)),
    st.integers(1, 400),
    st.integers(0, 100),
)
def test_kept_parts_cover_the_picture_once(height, width, side, margin):
    picture = torch.rand(height, width)
    covered = torch.zeros(height, width)
    rebuilt = torch.empty(height, width)
    for tile in tiles(height, width, side, margin):
        covered[tile.place] += 1
        rebuilt[tile.place] = picture[tile.outer][tile.inner]
        for outer, inner, size in zip(tile.outer, tile.inner, picture.shape, strict=True):
            assert outer.start % 8 == outer.stop % 8 == 0
            assert inner.start >= margin or outer.start == 0
            assert outer.stop - outer.start - inner.stop >= margin or outer.stop == size
            assert inner.stop - inner.start <= max(8, -(-side // 8) * 8)
    assert (covered == 1).all()
    assert torch.equal(rebuilt, picture)


def test_small_pictures_are_one_tile():
    (tile,) = tiles(400, 600, 2048, 320)
    assert tile.outer == tile.inner == tile.place == (slice(0, 400), slice(0, 600))


AUTHORS = Config(features=4, growth=4, blocks=1, taps=(0,), steps=1, hidden=4, scale_floor=0.3)
LEAN = LeanConfig(
    half=4,
    quarter=4,
    eighth=4,
    blocks=(1, 1, 1),
    thumbnail=4,
    steps=(1, 1, 1),
    hidden=(4, 4, 4),
    scale_floor=0.5,
)


@pytest.fixture(scope="module", params=[AUTHORS, LEAN], ids=["authors", "lean"])
def model(request):
    torch.manual_seed(0)
    config = request.param
    model = LLFlow(config).double()
    model.initialize(torch.rand(2, 3, 32, 32).double(), torch.rand(2, 6, 32, 32).double())
    for name, parameter in model.named_parameters():
        # Wide enough for the edge of the field to be seen.
        if parameter.dim() == 4 and "illumination" not in name:
            torch.nn.init.normal_(parameter, std=0.1 if "last" in name else 0.3)
    if model.illumination is not None:
        model.illumination.whole[3].bias.data[0] = 1.5  # brightens, else the picture would stay
    return model.eval()


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_no_seams(model, temperature):
    """Equal but for the rounding of a float64 network, whose result is returned in float32."""
    picture = 0.1 * torch.rand(3, 300, 210, dtype=torch.float64)
    whole = enhance(model, picture, temperature=temperature)
    tiled = enhance(model, picture, temperature=temperature, tile=96)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)


def test_the_margin_is_needed(model, monkeypatch):
    monkeypatch.setattr(type(model.config), "margin", 8)
    picture = 0.1 * torch.rand(3, 300, 210, dtype=torch.float64)
    difference = enhance(model, picture) - enhance(model, picture, tile=96)
    assert difference.abs().max() > 1e-4


def test_a_pixel_out_of_reach_changes_nothing(model):
    """The dark picture's own equalisation is global, so the network's input is changed instead."""
    reach = model.config.reach
    size = -(-(reach + 24) // 8) * 8
    low = torch.rand(1, 6, 8, size, dtype=torch.float64)

    light, illumination = None, None
    if model.illumination is not None:  # which is of the whole picture, and told beside it
        light = model.illumination(torch.rand(1, 6, 64, 96, dtype=torch.float64))
        illumination = light.over(8, size)

    def decode(low):
        cond = model.condition(low, light, illumination)
        return model.flow.bijection.inverse(model.flow.base(cond).mean, cond)[0]

    moved = low.clone()
    moved[..., -1] += 1
    difference = (decode(moved) - decode(low)).abs().amax(dim=(0, 1, 2))
    assert not difference[: size - 1 - reach].any()
    assert difference[-1] > 0


def test_small_is_exact_and_the_others_see_further():
    assert SMALL.margin >= SMALL.reach
    assert LARGE.margin < LARGE.reach
    assert TINY.margin < TINY.reach


@given(
    *(st.integers(1, 400).map(lambda eighths: 8 * eighths) for _ in range(2)),
    st.integers(1, 3000),
    st.integers(10_000_000, 400_000_000),
    *(st.integers(0, 18).map(lambda eighths: 8 * eighths) for _ in range(2)),
)
def test_sides_are_such_that_no_tile_takes_more(height, width, longest, memory, margin, inner):
    stages = [Stage(100, margin), Stage(120, inner)]
    side = sides(height, width, longest, memory, stages)
    if side is None:
        smallest = min(LEAST, 8 * -(-longest // 8))
        assert memory_of((smallest, smallest), (3, 3), stages) > memory
        return
    assert max(side) <= 8 * -(-longest // 8)
    for stage in stages:
        for tile in tiles(height, width, side, stage.margin):
            rows, columns = (span.stop - span.start for span in tile.outer)
            assert stage.bytes * rows * columns <= memory


@given(
    *(st.integers(1, 40).map(lambda eighths: 8 * eighths) for _ in range(2)),
    st.integers(8, 400),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_a_nearer_tile_is_a_window_of_the_tile(height, width, side, margin, other):
    picture = torch.rand(height, width)
    for tile in tiles(height, width, side, margin):
        near, window = nearer(tile, height, width, min(margin, other))
        assert torch.equal(picture[tile.outer][window], picture[near.outer])
        assert torch.equal(picture[near.outer][near.inner], picture[tile.place])


@given(
    *(st.integers(1, 40).map(lambda eighths: 8 * eighths) for _ in range(2)),
    st.integers(8, 400),
    st.integers(0, 100),
    st.integers(0, 6),
)
def test_halves_cover_the_picture_once(height, width, side, margin, times):
    parts = list(tiles(height, width, side, margin))
    for _ in range(times):
        parts = [half for part in parts for half in halves(part, height, width, margin)]
    picture = torch.rand(height, width)
    covered = torch.zeros(height, width)
    for part in parts:
        covered[part.place] += 1
        assert torch.equal(picture[part.outer][part.inner], picture[part.place])
    assert (covered == 1).all()
