"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from llflow.network.model import LLFlow
from llflow.picture.retinex import color_map_by_sum

LOSSES = ("nll", "l1", "nll+l1")
DARKEST_MEAN = 0.02  # of a picture that is scaled to another's mean
DIMMEST = (
    0.05  # added to R + G + B: below, a color map is mostly noise, and its slope 1 / (R + G + B)
)


class Objective(nn.Module):
    """The loss of each sample, as the module that DistributedDataParallel wraps and that may be
    compiled.

        "nll"     -log p(bright | low) in bits per pixel, eq. 7-9
        "l1"      λ·((1 - f)·mean|x - y| + f·mean|g·x - y|)
                  + s·(1 - SSIM(x, y)) + c·mean|C(x) - C(y)|
                  with x the picture at the prior's mean, y the bright one, g = mean y / mean x
        "nll+l1"  their sum

    Args:
        model: what is trained.
        l1_weight: λ, bits per pixel for an error of 1, the whole range; eq. 1.
        exposure_free: f in [0, 1], the share of l1 that doesn't ask for the reference's brightness,
            which a crop of the dark picture doesn't tell.
        structure: s, see `similarity`.
        colors: c, of the color maps C, see `colors`.

    Wang et al., AAAI 2022; "The Effectiveness of Model Components and Training Paradigm" takes
    l1 through the inverse after some steps of NLL, since l1 alone doesn't converge. The error at
    the reference's mean is after the GT-mean loss, arXiv 2507.20148.
    """

    def __init__(
        self,
        model: LLFlow,
        l1_weight: float = 1.0,
        *,
        exposure_free: float = 0.0,
        structure: float = 0.0,
        colors: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.weights = {
            "nll": 1.0,
            "l1": l1_weight * (1 - exposure_free),
            "exposure_free": l1_weight * exposure_free,
            "structure": structure,
            "colors": colors,
        }

    def forward(
        self, loss: str, bright: Tensor, low: Tensor, from_reference: Tensor | bool = False
    ) -> dict[str, Tensor]:
        """{"loss": (B,)} and its terms by name, unweighted, each (B,): "nll", "l1", and
        "exposure_free", "structure", "colors" where they have a weight.

        Args:
            loss: one of the three.
            bright: (B, 3, H, W) in [0, 1].
            low: (B, 6, H, W) of the dark pictures.
            from_reference: see `LLFlow.nll`.
        """
        if loss not in LOSSES:
            raise ValueError(f"Objective: expected loss among {', '.join(LOSSES)}, got {loss!r}")
        cond = self.model.condition(low)
        terms: dict[str, Tensor] = {}
        if "nll" in loss:
            terms["nll"] = self.model.nll(bright, low, from_reference, cond)
        if "l1" in loss:
            terms |= self._errors(self.model.typical(cond), bright)
        weighted = torch.stack([self.weights[name] * term for name, term in terms.items()])
        return {"loss": weighted.sum(0), **terms}

    def _errors(self, picture: Tensor, bright: Tensor) -> dict[str, Tensor]:
        errors = {"l1": error(picture, bright)}
        if self.weights["exposure_free"]:
            errors["exposure_free"] = error(at_mean_of(bright, picture), bright)
        if self.weights["structure"]:
            errors["structure"] = 1 - similarity(picture, bright)
        if self.weights["colors"]:
            errors["colors"] = error(colors(picture), colors(bright))
        return errors


def error(x: Tensor, y: Tensor) -> Tensor:
    """Mean of |x - y| of each sample, (B, C, H, W) -> (B,)."""
    return (x - y).abs().mean((1, 2, 3))


def at_mean_of(reference: Tensor, picture: Tensor) -> Tensor:
    """The pictures, each scaled to its reference's mean, with the gradient of the scale.

    A mean below 0.02 counts as 0.02: nothing is scaled by more than 50.
    """
    means = [x.mean((1, 2, 3), keepdim=True) for x in (reference, picture)]
    return picture * (means[0] / means[1].clamp(min=DARKEST_MEAN))


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of each sample, (B, C, H, W) -> (B,), the mean over channels and windows of 7×7 pixels,
    evenly weighted and wholly inside, with c₁ = 0.01², c₂ = 0.03².

    Wang et al., Image quality assessment, IEEE TIP 2004, eq. 13. What is reported has a Gaussian
    window of 11×11 (`llflow.evaluation.metrics.ssim`); this one is cheaper.
    """
    mean_x, mean_y, square_x, square_y, product = (
        avg_pool2d(moment, 7, stride=1) for moment in (x, y, x * x, y * y, x * y)
    )
    squared_means, means = mean_x**2 + mean_y**2, mean_x * mean_y
    luminance = (2 * means + 0.01**2) / (squared_means + 0.01**2)
    structure = (2 * (product - means) + 0.03**2) / (square_x + square_y - squared_means + 0.03**2)
    return (luminance * structure).mean((1, 2, 3))


def colors(image: Tensor) -> Tensor:
    """C(x) = x / (R + G + B + 0.05) of x clamped to [0, 1], (B, 3, H, W): eq. 5 up to a factor,
    with little of the noise that dark pixels have for colors."""
    return color_map_by_sum(image.clamp(0, 1), eps=DIMMEST)
