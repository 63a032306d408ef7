"""A dark picture in, a bright picture out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from llflow.errors import LLFlowError
from llflow.network.model import Light, LLFlow
from llflow.network.precision import networks_in
from llflow.network.prior import squeeze_map
from llflow.picture import light as linear
from llflow.picture import preprocess, retinex
from llflow.picture.highlights import roll_off
from llflow.picture.inputs import Input, tensor_of
from llflow.picture.night import keep_night
from llflow.picture.tiles import tiles

TILE = 2048  # side in pixels: what tiny computes at once then takes some 2 GB
LONGEST_MARGIN = 320  # beyond the reach of tiny and small
AUTO = "auto"
MOST_STOPS = 20
UNSURE, SURE = 1.0, 2.0  # standard deviations: a brightening that may be none, and one that isn't


class NotFinite(LLFlowError, ArithmeticError):
    """The network's inverse overflowed on this picture."""


@torch.no_grad()
def enhance(
    model: LLFlow,
    image: Input,
    *,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    brightness: float = 0.0,
    exposure: float | str = AUTO,
    strength: float = 1.0,
    tile: int = TILE,
    precision: str = "float32",
) -> Tensor:
    """The mean of `samples` bright pictures x = flow⁻¹(z | image), z = color map + τ·ε.

    With an illumination branch, `image` stays as it is where the model has no reason to change it:
    a picture whose exposure the branch can't tell from the right one (the predicted brightening is
    less than its standard deviation; from two on the result is the network's), each place that
    `image` shows in more light than the network would, such as a lamp, and night, see
    `llflow.picture.night.keep_night`. What it makes brighter than white is rolled off, see
    `llflow.picture.highlights.roll_off`.

    Args:
        model: on the device to compute on; `model.fold()` is faster.
        image: a tensor (3, H, W) of RGB in [0, 1], any size; or what `picture.inputs.tensor_of`
            takes, paths, pictures of Pillow's and arrays (H, W, 3) among it.
        temperature: τ. 0 decodes the prior's mean, which the paper uses throughout; 1 draws from
            the model. A model with an illumination branch draws the exposure as well,
            exp(mean + τ·std·ε'), which is the picture's mean.
        samples: how many pictures to average.
        seed: together with the picture it decides ε, whatever else is computed beside it.
        brightness: stops by which the result is brighter, in linear light: 1 is twice the light.
        exposure: mean of the result before `brightness`, in (0, 1); "auto" leaves it to the model.
        strength: share of the result in a blend with `image` in linear light, 0 to 1; 0 gives
            `image` itself.
        tile: pictures with longer sides are computed in tiles of at most this side, to bound
            memory. They overlap by as much as the network sees, so the result is the same; only
            `large` sees further than the longest overlap, 320 pixels.
        precision: of the networks: "float32", "bf16", or "auto" for bf16 where the device computes
            in it. The latent stays float32.

    Returns:
        (3, H, W) in [0, 1], float32, on the CPU.

    Raises:
        ValueError: an argument is out of range, or samples > 1 with temperature 0.
        TypeError: an argument is of another kind.
        NotFinite: the result overflowed.

    Wang et al., AAAI 2022, "Invertible Network", the sampling strategy of z.
    """
    (result,) = bracket(
        model,
        image,
        [brightness],
        temperature=temperature,
        samples=samples,
        seed=seed,
        exposure=exposure,
        strength=strength,
        tile=tile,
        precision=precision,
    )
    return result


@torch.no_grad()
def bracket(
    model: LLFlow,
    image: Input,
    brightnesses: Iterable[float],
    *,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    exposure: float | str = AUTO,
    strength: float = 1.0,
    tile: int = TILE,
    precision: str = "float32",
) -> list[Tensor]:
    """`enhance` at several brightnesses, for the price of one: the network runs once.

    Arguments and errors are those of `enhance`.
    """
    original = _checked(model, image, temperature, samples, seed, tile)
    brightnesses = [*brightnesses]
    _check_light(brightnesses, exposure, strength)
    bright = _unclipped(model, original, temperature, samples, seed, tile, precision)
    return _bracketed(original, bright, brightnesses, exposure, strength)


@torch.no_grad()
def variants(
    model: LLFlow,
    image: Input,
    brightnesses: Iterable[float] = (0.0,),
    *,
    samples: int = 3,
    temperature: float = 1.0,
    seed: int = 0,
    exposure: float | str = AUTO,
    strength: float = 1.0,
    tile: int = TILE,
    precision: str = "float32",
) -> list[list[Tensor]]:
    """Each of several samples at several brightnesses, not averaged: variants[k][b] (3, H, W).

    Samples differ in texture alone: each is at the exposure that the model deems typical, where
    `draw` has one drawn for each. At temperature 0 there is one, and it is `bracket`'s. The encoder
    runs once for all of them. Arguments and errors are those of `bracket`.
    """
    original = _checked(model, image, temperature, samples, seed, tile)
    brightnesses = [*brightnesses]
    _check_light(brightnesses, exposure, strength)
    drawn = [_black(original) for _ in range(samples)]
    light, _ = _decode(model, original, drawn, temperature, seed, tile, precision)
    typical = None if light is None else light.exposure.item()
    finished = (_finished(original, total, light, typical) for total in drawn)
    return [_bracketed(original, bright, brightnesses, exposure, strength) for bright in finished]


