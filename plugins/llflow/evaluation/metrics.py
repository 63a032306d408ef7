"""How close a picture comes to its reference, in every convention that published tables use.

Two kinds of pure functions of (image, reference), both (3, H, W) RGB of one size, the reference in
[0, 1]. *Adjustments* turn what a network put out into the picture that is scored; *measures*
compare that picture, in [0, 1], with the reference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from llflow.evaluation.extra import imported

WINDOW = 11  # pixels, of Wang's SSIM
COLUMN_WINDOW = 7


def eight_bit(image: Tensor) -> Tensor:
    """Clamped to [0, 1] and rounded to multiples of 1/255: what a file of the picture holds."""
    return (image.clamp(0, 1) * 255).round() / 255


def grey(image: Tensor) -> Tensor:
    """Y = 0.299·R + 0.587·G + 0.114·B (ITU-R BT.601), (3, H, W) -> (1, H, W), both in 8 bits.

    The weights are integers over 2¹⁵ and Y is rounded, so it is OpenCV's RGB2GRAY bit for bit.
    scikit-image's rgb2gray has other weights (BT.709: 0.2125, 0.7154, 0.0721).
    """
    red, green, blue = (image.float().clamp(0, 1) * 255).round()
    weighted = 9798 * red + 19235 * green + 3735 * blue  # below 2²⁴, so exact
    return ((weighted + 2**14) / 2**15).floor()[None] / 255


def raw(image: Tensor, reference: Tensor) -> Tensor:
    """The picture in 8 bits; nothing is rescaled, the reference isn't looked at."""
    return eight_bit(image)


def gt_mean_grey(image: Tensor, reference: Tensor) -> Tensor:
    """clamp(x·mean(grey(reference)) / mean(grey(x))) with x the picture in 8 bits; not rounded.

    The GT-mean of LLFlow's own validation, and grey over grey as most later tables have it. A black
    picture, which no factor brightens, is left black.
    """
    image = eight_bit(image)
    return _scaled(image, grey(reference), grey(image))


def gt_mean_llflow(image: Tensor, reference: Tensor) -> Tensor:
    """⌊255·clamp(x·mean(grey(swapped reference)) / mean(x))⌋ / 255, x as the network put it out.

    The GT-mean of LLFlow's released test script, from which its published numbers come: x isn't
    clamped, its mean is over RGB and pixels alike, the reference's grey has red and blue swapped
    (0.114·R + 0.587·G + 0.299·B), and 8 bits are cut off, not rounded. Where the mean of x isn't
    positive, x is left as it is.
    """
    return (_scaled(image, grey(reference.flip(0)), image) * 255).floor() / 255


def _scaled(image: Tensor, wanted: Tensor, present: Tensor) -> Tensor:
    mean = present.mean(dtype=torch.float64).item()
    factor = wanted.mean(dtype=torch.float64).item() / mean if mean > 0 else 1.0
    return (image * factor).clamp(0, 1)


def psnr(image: Tensor, reference: Tensor) -> float:
    """10·log₁₀(1 / MSE) in dB over all pixels and channels; infinite for equal pictures."""
    error = mse_loss(image.double(), reference.double()).item()
    return -10 * math.log10(error) if error else math.inf


def ssim(image: Tensor, reference: Tensor) -> float:
    """Mean over windows and channels of

        (2·μx·μy + c₁)·(2·σxy + c₂) / ((μx² + μy² + c₁)·(σx² + σy² + c₂)),

    the moments weighted by an 11×11 Gaussian, σ = 1.5, that lies wholly inside the picture;
    c₁ = 0.01², c₂ = 0.03².

    Wang et al., Image quality assessment, IEEE TIP 2004, eq. 13, as the authors' implementation has
    it but without its prior downsampling; kornia's, of pictures (C, H, W) in float32. Pictures
    smaller than the window have no SSIM: NaN.

    Raises:
        ModuleNotFoundError: kornia isn't there.
    """
    if min(image.shape[1:]) < WINDOW:
        return math.nan
    batch = image[None].float(), reference[None].float()
    return imported("kornia.metrics").ssim(*batch, WINDOW, eps=0.0, padding="valid").mean().item()


def ssim_grey(image: Tensor, reference: Tensor) -> float:
    """`ssim` of the pictures' `grey`."""
    return ssim(grey(image), grey(reference))


def ssim_columns(image: Tensor, reference: Tensor) -> float:
    """Mean one-dimensional SSIM of the columns of `grey`, of seven pixels at a time.

    What LLFlow's released code reports as SSIM: scikit-image's `structural_similarity` on the grey
    picture (H, W) with its last axis taken for color channels. Means and sample (co)variances are
    over 7 equally weighted pixels of one column, of levels 0 to 255 with c₁ = 2.55², c₂ = 7.65².
    NaN for H < 7.
    """
    if image.shape[1] < COLUMN_WINDOW:
        return math.nan
    n, pairs = COLUMN_WINDOW, COLUMN_WINDOW * (COLUMN_WINDOW - 1)
    x, y = ((grey(picture)[0] * 255).round() for picture in (image, reference))
    # Sums of whole numbers up to 255², below 2²⁴ and so exact.
    x, y, xx, yy, xy = torch.stack([x, y, x * x, y * y, x * y]).unfold(1, n, 1).sum(-1)
    variances, covariance = (n * (xx + yy) - x * x - y * y) / pairs, (n * xy - x * y) / pairs
    luminance = (2 * x * y + (2.55 * n) ** 2) / (x * x + y * y + (2.55 * n) ** 2)
    return (luminance * (2 * covariance + 7.65**2) / (variances + 7.65**2)).mean().item()
