"""What happens to samples beside being cut: variety, night skies, and small whole pictures."""

import math

import numpy as np
import pytest
import torch

from llflow import data
from llflow.data import Crops, Pair, Synthesis, Variety, Wholes
from llflow.network.illumination import thumbnail
from llflow.picture import preprocess, retinex


@pytest.fixture
def pair():
    """Bright on the left, its dark partner at a tenth; 64×96."""
    generator = torch.Generator().manual_seed(0)
    bright = (
        torch.linspace(0.9, 0.1, 96).expand(3, 64, 96) * torch.tensor([1, 0.8, 0.5])[:, None, None]
    )
    bright = (bright + 0.02 * torch.randn(3, 64, 96, generator=generator)).clamp(0, 1)
    dark = (bright * 0.1 * 255).round() / 255
    pictures = (dark, retinex.equalize(dark), bright)
    return Pair("a", *((picture * 255).round().to(torch.uint8) for picture in pictures))


def crops(pair, batch=64, **variety):
    return Crops([pair], size=16, batch=batch, seed=0, variety=Variety(**variety))[3]


def test_without_variety_the_samples_are_cut_and_nothing_else(pair):
    samples = crops(pair)
    assert torch.equal(samples.noisy, samples.bright)
    mean = (pair.bright.float() / 255).mean().log()
    torch.testing.assert_close(samples.log_exposure, mean.expand(64))


def test_the_illumination_is_that_of_the_crop(pair):
    """Coarse, so only up to the picture's detail: a slope of 0.8 over six coarse columns."""
    samples = crops(pair)
    luminance = samples.bright.mean((1, 2, 3))
    torch.testing.assert_close(
        samples.illumination.mean((1, 2, 3)), luminance, rtol=0.05, atol=0.02
    )
    # Turned and mirrored as the picture is.
    for bright, light in zip(samples.bright.mean(1), samples.illumination[:, 0], strict=True):
        for axis in (0, 1):
            along = [x.mean(axis) for x in (bright, light)]
            ours, theirs = ((x[-4:].mean() - x[:4].mean()).item() for x in along)
            assert ours == pytest.approx(theirs, abs=0.04)


@pytest.mark.parametrize("upright", [False, True])
def test_whole_and_place_lead_to_the_crops_illumination(pair, upright):
    """The coarse luminance of the whole picture, sampled at the crops' places, is theirs."""
    if upright:
        pair = Pair("a", *(p.mT.contiguous() for p in (pair.dark, pair.equalized, pair.bright)))
    samples = crops(pair, predicted=0.5, gains=1.0)
    whole = data.coarse_luminance(pair.bright.float() / 255)
    whole = data.lying(whole).expand(64, 1, 16, 24) / whole.mean()
    grid = torch.nn.functional.affine_grid(samples.place, [64, 1, 16, 16], align_corners=False)
    there = torch.nn.functional.grid_sample(whole, grid, padding_mode="border", align_corners=False)
    there = there * samples.log_exposure.exp()[:, None, None, None]
    torch.testing.assert_close(there, samples.illumination, rtol=1e-4, atol=1e-5)
    assert samples.whole.shape == (64, 6, 64, 96)
    dark, equalized = (p.float() / 255 for p in (pair.dark, pair.equalized))
    light = thumbnail(dark[None], equalized[None])[0]
    assert torch.equal(samples.whole[0], light.mT if upright else light)
    assert 16 <= samples.is_predicted.sum() <= 48  # four standard deviations


def test_draws_of_variety_leave_the_cut_as_it_is(pair):
    plain, varied = crops(pair), crops(pair, illumination_error=0.2, jitter=3.0, predicted=0.5)
    assert torch.equal(plain.bright, varied.bright)
    assert torch.equal(plain.low, varied.low)


def test_gains_multiply_picture_and_illumination(pair):
    plain, gained = crops(pair), crops(pair, gains=1.0)
    gains = (gained.log_exposure - plain.log_exposure).exp()
    assert (gains.log2().abs() <= 2.3 / 2.2 + 1e-5).all()
    assert gains.min() < 0.7
    assert gains.max() > 1.4
    shaped = gains[:, None, None, None]
    torch.testing.assert_close(gained.illumination, plain.illumination * shaped)
    torch.testing.assert_close(gained.bright, (plain.bright * shaped).clamp(max=1))
    assert torch.equal(gained.low, plain.low)
    some = crops(pair, batch=400, gains=0.3).log_exposure
    share = (some != some.mode().values).float().mean()
    assert 0.21 < share < 0.39  # four standard deviations


def test_the_illumination_has_smooth_errors_and_the_right_mean(pair):
    coarse = data.coarse_luminance(pair.bright.float() / 255)
    variety, logs = Variety(illumination_error=0.1), []
    for seed in range(200):
        wrong = variety.mistaken(coarse, np.random.default_rng(seed))
        torch.testing.assert_close(wrong.mean(), coarse.mean())
        logs.append((wrong / coarse).log())
    logs = torch.stack(logs)
    # Four errors of 0.1·1.25·|N(0, 1)|, less what interpolation and the fixed mean take: 0.1 to
    # 0.25 in all.
    assert 0.1 < logs.std() < 0.25
    steps = (logs[..., 1:] - logs[..., :-1]).std()
    assert steps < 0.8 * math.sqrt(2) * logs.std()  # neighbours err alike
    upright = variety.mistaken(coarse.mT, np.random.default_rng(0))
    assert upright.shape == (1, 24, 16)


