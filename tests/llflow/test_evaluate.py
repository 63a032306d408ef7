"""Scores agree with scikit-image's, and what is scored is what would be written."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from llflow import data, images
from llflow.enhance import NotFinite, enhance
from llflow.evaluation.evaluate import evaluate, psnr, ssim, validation_psnr


def pictures(height, width, error, seed):
    rng = np.random.default_rng(seed)
    reference = rng.random((height // 4 + 1, width // 4 + 1, 3)).repeat(4, 0).repeat(4, 1)
    reference = reference[:height, :width]
    image = (reference + error * rng.standard_normal(reference.shape)).clip(0, 1)
    return [torch.from_numpy(x).permute(2, 0, 1).float() for x in (image, reference)]


def last_axis(image):
    return image.permute(1, 2, 0).double().numpy()


SIZES = {"height": st.integers(11, 40), "width": st.integers(11, 40)}


@given(**SIZES, error=st.floats(0.001, 1), seed=st.integers(0, 1000))
def test_psnr_is_scikit_images(height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    expected = peak_signal_noise_ratio(last_axis(reference), last_axis(image), data_range=1)
    assert psnr(image, reference) == pytest.approx(expected, abs=1e-4)  # float32 against float64


@given(**SIZES, error=st.floats(0, 1), seed=st.integers(0, 1000))
def test_ssim_is_scikit_images(height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    expected = structural_similarity(
        last_axis(reference),
        last_axis(image),
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    # float32 against float64: σ² = E[x²] - E[x]² loses some 1e-7 of values up to 1, and is divided
    # by no less than c₂ = 9e-4.
    assert ssim(image, reference) == pytest.approx(expected, abs=5e-4)


def test_a_perfect_picture():
    image = torch.rand(3, 16, 16)
    assert psnr(image, image) == math.inf
    assert ssim(image, image) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
def test_smaller_than_the_window_has_no_ssim(size):
    assert math.isnan(ssim(torch.rand(3, *size), torch.rand(3, *size)))


def test_scores_are_means_over_pictures_at_8_bits(nano, pairs_folder):
    files = data.find_pairs(pairs_folder)[:3]
    scores = {score.name: score for score in evaluate({"nano": nano}, files)}
    assert list(scores) == ["input", "histogram equalisation", "nano"]
    expected = []
    for pair in files:
        dark, bright = images.read(pair.dark).image, images.read(pair.bright).image
        result = np.asarray(images.to_pil(enhance(nano.fold(), dark)))
        written = torch.from_numpy(result.copy()).permute(2, 0, 1) / 255
        expected.append((psnr(written, bright), ssim(written, bright)))
    mean_psnr, mean_ssim = np.mean(expected, axis=0)
    assert scores["nano"].psnr == pytest.approx(mean_psnr, abs=1e-4)
    assert scores["nano"].ssim == pytest.approx(mean_ssim, abs=1e-5)
    darks = [psnr(images.read(p.dark).image, images.read(p.bright).image) for p in files]
    assert scores["input"].psnr == pytest.approx(np.mean(darks), abs=1e-4)


def test_validation_is_the_models_score(nano, pairs_folder):
    files = data.find_pairs(pairs_folder)[:2]
    expected = next(s.psnr for s in evaluate({"nano": nano}, files) if s.name == "nano")
    assert validation_psnr(nano, files) == expected


def test_validation_of_a_model_that_overflows(nano, pairs_folder, monkeypatch):
    def overflow(*args, **options):
        raise NotFinite("overflow")

    monkeypatch.setattr("llflow.evaluation.evaluate.enhance", overflow)
    assert validation_psnr(nano, data.find_pairs(pairs_folder)) == -math.inf


def test_samples_are_scored_as_enhance_makes_them(nano, pairs_folder):
    files = data.find_pairs(pairs_folder)[:1]
    pair = data.read_pair(files[0])
    dark, bright = pair.dark.float() / 255, pair.bright.float() / 255
    expected = (enhance(nano, dark, temperature=0.5, samples=2) * 255).round() / 255
    score = evaluate({"nano": nano}, files, temperature=0.5, samples=2)[-1]
    # fold's float32 rounding may move a pixel by one level of 255
    assert score.psnr == pytest.approx(psnr(expected, bright), abs=0.02)
    assert score.psnr != evaluate({"nano": nano}, files)[-1].psnr
