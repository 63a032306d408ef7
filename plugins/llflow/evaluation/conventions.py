"""Which adjustment goes with which measure, and in words what each is: the rows of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from llflow.evaluation import metrics
from llflow.evaluation.perceptual import Perceptual

GREY = "0.299 R + 0.587 G + 0.114 B (BT.601), rounded to 8 bits, as OpenCV's RGB2GRAY"


@dataclass(frozen=True)
class Adjustment:
    """What is done to a picture before it is measured."""

    key: str
    title: str
    definition: str
    adjust: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Convention:
    """One way to score a picture: measure(adjust(image, reference), reference)."""

    adjustment: Adjustment
    measure: str
    title: str
    definition: str
    function: Callable[[Tensor, Tensor], float]

    @property
    def key(self) -> str:
        return f"{self.adjustment.key}_{self.measure}"

    def __call__(self, image: Tensor, reference: Tensor) -> float:
        """Score a picture as it was put out, (3, H, W), against its reference in [0, 1]."""
        return self.function(self.adjustment.adjust(image, reference), reference)


RAW = Adjustment(
    "raw",
    "raw",
    "clamped to [0, 1], rounded to 8 bits; the reference isn't looked at",
    metrics.raw,
)
GT_MEAN_GREY = Adjustment(
    "gt_mean_grey",
    "GT-mean, grey/grey",
    "the 8-bit picture times (mean grey of the reference / mean grey of the picture), clamped to "
    "[0, 1], not rounded; a black picture stays black",
    metrics.gt_mean_grey,
)
GT_MEAN_LLFLOW = Adjustment(
    "gt_mean_llflow",
    "GT-mean, LLFlow's",
    "as LLFlow's released test script: the picture, not clamped, times (mean of the reference's "
    "grey with red and blue swapped / mean of the picture over pixels and RGB), clamped to [0, 1], "
    "cut down to 8 bits; left as it is where its mean isn't positive",
    metrics.gt_mean_llflow,
)

PSNR = partial(
    Convention,
    measure="psnr",
    title="PSNR (dB)",
    definition="10 log10(1 / mean squared error over pixels and RGB)",
    function=metrics.psnr,
)
SSIM = partial(
    Convention,
    measure="ssim",
    title="SSIM, RGB",
    definition="Wang et al. 2004, 11x11 Gaussian window, sigma 1.5, windows wholly inside, C1 = "
    "0.01^2, C2 = 0.03^2, mean of the RGB channels, no downsampling",
    function=metrics.ssim,
)
SSIM_GREY = partial(
    Convention,
    measure="ssim_grey",
    title="SSIM, grey",
    definition="the same of the pictures' grey",
    function=metrics.ssim_grey,
)
SSIM_COLUMNS = partial(
    Convention,
    measure="ssim_columns",
    title="SSIM, LLFlow's",
    definition="as LLFlow's released code: scikit-image's structural_similarity of the grey "
    "pictures with their width taken for channels, so the mean of one-dimensional SSIMs of "
    "columns, uniform window of 7 pixels, sample covariance",
    function=metrics.ssim_columns,
)


def conventions(perceptual: Mapping[str, Perceptual] | None = None) -> list[Convention]:
    """All of them, in the table's order.

    Args:
        perceptual: LPIPS by the trunk's name; alex is what published tables have, so it is also
            taken after both GT-means.
    """
    lpips = {net: _lpips(net, function) for net, function in (perceptual or {}).items()}
    alex = [lpips["alex"]] if "alex" in lpips else []
    rows = {
        RAW: [PSNR, SSIM, SSIM_GREY, SSIM_COLUMNS, *lpips.values()],
        GT_MEAN_GREY: [PSNR, SSIM, *alex],
        GT_MEAN_LLFLOW: [PSNR, SSIM_COLUMNS, *alex],
    }
    return [row(adjustment) for adjustment, group in rows.items() for row in group]


def _lpips(net: str, function: Callable[[Tensor, Tensor], float]) -> Callable[..., Convention]:
    return partial(
        Convention,
        measure=f"lpips_{net}",
        title=f"LPIPS, {net}",
        definition=f"Zhang et al. 2018, version 0.1, {net} trunk, inputs scaled to [-1, 1]; less "
        "is better",
        function=function,
    )
