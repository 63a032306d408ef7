"""Brightness, exposure and strength: what the user asks for is what the picture does."""

from itertools import pairwise

import pytest
import torch
from nano import random_model

from llflow import LLFlow, enhance
from llflow.enhancement import bracket, draw
from llflow.network.model import LeanConfig
from llflow.picture import light, preprocess, retinex
from llflow.picture.highlights import roll_off

NANO = LeanConfig(
    half=8,
    quarter=8,
    eighth=8,
    blocks=(1, 1, 1),
    thumbnail=8,
    steps=(1, 1, 1),
    hidden=(8, 8, 8),
)


@pytest.fixture(scope="module")
def lean():
    model = random_model(NANO)
    model.illumination.whole[3].bias.data[0] = 1.5  # brightens by 1.5·2.2 / ln 2 = 4.8 stops
    return model


@pytest.fixture(params=["lean", "nano"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def image():
    return 0.1 * torch.rand(3, 20, 27, generator=torch.Generator().manual_seed(1))


STOPS = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]


def test_brightness_multiplies_light(model, image):
    results = bracket(model, image, STOPS)
    plain = results[STOPS.index(0.0)]
    for stops, result in zip(STOPS, results, strict=True):
        inside = (plain > 0) & (plain < 1) & (result < 1)
        expected = plain[inside] ** light.GAMMA * 2**stops
        # float32 through two powers of 2.2
        torch.testing.assert_close(result[inside] ** light.GAMMA, expected, rtol=1e-4, atol=1e-7)
    means = [result.mean() for result in results]
    assert all(a < b for a, b in pairwise(means))


def test_brightnesses_share_one_pass(model, image):
    passes = []
    handle = model.encoder.register_forward_hook(lambda *_: passes.append(1))
    try:
        results = bracket(model, image, STOPS)
    finally:
        handle.remove()
    assert len(passes) == 1
    for stops, result in zip(STOPS, results, strict=True):
        assert torch.equal(result, enhance(model, image, brightness=stops))


def test_brightnesses_may_come_one_by_one(lean, image):
    results = bracket(lean, image, (stops for stops in STOPS))
    assert len(results) == len(STOPS)


@pytest.mark.parametrize("mean", [0.1, 0.3, 0.6])
def test_exposure_is_the_mean(model, image, mean):
    result = enhance(model, image, exposure=mean)
    assert result.mean().item() == pytest.approx(mean, abs=1e-4)


def test_exposure_that_a_picture_cannot_have(lean):
    with pytest.raises(ValueError, match="black"):
        light.factor_for_mean(torch.zeros(3, 4, 4), 0.5)


def test_strength(model, image):
    bright = enhance(model, image)
    assert torch.equal(enhance(model, image, strength=0.0), image)
    assert torch.equal(enhance(model, image, strength=1.0), bright)
    half = enhance(model, image, strength=0.5)
    expected = (image**light.GAMMA + bright**light.GAMMA) / 2
    torch.testing.assert_close(half**light.GAMMA, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"brightness": float("nan")}, "brightness"),
        ({"exposure": 0.0}, "exposure"),
        ({"exposure": 1.0}, "exposure"),
        ({"exposure": "bright"}, "exposure"),
        ({"strength": 1.1}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_arguments_out_of_range(model, image, arguments, message):
    with pytest.raises(ValueError, match=message):
        enhance(model, image, **arguments)


def test_the_light_is_of_the_whole_picture(lean, image):
    """Computed once, and the same for pictures made of tiles."""
    calls = []
    handle = lean.illumination.register_forward_hook(lambda *_: calls.append(1))
    large = torch.nn.functional.interpolate(image[None], size=(200, 300))[0]
    try:
        whole = enhance(lean, large)
        assert len(calls) == 1
        tiled = enhance(lean, large, tile=64)
        assert len(calls) == 2
    finally:
        handle.remove()
    assert (whole - tiled).abs().max() < 1 / 255


def test_a_crop_under_the_light_of_its_whole_is_a_crop_of_the_result(lean):
    picture = torch.rand(1, 3, 320, 320) * 0.2
    equalized = retinex.equalize(picture[0])[None]
    low = preprocess.network_input(picture, equalized)
    told = lean.light(picture, equalized)
    over = told.over(320, 320)
    whole = lean.typical(lean.condition(low, told, over))
    part = (..., slice(0, 240), slice(0, 240))
    cut = lean.typical(lean.condition(low[part], told, over[part]))
    inner = (..., slice(0, 240 - 8 - lean.config.reach), slice(0, 240 - 8 - lean.config.reach))
    torch.testing.assert_close(cut[inner], whole[inner], rtol=0, atol=1e-5)


def test_samples_draw_exposures(lean, image):
    """The mean of log means spreads as the branch says; texture alone spreads less."""
    told = lean.light(image[None], retinex.equalize(image)[None])
    means = torch.stack([sample.mean() for sample in draw(lean, image, samples=64)])
    # 64 draws: a deviation's standard error is a twelfth of it, twice that and the texture's share
    assert means.log().std().item() == pytest.approx(told.std.item(), rel=0.35)


def test_light_is_found_as_a_change_of_the_pictures_own():
    """An untrained branch leaves brightness and its shape as they are."""
    model = LLFlow(NANO).eval()
    picture = torch.rand(1, 3, 64, 96).pow(2)
    told = model.light(picture, retinex.equalize(picture[0])[None])
    coarse = preprocess.averaged(picture.mean(1, keepdim=True), (16, 24)) + 1 / 255
    torch.testing.assert_close(told.exposure, coarse.mean((1, 2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(told.shape, coarse / coarse.mean(), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("deviations", "share"), [(-3, 0), (0.9, 0), (1.5, 0.5), (2.1, 1)])
def test_a_picture_stays_if_brightening_it_may_be_a_mistake(lean, image, deviations, share):
    """The branch of an untrained model: its log exposure is the picture's own and this change."""
    model = LLFlow(NANO).eval()
    bright = image * 8
    std = model.light(bright[None], bright[None]).std.item()
    own = (bright.mean().log() - (bright.mean() + 1 / 255).log()).item()  # which the branch adds
    model.illumination.whole[3].bias.data[0] = deviations * std + own
    result = enhance(model, bright)
    if share == 0:
        assert torch.equal(result, bright)
        return
    whole = roll_off(draw(model, bright, temperature=0.0)[0]).clamp(0, 1)
    expected = light.keep_lights(bright, light.blend(bright, whole, share))
    # own is what the branch adds to the mean of a thumbnail's cells, all equal only about
    torch.testing.assert_close(result, expected.clamp(0, 1), rtol=0, atol=0.02)
    assert (result - bright).abs().mean() > 0.02


def test_the_exposure_is_the_mean_of_what_is_put_out(lean, image):
    told = lean.light(image[None], retinex.equalize(image)[None])
    picture = enhance(lean, image, brightness=-4.0)  # dark enough for nothing to clip
    mean = picture.mean().item() / light.factor_of_stops(-4.0)
    assert mean == pytest.approx(told.exposure.item(), rel=0.15)


def test_networks_without_the_branch_take_no_light(nano, lean, image):
    told = lean.light(image[None], retinex.equalize(image)[None])
    assert nano.light(image[None], image[None]) is None
    with pytest.raises(ValueError, match="without an illumination branch"):
        nano.condition(torch.rand(1, 6, 16, 16), told)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (400, 600), (97, 131)])
def test_average_over_areas(size):
    picture = torch.rand(2, *size, dtype=torch.float64)
    result = preprocess.averaged(picture, (4, 6))
    assert result.shape == (2, 4, 6)
    torch.testing.assert_close(result.mean((1, 2)), picture.mean((1, 2)))
    if size == (400, 600):
        blocks = picture.reshape(2, 4, 100, 6, 100).mean((2, 4))
        torch.testing.assert_close(result, blocks)


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_networks_in_bf16_make_nearly_the_same_picture(model, image, precision):
    exact = enhance(model, image)
    close = enhance(model, image, precision=precision)
    # bf16 has 8 bits; a random network amplifies more than a trained one
    assert (exact - close).abs().mean() < 0.02
    assert torch.equal(close, enhance(model, image, precision=precision))


def test_lights_stay_as_bright_and_as_colored(lean, image):
    lamp = torch.tensor([1.0, 0.8, 0.3])[:, None, None]
    image[:, 4:9, 5:12] = lamp
    result = enhance(lean, image, exposure="auto")
    before, after = ((p**light.GAMMA).mean(0) for p in (image, result))
    assert (after > 0.79 * before).all()


def test_where_the_result_has_more_light_it_is_untouched():
    dark, bright = 0.1 * torch.rand(3, 5, 6), 0.5 + torch.rand(3, 5, 6)
    assert torch.equal(light.keep_lights(dark, bright), bright)
    # From a fifth less light on it is the original alone; in between, a blend of both.
    torch.testing.assert_close(light.keep_lights(bright.clamp(0, 1), dark), bright.clamp(0, 1))
    half = (0.9 * torch.ones(3, 1, 1) ** light.GAMMA) ** (1 / light.GAMMA)
    kept = light.keep_lights(torch.ones(3, 1, 1), half)
    torch.testing.assert_close(kept**light.GAMMA, torch.full((3, 1, 1), 0.95))


def test_black_stays_black(lean):
    assert not enhance(lean, torch.zeros(3, 16, 24)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brightness": "1"}, "expected brightness as a number, got '1'"),
        ({"exposure": None}, "expected exposure as a number, got None"),
        ({"strength": None}, "expected strength as a number, got None"),
        ({"temperature": None}, "expected temperature as a number, got None"),
        ({"samples": 1.5}, "expected samples as an integer, got 1.5"),
        ({"tile": 1.5}, "expected tile as an integer, got 1.5"),
        ({"seed": 1.5}, "expected seed as an integer, got 1.5"),
    ],
)
def test_arguments_of_another_kind_are_named(lean, image, options, message):
    with pytest.raises(TypeError, match=message):
        enhance(lean, image, **options)


def test_a_picture_of_another_kind_is_refused(lean, image):
    with pytest.raises(TypeError, match=r"as a tensor \(3, H, W\) .* got list"):
        enhance(lean, image.tolist())
    with pytest.raises(ValueError, match=r"\(3, H, W\) is for tensors"):
        enhance(lean, image.numpy())
    with pytest.raises(TypeError, match="expected a model first"):
        enhance(image, lean)


def test_stops_beyond_reason_are_refused(lean, image):
    with pytest.raises(ValueError, match="at most ±20 stops, got 5000"):
        enhance(lean, image, brightness=5000)
