"""What the network makes brighter than white keeps its drawing."""

import torch

from llflow.picture.highlights import KNEE, WHITE, brightest, roll_off


def ramp(top: float) -> torch.Tensor:
    return torch.linspace(0, top, 3 * 40 * 50).reshape(3, 40, 50)


def test_a_picture_that_does_not_clip_stays():
    image = ramp(1.0)
    assert torch.equal(roll_off(image), image)
    lamp = ramp(0.7)
    lamp[:, 0, 0] = 5.0  # three of 6,000 values, fewer than may be white
    assert torch.equal(roll_off(lamp), lamp)


def test_only_the_whitest_thousandth_clips():
    for top in (1.01, 1.3, 4.0):
        image = ramp(top)
        white = (roll_off(image) >= 1).float().mean().item()
        assert 0 < white <= 1.5 * WHITE  # the place of a thousandth is whole values
        assert (image >= 1).float().mean().item() > white


def test_what_is_below_the_knee_stays_and_the_order_of_the_rest():
    image = ramp(3.0)
    result = roll_off(image)
    below = image <= KNEE
    assert torch.equal(result[below], image[below])
    assert (result.flatten().diff() > 0).all()


def test_slope_and_ends_of_the_curve():
    image = ramp(2.0).double()
    result = roll_off(image).flatten()
    x = image.flatten()
    slope = result.diff() / x.diff()
    just_above = (x[:-1] > KNEE).nonzero()[0, 0]
    assert abs(slope[just_above] - 1) < 0.01  # second order: 2·step / (1 - KNEE)
    at_top = (x - brightest(image)).abs().argmin()
    assert abs(result[at_top] - 1) < 1e-12


def test_barely_too_bright_changes_barely():
    image = ramp(1.0 + 1e-4)
    assert (roll_off(image) - image).abs().max() < 2e-4
