"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, relu

from llflow.network.illumination import Light
from llflow.network.model import LLFlow
from llflow.picture import retinex

LOSSES = ("nll", "l1", "nll+l1")
DARKEST_MEAN = 0.02  # of a picture that is scaled to another's mean
AVERAGED = 4  # pixels whose light is averaged before its color is asked for
# Added to R + G + B: below, a color map is mostly noise, and its slope 1 / (R + G + B).
DIMMEST = 0.03
DIMMEST_OF_MAPS = 0.01
PALEST = 0.004  # chroma of what counts as grey
CLIPPED = 0.999
DIMMEST_SHAPE = 0.02


class Objective(nn.Module):
    """The loss of a batch, as the module that DistributedDataParallel wraps and that may be
    compiled.

        "nll"     -log p(bright | low) in bits per pixel, eq. 7-9
        "l1"      λ·((1 - f)·mean|x - y| + f·mean|g·x - y|)
                  + s·(1 - SSIM(x, y)) + c·mean|C(x) - C(y)| + p·max(0, 1 - chroma x / chroma y)
                  with x the picture at the prior's mean, y the bright one, g = mean y / mean x
        "nll+l1"  their sum

    and m·mean|M - C(y)| with any of them, M being the encoder's color map. Where y is clipped, a
    brighter x is as good. A network with an illumination branch is given the true illumination, and
    the branch learns from thumbnails of its own, see `illumination_errors`.

    Args:
        model: what is trained.
        l1_weight: λ, bits per pixel for an error of 1, the whole range; eq. 1.
        exposure_free: f in [0, 1], the share of l1 that doesn't ask for the reference's brightness,
            which a crop of the dark picture doesn't tell.
        structure: s, see `similarity`.
        colors: c, of the color maps C, see `colors`.
        saturation: p, see `paleness`.
        map_colors: m.
        nll_share: of a batch's samples, which the likelihood is asked of: the first ones.

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
        saturation: float = 0.0,
        map_colors: float = 0.0,
        nll_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.nll_share = nll_share
        self.weights = {
            "nll": 1.0,
            "l1": l1_weight * (1 - exposure_free),
            "exposure_free": l1_weight * exposure_free,
            "structure": structure,
            "colors": colors,
            "saturation": saturation,
            "map_colors": map_colors,
            "illumination": 1.0,
        }

    def forward(
        self,
        loss: str,
        bright: Tensor,
        low: Tensor,
        from_reference: Tensor | bool = False,
        *,
        noisy: Tensor | None = None,
        illumination: Tensor | None = None,
        log_exposure: Tensor | None = None,
        whole: Tensor | None = None,
        place: Tensor | None = None,
        is_predicted: Tensor | None = None,
        thumbnails: Tensor | None = None,
        luminance: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """{"loss": ()} and its terms by name, unweighted, one number for each sample that they are
        of: "nll", "l1", and "exposure_free", "structure", "colors", "saturation", "map_colors",
        "illumination" where there is such a term.

        Args:
            loss: one of the three.
            bright: (B, 3, H, W) in [0, 1].
            low: (B, 6, H, W) of the dark pictures.
            from_reference: see `LLFlow.nll`.
            noisy: (B, 3, H, W), `bright` as the likelihood is asked for; None: itself.
            illumination, log_exposure: (B, 1, H, W) and (B,), see `data.Samples`; for a network
                with an illumination branch, and for no other.
            whole, place, is_predicted: which samples see the illumination that the branch predicts
                at present, with log_exposure's mean, see `data.Samples`; likewise.
            thumbnails, luminance: of other, whole pictures, see `data.Thumbnails`; likewise.
        """
        if loss not in LOSSES:
            raise ValueError(f"Objective: expected loss among {', '.join(LOSSES)}, got {loss!r}")
        if whole is not None and place is not None and is_predicted is not None:
            assert illumination is not None
            assert log_exposure is not None
            predicted = self._predicted(whole, place, log_exposure, illumination)
            illumination = torch.where(is_predicted[:, None, None, None], predicted, illumination)
        cond = conditions(self.model, low, illumination, log_exposure)
        terms: dict[str, Tensor] = {}
        if "nll" in loss:
            noisy = bright if noisy is None else noisy
            terms["nll"] = self._nll(bright, noisy, low, from_reference, cond)
        if "l1" in loss:
            terms |= self._errors(self.model.typical(cond), bright)
        if self.weights["map_colors"]:
            maps = retinex.COLOR_MAPS[self.model.config.color_map]
            reference = maps(bright, eps=DIMMEST_OF_MAPS)
            terms["map_colors"] = error(cond["color_map"], reference)
        if thumbnails is not None and luminance is not None:
            assert self.model.illumination is not None
            predicted = self.model.illumination(thumbnails)
            terms["illumination"] = illumination_errors(predicted, luminance)
        weighted = [self.weights[name] * term.mean() for name, term in terms.items()]
        return {"loss": torch.stack(weighted).sum(), **terms}

    @torch.no_grad()
    def _predicted(
        self, whole: Tensor, place: Tensor, log_exposure: Tensor, like: Tensor
    ) -> Tensor:
        """The illumination of crops as enhancement would have it, but for its mean."""
        branch = self.model.illumination
        assert branch is not None
        is_training = branch.training
        shape = branch.eval()(whole).shape
        branch.train(is_training)
        grid = affine_grid(place, list(like.shape), align_corners=False)
        shape = grid_sample(shape.to(grid), grid, padding_mode="border", align_corners=False)
        return (log_exposure.exp()[:, None, None, None] * shape).to(like)

    def _nll(
        self,
        bright: Tensor,
        noisy: Tensor,
        low: Tensor,
        from_reference: Tensor | bool,
        cond: dict[str, Tensor],
    ) -> Tensor:
        count = max(1, round(self.nll_share * len(bright)))
        bright, noisy, low = bright[:count], noisy[:count], low[:count]
        cond = {name: value[:count] for name, value in cond.items()}
        selected = torch.as_tensor(from_reference, device=low.device)
        selected = selected[:count] if selected.dim() else selected
        if noisy is not bright and selected.any():
            # The reference's color map is that of the picture, not of the noise.
            reference = self.model.reference_color_map(bright)
            where = selected.expand(count)[:, None, None, None]
            cond["color_map"] = torch.where(where, reference, cond["color_map"])
            selected = False
        return self.model.nll(noisy, low, selected, cond)

    def _errors(self, picture: Tensor, bright: Tensor) -> dict[str, Tensor]:
        picture = torch.where(bright > CLIPPED, picture.clamp(max=1), picture)
        errors = {"l1": error(picture, bright)}
        if self.weights["exposure_free"]:
            errors["exposure_free"] = error(at_mean_of(bright, picture), bright)
        if self.weights["structure"]:
            errors["structure"] = 1 - similarity(picture, bright)
        if self.weights["colors"]:
            errors["colors"] = error(colors(picture), colors(bright))
        if self.weights["saturation"]:
            errors["saturation"] = paleness(picture, bright)
        return errors


def conditions(
    model: LLFlow, low: Tensor, illumination: Tensor | None, log_exposure: Tensor | None
) -> dict[str, Tensor]:
    """`LLFlow.condition` under a known illumination and exposure, see `data.Samples`."""
    if illumination is None or log_exposure is None:
        return model.condition(low)
    certain = torch.zeros_like(log_exposure)
    return model.condition(low, Light(log_exposure, certain, illumination), illumination)


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
        _windowed(moment) for moment in (x, y, x * x, y * y, x * y)
    )
    squared_means, means = mean_x**2 + mean_y**2, mean_x * mean_y
    luminance = (2 * means + 0.01**2) / (squared_means + 0.01**2)
    structure = (2 * (product - means) + 0.03**2) / (square_x + square_y - squared_means + 0.03**2)
    return (luminance * structure).mean((1, 2, 3))


def _windowed(x: Tensor) -> Tensor:
    """Means over 7×7 pixels: over rows, then columns, a third of the work."""
    return avg_pool2d(avg_pool2d(x, (7, 1), stride=1), (1, 7), stride=1)


def colors(image: Tensor) -> Tensor:
    """C(x) = x / (R + G + B + 0.03) of x >= 0 averaged over 4×4 pixels, (B, 3, H/4, W/4): eq. 5 up
    to a factor, with little of the noise that dark pixels have for colors."""
    return retinex.color_map_by_sum(_averaged(image), eps=DIMMEST)


def paleness(picture: Tensor, reference: Tensor) -> Tensor:
    """max(0, 1 - chroma(picture) / chroma(reference)) of each sample, (B, 3, H, W) -> (B,), chroma
    being the mean of |x - grey| over what 4×4 pixels have in the mean, and 0.004 at least in the
    reference: 0 where the picture has as much color."""
    ours, theirs = (_chroma(_averaged(x)) for x in (picture, reference))
    return relu(1 - ours / theirs.clamp(min=PALEST))


def _averaged(image: Tensor) -> Tensor:
    return avg_pool2d(image, AVERAGED).clamp(min=0)


def _chroma(image: Tensor) -> Tensor:
    return (image - image.mean(1, keepdim=True)).abs().mean((1, 2, 3))


def illumination_errors(light: Light, luminance: Tensor) -> Tensor:
    """What an illumination branch minimises, (B,).

        0.3·(e² / 2σ² + log σ) + 10·(mean|E·S - I| + 2·mean|m·S - I|) + 0.5·mean|log S - log I/m|

    with log E and σ the mean and deviation of the predicted log exposure, S the shape, I the
    luminance, m its mean, e = log m - log E, and I/m >= 0.02.

    Args:
        light: predicted.
        luminance: (B, 1, h, w) of the bright pictures, of the shape's size.
    """
    mean = luminance.mean((1, 2, 3)).clamp(min=1 / 255)
    wide = mean[:, None, None, None]
    nll = 0.5 * ((mean.log() - light.mean) / light.std) ** 2 + light.std.log()
    shown = light.exposure[:, None, None, None] * light.shape
    l1 = error(shown, luminance) + 2 * error(wide * light.shape, luminance)
    logs = error(light.shape.log(), (luminance / wide).clamp(min=DIMMEST_SHAPE).log())
    return 0.3 * nll + 10 * l1 + 0.5 * logs
