"""Every convention agrees with who else implements it, and with what it comes to by hand."""

import math
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from llflow.evaluation.metrics import (
    eight_bit,
    grey,
    gt_mean_grey,
    gt_mean_llflow,
    psnr,
    raw,
    ssim,
    ssim_columns,
    ssim_grey,
)

ADJUSTMENTS = [raw, gt_mean_grey, gt_mean_llflow]
MEASURES = [psnr, ssim, ssim_grey, ssim_columns]
SIZES = {"height": st.integers(11, 40), "width": st.integers(11, 40)}
PICTURES = {**SIZES, "error": st.floats(0.01, 1), "seed": st.integers(0, 1000)}
ONE_LEVEL = 20 * math.log10(255)  # dB, of pictures that differ by one level of 255 everywhere


def pictures(height, width, error, seed):
    """A picture and its reference in 8 bits."""
    rng = np.random.default_rng(seed)
    reference = rng.random((height // 4 + 1, width // 4 + 1, 3)).repeat(4, 0).repeat(4, 1)
    reference = reference[:height, :width]
    image = (reference + error * rng.standard_normal(reference.shape)).clip(0, 1)
    return [eight_bit(torch.from_numpy(x).permute(2, 0, 1).float()) for x in (image, reference)]


def last_axis(image):
    return image.permute(1, 2, 0).double().numpy()


def levels(image):
    """(H, W, 3) uint8, as OpenCV has it."""
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def cv2_grey(image):
    return cv2.cvtColor(levels(image), cv2.COLOR_RGB2GRAY)


def colored(red, green, blue, height=16, width=12):
    """A picture of one color, in levels of 255."""
    return torch.tensor([red, green, blue]).view(3, 1, 1).expand(3, height, width) / 255


# --- against other implementations -------------------------------------------------------------


@given(**PICTURES)
def test_psnr_is_scikit_images(height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    expected = peak_signal_noise_ratio(last_axis(reference), last_axis(image), data_range=1)
    assert psnr(image, reference) == pytest.approx(expected, abs=1e-9)  # both in float64


def scikit_images_ssim(image, reference, **options):
    return structural_similarity(
        reference,
        image,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        **options,
    )


# float32 against float64: σ² = E[x²] - E[x]² loses some 1e-7 of values up to 1, and is divided by
# no less than c₂ = 9e-4.
SSIM_TOLERANCE = 5e-4


@given(**PICTURES)
def test_ssim_is_scikit_images(height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    expected = scikit_images_ssim(last_axis(image), last_axis(reference), channel_axis=2)
    assert ssim(image, reference) == pytest.approx(expected, abs=SSIM_TOLERANCE)


def test_ssim_of_a_known_pair_stays():
    """Whichever version of kornia computes it; scikit-image in float64 gives this, too."""
    image, reference = pictures(300, 400, 0.1, 0)
    assert ssim(image, reference) == pytest.approx(0.883097, abs=1e-6)  # errors average out
    theirs = scikit_images_ssim(last_axis(image), last_axis(reference), channel_axis=2)
    assert theirs == pytest.approx(0.883097, abs=1e-6)


def test_without_kornia_it_says_how_to_get_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "kornia.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(ModuleNotFoundError, match=r"^kornia isn't installed: pip install 'flowkit"):
        ssim(*pictures(20, 20, 0.1, 0))


@given(**PICTURES)
def test_ssim_of_grey_is_scikit_images_of_opencvs_grey(height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    expected = scikit_images_ssim(cv2_grey(image) / 255, cv2_grey(reference) / 255)
    assert ssim_grey(image, reference) == pytest.approx(expected, abs=SSIM_TOLERANCE)


@given(**{**PICTURES, "height": st.integers(7, 40), "width": st.integers(1, 40)})
def test_ssim_of_columns_is_scikit_images_with_the_width_for_channels(height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    expected = structural_similarity(cv2_grey(reference), cv2_grey(image), channel_axis=-1)
    # Sums are exact, so there is float32's rounding of the quotients alone.
    assert ssim_columns(image, reference) == pytest.approx(expected, abs=1e-6)


def test_grey_is_opencvs_bit_for_bit():
    image = torch.from_numpy(np.random.default_rng(0).random((3, 500, 500), dtype=np.float32))
    assert np.array_equal((grey(image)[0] * 255).round().numpy(), cv2_grey(image))


@given(**PICTURES)
def test_gt_mean_of_grey_by_opencv(height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    factor = cv2_grey(reference).mean() / cv2_grey(image).mean()
    expected = (levels(image) * factor / 255).clip(0, 1)
    assert last_axis(gt_mean_grey(image, reference)) == pytest.approx(expected, abs=1e-6)


@given(**PICTURES, shift=st.floats(-0.1, 0.5))
def test_gt_mean_of_the_release_by_opencv(height, width, error, seed, shift):
    image, reference = pictures(height, width, error, seed)
    image = 1.3 * image + shift  # as a network may put it out
    mean = last_axis(image).mean()
    if mean < 0.05:
        return
    swapped = cv2.cvtColor(levels(reference), cv2.COLOR_BGR2GRAY).mean() / 255
    exact = 255 * (last_axis(image) * swapped / mean).clip(0, 1)
    # The floor of what float32 rounded may be one lower only where `exact` is just above a level.
    result = last_axis(gt_mean_llflow(image, reference)) * 255
    assert np.abs(result - result.round()).max() < 1e-4
    assert (result.round() <= exact + 1e-3).all()
    assert (result.round() > exact - 1 - 1e-3).all()


# --- by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
def test_a_perfect_picture(measure):
    image = eight_bit(torch.rand(3, 16, 16))
    assert measure(image, image) == (math.inf if measure is psnr else 1)


@pytest.mark.parametrize("measure", MEASURES)
def test_symmetric(measure):
    image, reference = pictures(20, 30, 0.1, 0)
    assert measure(image, reference) == pytest.approx(measure(reference, image), abs=1e-6)
    assert measure(image, reference) < measure(reference, reference)


def test_psnr_of_a_constant_error():
    assert psnr(colored(100, 120, 140), colored(101, 121, 141)) == pytest.approx(ONE_LEVEL)
    one_channel = psnr(colored(100, 120, 140), colored(110, 120, 140))
    assert one_channel == pytest.approx(20 * math.log10(255 / 10) + 10 * math.log10(3))


@pytest.mark.parametrize("measure", [ssim, ssim_grey, ssim_columns])
def test_ssim_of_flat_pictures_is_that_of_their_luminance(measure):
    x, y = 50 / 255, 200 / 255
    expected = (2 * x * y + 0.01**2) / (x**2 + y**2 + 0.01**2)
    image, reference = colored(50, 50, 50), colored(200, 200, 200)
    # σ² is 0 but for some 1e-7 (see above) against c₂.
    assert measure(image, reference) == pytest.approx(expected, abs=SSIM_TOLERANCE)


def test_ssim_sees_channels_alone_and_grey_doesnt():
    gradient = torch.linspace(50, 200, 20).round().expand(20, 20) / 255
    image = torch.stack([gradient, gradient, gradient])
    blue = torch.stack([gradient, gradient, gradient.T])
    assert ssim(image, blue) == pytest.approx((2 + ssim(gradient[None], gradient.T[None])) / 3)
    assert ssim_grey(image, blue) > ssim(image, blue) + 0.1


def test_columns_are_scored_one_by_one():
    image, reference = pictures(20, 30, 0.2, 0)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shuffled = ssim_columns(image[..., order], reference[..., order])
    assert ssim_columns(image, reference) == pytest.approx(shuffled, abs=1e-6)
    singles = [ssim_columns(image[..., i : i + 1], reference[..., i : i + 1]) for i in range(30)]
    assert ssim_columns(image, reference) == pytest.approx(np.mean(singles), abs=1e-6)
    turned = ssim_columns(image.mT, reference.mT)
    assert abs(ssim_columns(image, reference) - turned) > 1e-3


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
def test_smaller_than_the_window_has_no_ssim(size):
    image, reference = torch.rand(2, 3, *size)
    assert math.isnan(ssim(image, reference))
    assert math.isnan(ssim_grey(image, reference))


@pytest.mark.parametrize(("height", "none"), [(6, True), (7, False)])
def test_shorter_than_the_window_has_no_ssim_of_columns(height, none):
    assert math.isnan(ssim_columns(*torch.rand(2, 3, height, 2))) == none


def test_raw_is_what_a_file_holds():
    image = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 99.4 / 255, 3.0]).expand(3, 1, 5)
    assert (raw(image, image) * 255).tolist() == [[pytest.approx([0, 0, 1, 99, 255])]] * 3


@pytest.mark.parametrize("factor", [0.5, 0.25, 2.0])
def test_gt_mean_takes_brightness_out(factor):
    """Of a grey picture, whose means all agree and whose levels stay whole numbers."""
    reference = (torch.randint(10, 30, (1, 20, 20)).expand(3, 20, 20) * 4).float() / 255
    image = reference * factor
    assert psnr(raw(image, reference), reference) < 30
    assert psnr(gt_mean_grey(image, reference), reference) > 120  # float32 has 7 digits
    # Cut off, a level that float32 left just below its number becomes the one below.
    assert psnr(gt_mean_llflow(image, reference), reference) >= ONE_LEVEL - 1e-3


def test_gt_mean_of_the_release_swaps_red_and_blue_of_the_reference_alone():
    image, reference = colored(100, 100, 100), colored(200, 100, 50)
    expected = math.floor(0.114 * 200 + 0.587 * 100 + 0.299 * 50)
    assert gt_mean_llflow(image, reference)[0, 0, 0] * 255 == pytest.approx(expected)
    other_way = math.floor(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert gt_mean_llflow(image, reference.flip(0))[0, 0, 0] * 255 == pytest.approx(other_way)
    assert gt_mean_grey(image, reference)[0, 0, 0] * 255 == pytest.approx(124)  # of 124.2


def test_gt_mean_of_the_release_takes_the_plain_mean_of_the_picture():
    image, reference = colored(30, 60, 90), colored(120, 120, 120)
    result = gt_mean_llflow(image, reference)[:, 0, 0] * 255
    # Cut off, a level that float32 left just below its number becomes the one below.
    assert result.tolist() == pytest.approx([60, 120, 180], abs=1.001)
    result = gt_mean_grey(image, reference)[:, 0, 0] * 255
    of_grey = 54  # of 54.45
    assert result.tolist() == pytest.approx([level * 120 / of_grey for level in (30, 60, 90)])


def test_gt_mean_of_the_release_knows_what_clamping_would_lose():
    image = torch.full((3, 10, 10), 0.5)
    image[:, :5] = 3.0  # mean 1.75
    reference = torch.full((3, 10, 10), 0.5)
    reference[:, :5] = 1.0  # mean 191.5 of 255
    assert psnr(gt_mean_grey(image, reference), reference) > 50
    dark = gt_mean_llflow(image, reference)[0, 9, 9] * 255
    assert dark == pytest.approx(math.floor(255 * 0.5 * (191.5 / 255) / 1.75))


def test_gt_mean_of_the_release_cuts_8_bits_off():
    reference = torch.full((3, 10, 10), 100.0)
    reference[:, :6] = 101
    image = torch.full((3, 10, 10), 0.1)  # becomes 100.6 everywhere
    result = gt_mean_llflow(image, reference / 255) * 255
    assert result.unique().tolist() == pytest.approx([100])
    assert (gt_mean_grey(image, reference / 255) * 255).unique().tolist() == pytest.approx([100.6])


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_black_stays_black(adjust):
    black, reference = torch.zeros(3, 12, 12), torch.rand(3, 12, 12)
    assert not adjust(black, reference).any()
    assert math.isfinite(psnr(adjust(black, reference), reference))


def test_gt_mean_leaves_what_has_no_brightness():
    image = torch.full((3, 12, 12), -0.5)
    image[:, 0] = 0.5
    expected = torch.floor(image.clamp(0, 1) * 255) / 255
    assert torch.equal(gt_mean_llflow(image, torch.rand(3, 12, 12)), expected)


@given(**PICTURES)
@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_adjusted_pictures_lie_in_range_and_the_given_one_stays(adjust, height, width, error, seed):
    image, reference = pictures(height, width, error, seed)
    image = 2 * image - 0.3
    copy = image.clone()
    result = adjust(image, reference)
    assert torch.equal(image, copy)
    assert result.shape == image.shape
    assert result.isfinite().all()
    assert ((result >= 0) & (result <= 1)).all()
