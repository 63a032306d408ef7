"""Scores, activation maps and uncertainty: what the definitions say, and for one pass each."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import llflow
from llflow.distribution.activation import equalized_map, gradient_norm, without_grid
from llflow.distribution.given import windows
from llflow.picture import preprocess, retinex
from llflow.picture.files import to_pil


@pytest.fixture(scope="module")
def lean():
    return llflow.load().fold()


def pictures(*size, count=1, seed=0):
    made = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    levels = (255 * made).round() / 255
    return levels[0] if count == 1 else list(levels)


@pytest.fixture
def passes(monkeypatch):
    """How often an encoder ran."""
    seen = []

    def count(model):
        forward = model.encoder.forward
        monkeypatch.setattr(
            model.encoder, "forward", lambda *a, **k: seen.append(1) or forward(*a, **k)
        )
        return seen

    return count


# --- windows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 8), (40, 200, 8), (96, 56, 64)])
def test_sums_over_windows_are_those_of_the_whole(height, width, side):
    """Of what sees 9 pixels to every side, with zeros beyond an edge, as convolutions have them."""
    picture = torch.rand(1, 1, height, width, dtype=torch.float64)
    kernel = torch.rand(1, 1, 19, 19, dtype=torch.float64)

    def summed(x):
        return torch.nn.functional.conv2d(x, kernel, padding=9).square().sum()

    found = [sign * summed(picture[(..., *at)]) for at, sign in windows(height, width, side, 9)]
    # A sum of some 20,000 squares of up to 200, in float64.
    torch.testing.assert_close(sum(found), summed(picture), rtol=1e-10, atol=0)


# --- score -----------------------------------------------------------------------------------


def test_bits_without_noise_are_the_likelihood_of_training(nano):
    dark, result = pictures(17, 22, count=2)
    (found,) = llflow.score(nano, dark, [result], noise=0)
    low = preprocess.pad(preprocess.network_input(dark, retinex.equalize(dark)))[None]
    with torch.no_grad():
        bits = nano.nll(preprocess.pad(result)[None], low).item() / 3
    assert found.bits == pytest.approx(bits, rel=1e-5)  # float32, summed in another order
    assert found.stops is None


def test_the_mismatch_is_the_divergence_of_each_channels_normal(nano):
    dark, result = pictures(24, 32, count=2)
    low = preprocess.network_input(dark, retinex.equalize(dark))[None]
    with torch.no_grad():
        cond = nano.condition(low)
        z = nano.flow.encode(result[None], cond)[0] - nano.flow.base(cond).mean
    normals = torch.distributions.Normal(z[0].mean((1, 2)), z[0].std((1, 2), correction=0))
    standard = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(normals, standard).mean().item()
    (found,) = llflow.score(nano, dark, [result], noise=0)
    assert found.mismatch == pytest.approx(expected, rel=1e-4)


def test_samples_of_the_model_match_it(lean):
    dark = pictures(128, 192) / 6
    low = preprocess.network_input(dark, retinex.equalize(dark))[None]
    with torch.no_grad():
        drawn = lean.flow.sample(lean.condition(low))[0]
    at_one = drawn.clamp(0, 1)
    smooth = torch.nn.functional.avg_pool2d(at_one, 5, 1, 2)
    noise = torch.randn(at_one.shape, generator=torch.Generator().manual_seed(0)) / 10
    results = [at_one, smooth, (at_one + noise).clamp(0, 1)]
    own, blurred, noisy = llflow.score(lean, dark, results, noise=0)
    assert own.mismatch < blurred.mismatch
    assert own.mismatch < noisy.mismatch


def test_brightness_counts_for_stops_alone(lean):
    dark, result = pictures(24, 32, count=2)
    result = result / 2
    one, twice = llflow.score(lean, dark / 8, [result, 2 * result])
    assert twice.stops - one.stops == pytest.approx(2.2)  # twice the values, of gamma 2.2
    assert twice.bits == pytest.approx(one.bits, rel=1e-5)
    assert twice.mismatch == pytest.approx(one.mismatch, rel=1e-4)


def test_a_black_result_has_a_score(lean):
    (found,) = llflow.score(lean, pictures(16, 16) / 8, [torch.zeros(3, 16, 16)])
    assert found.stops is None
    assert math.isfinite(found.bits + found.mismatch)


def test_a_large_picture_scores_as_a_whole(nano):
    dark, *results = pictures(24, 520, count=3)
    whole = llflow.score(nano, dark, results)
    parts = llflow.score(nano, dark, results, side=8)
    for one, other in zip(whole, parts, strict=True):
        # log-dets are float32 sums of some 37,000 terms, three of which are added here.
        assert one.bits == pytest.approx(other.bits, abs=1e-5)
        assert one.mismatch == pytest.approx(other.mismatch, rel=1e-5)


def test_several_results_take_one_pass_and_score_as_each_does(nano, passes):
    dark, *results = pictures(16, 24, count=4)
    seen = passes(nano)
    together = llflow.score(nano, dark, results)
    assert len(seen) == 1
    assert together == [llflow.score(nano, dark, [result])[0] for result in results]


def test_whatever_enhance_takes(nano, tmp_path):
    dark, result = pictures(9, 13, count=2)
    to_pil(result).save(tmp_path / "result.png")
    array = np.asarray(to_pil(result))
    given = [result, tmp_path / "result.png", Image.open(tmp_path / "result.png"), array]
    first, *others = llflow.score(nano, to_pil(dark), given)
    for other in others:
        assert other.bits == pytest.approx(first.bits, abs=1e-6)


@pytest.mark.parametrize(
    ("results", "how", "message"),
    [
        ([], {}, "at least one result"),
        ([torch.zeros(3, 8, 9)], {}, "dark picture's size 8×8, got 9×8 for number 1"),
        ([torch.zeros(3, 8, 8) + 2], {}, r"values in \[0, 1\]"),
        ([torch.zeros(3, 8, 8)], {"noise": -1}, "noise >= 0"),
        ([torch.zeros(3, 8, 8)], {"seed": 2**64}, "a seed of 64 bits, got 18446744073709551616"),
        ([torch.zeros(3, 8, 8)], {}, "larger than 8×8 pixels"),
    ],
)
def test_what_can_not_be_scored(nano, results, how, message):
    with pytest.raises(ValueError, match=message):
        llflow.score(nano, torch.zeros(3, 8, 8), results, **how)


def test_a_model_comes_first():
    for function in (llflow.score, llflow.explain):
        with pytest.raises(TypeError, match="expected a model first"):
            function(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8))


# --- explain ---------------------------------------------------------------------------------


def test_gradient_norm_is_the_likelihoods(nano):
    """Against central differences in float64 along single values of the picture."""
    model = nano.fold().double()
    dark, bright = pictures(30, 45, count=2)
    norm = gradient_norm(model, dark, bright)
    assert norm.shape == (30, 45)
    low = preprocess.pad(preprocess.network_input(dark, retinex.equalize(dark)))[None].double()
    padded = preprocess.pad(bright)[None].double()
    step = 1e-5
    for row, column in ((0, 0), (7, 40), (29, 44)):
        squared = 0.0
        for channel in range(3):
            direction = torch.zeros_like(padded)
            direction[0, channel, row, column] = step
            with torch.no_grad():
                ends = [model.nll(padded + sign * direction, low).item() for sign in (1, -1)]
            squared += ((ends[0] - ends[1]) * 32 * 48 / (2 * step)) ** 2
        # Differences of bits/pixel near 1, each rounded to 1e-16, times 1536/2e-5: some 1e-8; the
        # norm is kept in float32.
        assert norm[row, column].item() == pytest.approx(math.sqrt(squared), rel=1e-4)


def test_gradients_in_tiles_are_those_of_the_whole(nano):
    dark, bright = pictures(16, 600, count=2)
    whole = gradient_norm(nano, dark, bright)
    parts = gradient_norm(nano, dark, bright, side=64)
    assert (whole - parts).abs().max() < 1e-5 * whole.max()  # float32, in other blocks


def test_equalised_map_is_the_rank():
    norm = torch.tensor([[0.1, 1e6], [0.1, 3.0]])
    assert equalized_map(norm).tolist() == [[0.5, 1.0], [0.5, 0.75]]


def test_a_pattern_of_8_pixels_is_no_part_of_a_map():
    grid = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).tile(4, 5)
    found = without_grid(grid)
    assert found.shape == (32, 40)
    inside = found[4:-4, 4:-4]
    torch.testing.assert_close(inside, grid.mean().expand_as(inside))


def test_explain_leaves_model_and_pictures_alone(nano):
    dark, bright = pictures(8, 8, count=2)
    found = llflow.explain(nano, dark, bright)
    expected = equalized_map(without_grid(gradient_norm(nano, dark, bright)))
    assert torch.equal(found, expected)
    assert all(parameter.grad is None for parameter in nano.parameters())
    with torch.no_grad():  # as a caller may have it
        assert torch.equal(found, llflow.explain(nano, dark, bright))


# --- uncertainty -----------------------------------------------------------------------------


def test_uncertainty_is_the_deviation_over_samples(nano, passes):
    dark = pictures(13, 21) / 8
    drawn = torch.stack([x for (x,) in llflow.variants(nano, dark, samples=5, seed=3)])
    expected = drawn.var(0).mean(0).sqrt()
    seen = passes(nano)
    found = llflow.uncertainty(nano, dark, samples=5, seed=3)
    assert len(seen) == 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("samples", [0, 1])
def test_one_sample_has_no_deviation(nano, samples):
    with pytest.raises(ValueError, match="samples >= 2"):
        llflow.uncertainty(nano, pictures(8, 8), samples=samples)
