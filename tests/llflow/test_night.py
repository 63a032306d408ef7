"""Night stays dark, whatever the network makes of it; what is only underexposed doesn't count."""

import pytest
import torch

from llflow.picture.night import keep_night, share_that_is_no_night


def noise(level, height=80, width=120):
    """Whole levels of 255 around a mean, as a camera's file has them."""
    generator = torch.Generator().manual_seed(0)
    spread = level + 0.5 * torch.randn(3, height, width, generator=generator)
    return spread.round().clamp(min=0) / 255


def city(level=1.0, lamps=1.0):
    """A dark sky above lamps."""
    picture = noise(level)
    picture[:, 50::6, ::5] = lamps
    return picture


def test_a_sky_over_lamps_stays_and_the_lamps_are_the_results():
    picture, result = city(), torch.full((3, 80, 120), 0.4)
    kept = keep_night(picture, result)
    assert (kept - picture)[:, :20].mean() < 0.06  # of the 0.4 that the result has there
    assert (kept - result)[:, 60:].abs().mean() < 0.06


def test_the_same_levels_without_lamps_are_an_underexposed_picture():
    picture, result = city(lamps=0.1), torch.full((3, 80, 120), 0.4)
    assert torch.equal(keep_night(picture, result), result)


def test_detail_as_dark_as_the_sky_is_brightened():
    picture = city()
    picture[:, 10:30:8] = 10 / 255  # lines of a facade
    share = share_that_is_no_night(picture)
    assert share[12:28].min() > 0.9


def test_what_stands_before_the_sky_has_no_halo():
    picture = noise(1.0, 160)
    picture[:, 110:130, 40:80] = 0.9
    share = share_that_is_no_night(picture)
    assert share[114:126, 44:76].min() > 0.95
    # A line around it that doesn't follow the edge would be at 1 as far as a cell's surroundings
    # reach, 10 pixels, and blurred over 26 more.
    assert share[98].max() < 0.4
    assert share[:70].max() < 0.12


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 9)])
def test_small_pictures(size):
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    kept = keep_night(picture, torch.ones(3, *size))
    assert kept.shape == (3, *size)
    assert kept.isfinite().all()


def test_black_stays_and_what_is_over_white_is_kept():
    assert not keep_night(torch.zeros(3, 20, 20), torch.ones(3, 20, 20)).any()
    result = torch.full((3, 20, 20), 1.5)
    assert torch.equal(keep_night(torch.full((3, 20, 20), 0.5), result), result)