def test_channels_change_places_in_all_pictures_alike(pair):
    plain, permuted = crops(pair), crops(pair, permuted=1.0)
    orders = set()
    for index in range(64):
        order = [
            int((plain.bright[index] == channel).flatten(1).all(1).nonzero()[0])
            for channel in permuted.bright[index]
        ]
        orders.add(tuple(order))
        low = plain.low[index].reshape(2, 3, 16, 16)[:, order].reshape(6, 16, 16)
        torch.testing.assert_close(permuted.low[index], low)
    assert len(orders) == 6


def test_a_gamma_changes_the_dark_picture_alone(pair):
    plain, changed = crops(pair), crops(pair, gammas=1.0)
    assert torch.equal(plain.bright, changed.bright)
    assert torch.equal(plain.low[:, 3:], changed.low[:, 3:])
    dark = retinex.from_log_low(changed.low[:, :3])
    torch.testing.assert_close(dark * 255, (dark * 255).round(), rtol=0, atol=2e-3)
    ratios = dark.mean((1, 2, 3)) / retinex.from_log_low(plain.low[:, :3]).mean((1, 2, 3))
    assert ratios.min() < 0.8
    assert ratios.max() > 1.5
    bright = Pair("b", pair.bright.clamp(min=90), pair.equalized, pair.bright)
    assert torch.equal(crops(bright).low, crops(bright, gammas=1.0).low)


def test_the_likelihood_is_asked_of_noisy_pictures(pair):
    samples = crops(pair, jitter=2.0)
    noise = (samples.noisy - samples.bright) * 255
    assert noise.std() == pytest.approx(2.0, rel=0.02)  # of 49,152 numbers
    assert noise.mean().abs() < 0.05


# --- synthetic pairs -------------------------------------------------------------------------


def test_a_night_sky_is_black_in_both(pair):
    dark, bright = pair.dark / 255, pair.bright / 255
    for seed in range(8):
        night, lit = data.night_sky(dark, bright, np.random.default_rng(seed))
        again = data.night_sky(dark, bright, np.random.default_rng(seed))
        assert torch.equal(night, again[0])
        changed = (lit != bright).any(0)
        assert changed.any()
        sky = (lit.amax(0) < 16 / 255) & changed
        assert night[:, sky].max() <= 8 / 255  # 2 levels, and noise of 1.2
        for x in (night, lit):
            torch.testing.assert_close(x * 255, (x * 255).round())
            assert 0 <= x.min() <= x.max() <= 1


def test_shares_of_synthetic_pairs(pair):
    dark, bright = pair.dark / 255, pair.bright / 255
    kinds = {"sky": 0, "unchanged": 0, "darkened": 0}
    synthesis = Synthesis(skies=0.3, unchanged=0.2)
    for index in range(200):
        made = synthesis.pair(f"{index}", bright, 0, dark)
        if not torch.equal(made.bright, pair.bright):
            kinds["sky"] += 1
        else:
            kinds["unchanged" if torch.equal(made.dark, made.bright) else "darkened"] += 1
        equalized = (retinex.equalize(made.dark / 255) * 255).round()
        assert torch.equal(made.equalized.float(), equalized)
    assert 34 < kinds["sky"] < 86  # four standard deviations of 200 draws
    assert 17 < kinds["unchanged"] < 63
    assert sum(kinds.values()) == 200


# --- whole pictures --------------------------------------------------------------------------


def test_thumbnails_of_whole_pictures(pair):
    batches = Wholes([pair], batch=8, seed=0)
    shapes = set()
    for step in range(12):
        seen, luminance = batches[step]
        assert all(map(torch.equal, batches[step], (seen, luminance)))
        shapes.add((tuple(seen.shape), tuple(luminance.shape)))
        # A window as dark as it is bright: a tenth.
        light = retinex.from_log_low(seen[:, :3]).mean((1, 2, 3))
        torch.testing.assert_close(light, 0.1 * luminance.mean((1, 2, 3)), rtol=0.1, atol=2e-3)
    assert shapes == {
        ((8, 6, 64, 96), (8, 1, 16, 24)),
        ((8, 6, 96, 64), (8, 1, 24, 16)),
    }


def test_some_are_the_picture_itself_as_enhancement_sees_it(pair):
    dark = pair.dark[None] / 255
    whole = thumbnail(dark, retinex.equalize(dark))[0]
    batches = Wholes([pair], batch=8, seed=0)
    seen = [one for step in range(4) for one in batches[step].thumbnails]
    ways = [whole, whole.flip(2), whole.flip(1), whole.flip(1, 2)]
    ways += [way.mT for way in ways]
    found = [
        any(way.shape == one.shape and torch.allclose(way, one, atol=1e-5) for way in ways)
        for one in seen
    ]
    assert 0 < sum(found) < len(found)


def test_upright_pictures_are_turned(pair):
    upright = Pair("b", *(x.mT.contiguous() for x in (pair.dark, pair.equalized, pair.bright)))
    seen, luminance = Wholes([pair, upright], batch=16, seed=0)[0]
    assert seen.shape[1:] in ((6, 64, 96), (6, 96, 64))
    assert luminance.shape[0] == 16


def test_of_large_pictures_every_second_pixel_is_taken():
    from llflow.data.wholes import _window

    for seed in range(20):
        rows, columns = _window((400, 600), np.random.default_rng(seed))[1:]
        assert (rows.step, columns.step) == (2, 2)
        assert rows.stop - rows.start >= 200
        assert columns.stop <= 600
        rows, _ = _window((64, 96), np.random.default_rng(seed))[1:]
        assert rows.step == 1


def test_coarse_luminance_is_the_mean_of_areas():
    bright = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    expected = bright.mean(0).reshape(16, 2, 24, 2).mean((1, 3))
    torch.testing.assert_close(data.coarse_luminance(bright)[0], expected)
    assert data.coarse_luminance(bright.mT).shape == (1, 24, 16)
    assert preprocess.averaged(bright, (16, 24)).shape == (3, 16, 24)
