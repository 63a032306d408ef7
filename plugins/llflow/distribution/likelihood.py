"""How likely bright pictures are, given their dark one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llflow.distribution.given import Dark, picture_of, prepared, require_model, windows
from llflow.network.model import LLFlow
from llflow.picture import light as linear
from llflow.picture import preprocess
from llflow.picture.inputs import Input

NOISE = 2.0  # levels of 8 bits; what the likelihood of tiny was trained with
SIDE = 2048


@dataclass(frozen=True)
class Score:
    """What a flow thinks of a picture; of two, the one with less fits better, in bits or mismatch.

    Attributes:
        bits: -log₂ p(picture | dark) per dimension, 3·H·W of them. Noise makes it higher, and blur
            lower: a smooth picture is likely by being smooth.
        mismatch: how far the picture's latents are from what the prior expects of them, in nats per
            dimension: the mean over their channels c of

                KL(N(m_c, v_c) ‖ N(0, 1)) = (m_c² + v_c - 1 - ln v_c) / 2

            with m_c and v_c mean and variance over all places. A picture that is too noisy, too
            smooth or of other colors has latents of another spread or mean than the model's own.
        distance: the mean of (z - mean)² over all latents z; 1 on average for the model's own
            samples.
        stops: by which the picture is brighter than the model deems typical; None where the model
            has no illumination branch, or the picture is black.
    """

    bits: float
    mismatch: float
    distance: float
    stops: float | None


@torch.no_grad()
def score(
    model: LLFlow,
    dark: Input,
    results: Sequence[Input],
    *,
    noise: float = NOISE,
    seed: int = 0,
    side: int = SIDE,
) -> list[Score]:
    """How well each of several bright pictures fits the dark one that they were made of.

    As in training, the likelihood is asked of the picture plus a little noise, the same for each.
    With an illumination branch, each is first brought to the exposure that the model predicts, so
    that brightness counts for `stops` alone. The encoder runs once for all of them.

    Args:
        model: on the device to compute on; `model.fold()` is faster.
        dark: what `llflow.enhance` takes.
        results: likewise, of the same size.
        noise: its standard deviation, in levels of 8 bits; what the likelihood was trained with.
        seed: decides the noise.
        side: larger pictures are computed in windows of at most this side, if that is more than
            twice what the network sees; the result is that of the whole.

    Raises:
        ValueError: an argument is out of range, sizes differ, or a picture has 8×8 pixels or less.
        TypeError: an argument is of another kind.
        ArithmeticError: a likelihood isn't finite.
        PictureError, OSError: a file can't be read.

    Wang et al., AAAI 2022, eq. 3 and Table 4. A likelihood alone doesn't tell good pictures:
    Nalisnick et al., Detecting out-of-distribution inputs using typicality, 2019, arXiv:1906.02994.
    """
    require_model("score", model)
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"score: expected noise >= 0, got {noise}")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"score: expected seed as an integer, got {seed!r}")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"score: expected a seed of 64 bits, got {seed}")
    if not results:
        raise ValueError("score: expected at least one result")
    shown = picture_of("score", dark)
    pictures = [picture_of("score", result) for result in results]
    for number, picture in enumerate(pictures):
        if picture.shape != shown.shape:
            raise ValueError(
                f"score: expected results of the dark picture's size {_size(shown)}, got "
                f"{_size(picture)} for number {number + 1}"
            )
    given = prepared(model, shown)
    grain = torch.randn(shown.shape, generator=torch.Generator().manual_seed(seed)) * noise / 255
    padded = [preprocess.pad(_at_exposure(p, given) + grain)[None] for p in pictures]
    sums = _sums(model, given, padded, side)
    places = padded[0][0, 0].numel() // 64
    return [_score(of, places, _stops(p, given)) for of, p in zip(sums, pictures, strict=True)]


def _sums(model: LLFlow, given: Dark, pictures: Sequence[Tensor], side: int) -> list[Tensor]:
    """For each picture (2·192 + 1,) in float64: sums over all places of z - mean and of its square,
    and log|det dz/dx|."""
    totals = [torch.zeros(()) for _ in pictures]
    height, width = given.low.shape[2:]
    for window, sign in windows(height, width, side, model.config.reach):
        cond = given.condition(model, window)
        mean = model.flow.base(cond).mean
        flow = model.flow.bijection.given(cond)
        for index, picture in enumerate(pictures):
            z, logdet = flow(picture[(..., *window)].to(mean))
            away = (z - mean)[0].double()
            found = [away.sum((1, 2)), away.square().sum((1, 2)), logdet.double()]
            totals[index] = totals[index] + sign * torch.cat(found).cpu()
    return totals


def _score(sums: Tensor, places: int, stops: float | None) -> Score:
    channels = len(sums) // 2
    mean, square = sums[: 2 * channels].reshape(2, channels) / places
    logdet = sums[-1].item() / (places * channels)
    nats = (square.mean().item() + math.log(2 * math.pi)) / 2 - logdet
    variance = square - mean.square()
    if (variance <= 0).any():
        raise ValueError(
            "score: expected latents that vary over the picture; it has to be larger than 8×8 "
            "pixels, and an even picture needs noise > 0"
        )
    mismatch = (square - 1 - variance.log()).mean().item() / 2
    if not math.isfinite(nats) or not math.isfinite(mismatch):
        raise ArithmeticError("the likelihood isn't finite; other weights may do better")
    return Score(nats / math.log(2), mismatch, square.mean().item(), stops)


def _at_exposure(picture: Tensor, given: Dark) -> Tensor:
    mean = picture.mean().item()
    if given.light is None or mean == 0:
        return picture
    return picture * (given.light.exposure.item() / mean)


def _stops(picture: Tensor, given: Dark) -> float | None:
    mean = picture.mean().item()
    if given.light is None or mean == 0:
        return None
    return linear.GAMMA * math.log2(mean / given.light.exposure.item())


def _size(picture: Tensor) -> str:
    return f"{picture.shape[2]}×{picture.shape[1]}"