@torch.no_grad()
def unclipped(
    model: LLFlow,
    image: Input,
    *,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    tile: int = TILE,
    precision: str = "float32",
) -> Tensor:
    """`enhance` before anything is clipped to [0, 1], as some conventions of scoring have it.

    Arguments and errors are those of `enhance`.
    """
    original = _checked(model, image, temperature, samples, seed, tile)
    return _unclipped(model, original, temperature, samples, seed, tile, precision)


@torch.no_grad()
def draw(
    model: LLFlow,
    image: Input,
    *,
    temperature: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    tile: int = TILE,
    precision: str = "float32",
) -> list[Tensor]:
    """Single pictures as the network makes them, unclipped, each at the exposure drawn for it.

    `enhance` averages them before it sets the exposure, which is the mean of those drawn.
    Sample k is the same however many are drawn. What depends on the dark picture alone is computed
    once for all of them. Arguments and errors are those of `enhance`.
    """
    original = _checked(model, image, temperature, samples, seed, tile)
    drawn = [_black(original) for _ in range(samples)]
    light, exposures = _decode(model, original, drawn, temperature, seed, tile, precision)
    drawn = [preprocess.crop(picture, *original.shape[1:]) for picture in drawn]
    if light is None:
        return drawn
    return [_exposed(*both) for both in zip(drawn, exposures, strict=True)]


def _unclipped(
    model: LLFlow,
    original: Tensor,
    temperature: float,
    samples: int,
    seed: int,
    tile: int,
    precision: str,
) -> Tensor:
    total = _black(original)
    light, exposures = _decode(
        model, original, [total] * samples, temperature, seed, tile, precision
    )
    exposed = sum(exposures) / samples if exposures else None
    return _finished(original, total / samples, light, exposed)


def _finished(
    original: Tensor, total: Tensor, light: Light | None, exposure: float | None
) -> Tensor:
    """What the network made, padded, as the result: without the padding and, with an illumination
    branch, at this exposure, and `original` where that is to stay."""
    bright = preprocess.crop(total, *original.shape[1:])
    if light is None or exposure is None:
        return bright
    bright = roll_off(_exposed(bright, exposure))
    needed = _needed(original, light)
    if needed < 1:
        bright = linear.blend(original, bright.clamp(0, 1), needed)
    if needed == 0:
        return bright
    return keep_night(original, linear.keep_lights(original, bright))


def _bracketed(
    original: Tensor,
    bright: Tensor,
    brightnesses: Sequence[float],
    exposure: float | str,
    strength: float,
) -> list[Tensor]:
    if not isinstance(exposure, str):
        bright = bright * linear.factor_for_mean(bright, exposure)
    results = [(linear.factor_of_stops(stops) * bright).clamp(0, 1) for stops in brightnesses]
    return [linear.blend(original, result, strength) for result in results]


