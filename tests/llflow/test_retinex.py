"""Maps of an image, against independent implementations and by their definition."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llflow.picture import preprocess, retinex


@st.composite
def pictures(draw):
    """uint8 (3, H, W): from one pixel up, from one level to all of them."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    darkest = draw(st.integers(0, 255))
    brightest = draw(st.integers(darkest, 255))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    skew = draw(st.sampled_from([1, 3, 8]))
    values = darkest + (brightest - darkest) * rng.random((3, height, width)) ** skew
    return values.round().astype(np.uint8)


@given(pictures())
def test_equalize_is_opencvs_to_the_last_bit(picture):
    ours = retinex.equalize(torch.from_numpy(picture).float() / 255)
    theirs = np.stack([cv2.equalizeHist(plane) for plane in picture])
    assert np.array_equal((ours * 255).round().to(torch.uint8).numpy(), theirs)


def test_equalize_of_a_large_dark_picture_is_opencvs():
    rng = np.random.default_rng(0)
    picture = (255 * rng.random((3, 800, 1200)) ** 6).astype(np.uint8)
    ours = retinex.equalize(torch.from_numpy(picture).float() / 255)
    theirs = np.stack([cv2.equalizeHist(plane) for plane in picture])
    assert np.array_equal((ours * 255).round().to(torch.uint8).numpy(), theirs)


def test_color_maps_by_their_formulas():
    pixel = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    by_mean = retinex.color_map_by_mean(pixel, eps=0).flatten()
    by_sum = retinex.color_map_by_sum(pixel, eps=0).flatten()
    torch.testing.assert_close(by_mean, torch.tensor([0.5, 1.0, 1.5]))
    torch.testing.assert_close(by_sum, by_mean / 3)


@pytest.mark.parametrize("color_map", retinex.COLOR_MAPS.values())
def test_color_maps_ignore_illumination(color_map):
    """Up to the guard against division by zero: the eps of 1e-4 beside a sum of at least 0.3."""
    image = 0.3 + 0.6 * torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(color_map(image), color_map(image / 3), rtol=2e-3, atol=0)


def test_noise_map_by_hand():
    colors = torch.zeros(1, 3, 3)
    colors[0, 1, 1] = 1.0
    expected = torch.tensor([[0, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0]])
    assert torch.equal(retinex.noise_map(colors)[0], expected)
    # Neighbours outside count as 0: a flat picture has a border of half its value.
    flat = retinex.noise_map(torch.full((1, 4, 4), 0.4))[0]
    torch.testing.assert_close(flat[0], torch.full((4,), 0.2))
    assert not flat[1:-1, 1:-1].any()


def test_log_low_is_finite_on_black():
    assert retinex.log_low(torch.zeros(3, 1, 1)).exp().flatten().tolist() == pytest.approx(
        [1e-3] * 3
    )


@given(st.integers(1, 40), st.integers(1, 40))
def test_pad_mirrors_to_multiples_of_eight_and_crop_undoes_it(height, width):
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, height, width)
    padded = preprocess.pad(image)
    assert padded.shape[1] % 8 == 0
    assert padded.shape[2] % 8 == 0
    assert 0 <= padded.shape[1] - height < 8
    bottom, right = padded.shape[1] - height, padded.shape[2] - width
    mirrored = np.pad(image.numpy(), ((0, 0), (0, bottom), (0, right)), mode="symmetric")
    assert np.array_equal(padded.numpy(), mirrored)
    assert torch.equal(preprocess.crop(padded, height, width), image)