class _Draws:
    """What picture and seed decide of sample k, whatever else is computed beside it, on every
    device: its noise and its exposure at a temperature."""

    def __init__(self, image: Tensor, seed: int, temperature: float) -> None:
        self.seed, self.temperature = seed, temperature
        # Without a temperature nothing is drawn, and a large picture's digest takes its time.
        pixels = image.contiguous().numpy().tobytes() if temperature else b""
        self.digest = hashlib.sha256(pixels).digest()

    def noise(self, index: int, height: int, width: int) -> Tensor:
        """Standard normal noise (1, 3, height, width) in the picture's layout."""
        return torch.randn(1, 3, height, width, generator=self._generator(f"{index}"))

    def exposure(self, light: Light, index: int) -> float:
        """exp(mean + τ·std·ε')."""
        deviation = 0.0
        if self.temperature:
            normal = torch.randn((), generator=self._generator(f"{index} exposure")).item()
            deviation = self.temperature * light.std.item() * normal
        try:
            return math.exp(light.mean.item() + deviation)
        except OverflowError as error:
            raise NotFinite(
                "the exposure that was drawn isn't finite; expected less heat"
            ) from error

    def _generator(self, what: str) -> torch.Generator:
        seeded = hashlib.sha256(self.digest + f"{self.seed} {what}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(seeded[:8], "big") >> 1)


def _light(model: LLFlow, image: Tensor, equalized: Tensor) -> Light | None:
    """The illumination that the model predicts from the whole picture, before it is padded or
    cut."""
    if model.illumination is None:
        return None
    like = next(model.parameters())
    return model.light(image[None].to(like), equalized[None].to(like))


def _needed(image: Tensor, light: Light) -> float:
    """Which share of the network's picture the result is: 0 where the predicted exposure is above
    the picture's own by less than the branch's standard deviation, 1 from twice that on."""
    mean = image.mean().item()
    if mean == 0:
        return 0.0
    deviations = (light.mean.item() - math.log(mean)) / light.std.item()
    return min(1.0, max(0.0, (deviations - UNSURE) / (SURE - UNSURE)))


def _black(image: Tensor) -> Tensor:
    """Zeros of the size that `image` has once it is padded."""
    return torch.zeros(3, *preprocess.pad(image[0]).shape)


def _decode(
    model: LLFlow,
    image: Tensor,
    totals: Sequence[Tensor],
    temperature: float,
    seed: int,
    tile: int,
    precision: str,
) -> tuple[Light | None, list[float]]:
    """Add sample k to the k-th of `totals`, which may be one and the same, and tell what light the
    model predicts and each sample's exposure; None and nothing without an illumination branch."""
    equalized = retinex.equalize(image)
    light = _light(model, image, equalized)
    draws = _Draws(image, seed, temperature)
    low = preprocess.pad(preprocess.network_input(image, equalized))[None]
    height, width = low.shape[2:]
    like = next(model.parameters())
    over = None if light is None else preprocess.pad(light.over(*image.shape[1:]))
    for part in tiles(height, width, tile, min(model.config.reach, LONGEST_MARGIN)):
        here = (..., *part.outer)
        with networks_in(precision, like.device):
            cond = model.condition(low[here].to(like), light, None if over is None else over[here])
            # For one sample, work done ahead would only cost.
            sample = (
                model.flow.given(cond).sample_with
                if len(totals) > 1
                else partial(model.flow.sample, cond)
            )
        for index, total in enumerate(totals):
            noise = None
            if temperature:
                noise = squeeze_map(draws.noise(index, height, width)[here])
            with networks_in(precision, like.device):
                bright = sample(temperature=temperature, noise=noise)[0]
            if not bright.isfinite().all():
                raise NotFinite("the network's result isn't finite; other weights may do better")
            total[(..., *part.place)] += bright[(..., *part.inner)].float().cpu()
    if light is None:
        return None, []
    return light, [draws.exposure(light, index) for index in range(len(totals))]


def _exposed(picture: Tensor, exposure: float) -> Tensor:
    """The picture with this mean, but for what clips."""
    mean = picture.clamp(0, 1).mean().item()
    return picture * (exposure / mean) if mean else picture


def _check_light(brightnesses: Sequence[float], exposure: float | str, strength: float) -> None:
    for stops in brightnesses:
        _require_number("brightness", stops)
        if not abs(stops) <= MOST_STOPS:
            raise ValueError(
                f"enhance: expected brightness of at most ±{MOST_STOPS} stops, got {stops}"
            )
    _require_number("strength", strength)
    if not isinstance(exposure, str):
        _require_number("exposure", exposure)
    if isinstance(exposure, str):
        if exposure != AUTO:
            raise ValueError(
                f"enhance: expected exposure as 'auto' or a mean in (0, 1), got {exposure!r}"
            )
    elif not 0 < exposure < 1:
        raise ValueError(f"enhance: expected exposure 'auto' or in (0, 1), got {exposure}")
    if not 0 <= strength <= 1:
        raise ValueError(f"enhance: expected strength in [0, 1], got {strength}")


def _require_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"enhance: expected {name} as a number, got {value!r}")


def _checked(
    model: LLFlow, image: Input, temperature: float, samples: int, seed: int, tile: int
) -> Tensor:
    """The picture as everything computes with it: (3, H, W) float32 on the CPU."""
    if not isinstance(model, LLFlow):
        raise TypeError(f"enhance: expected a model first (llflow.load()), got {_kind(model)}")
    _require_number("temperature", temperature)
    for name, value in (("samples", samples), ("seed", seed), ("tile", tile)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"enhance: expected {name} as an integer, got {value!r}")
    image = tensor_of(image)
    shaped = image.dim() == 3 and image.shape[0] == 3 and image.numel() > 0
    if not (shaped and image.is_floating_point()):
        raise ValueError(
            f"enhance: expected a floating-point image (3, H, W), got {image.dtype} "
            f"{tuple(image.shape)}"
        )
    if not ((image >= 0) & (image <= 1)).all():
        low, high = image.min().item(), image.max().item()
        raise ValueError(f"enhance: expected values in [0, 1], got {low:.8g} to {high:.8g}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"enhance: expected temperature >= 0, got {temperature}")
    if tile < 1:
        raise ValueError(f"enhance: expected tile >= 1, got {tile}")
    if samples < 1:
        raise ValueError(f"enhance: expected samples >= 1, got {samples}")
    if samples > 1 and temperature == 0:
        raise ValueError("enhance: at temperature 0 all samples are the same; expected samples = 1")
    return image.detach().float().cpu()


def _kind(value: object) -> str:
    return type(value).__name__
