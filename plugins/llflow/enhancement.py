"""A dark picture in, a bright picture out."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llflow.inference import (
    Drawing,
    NotFinite,
    Progress,
    TooLittleMemory,
    decode,
    predicted_light,
)
from llflow.memory import available, given_back_at_once
from llflow.network.model import Light, LLFlow
from llflow.picture import files, rows
from llflow.picture import light as linear
from llflow.picture.highlights import number_above, rolled_off
from llflow.picture.inputs import Input, tensor_of
from llflow.picture.overview import Overview
from llflow.picture.rows import ALL, Largest, Rows, Scratch, Whole

__all__ = [
    "AUTO",
    "TILE",
    "NotFinite",
    "TooLittleMemory",
    "bracket",
    "brighten",
    "draw",
    "enhance",
    "unclipped",
    "variants",
]

TILE = 4096  # side in pixels
TILE_MEMORY = 630_000_000, 7  # bytes that a tile may take, and how many more for each pixel
STRIP_MEMORY = 130_000_000  # that strips take, of which one is computed at a time
HELD = 250_000_000  # bytes of a result that is in memory until it is finished
AUTO = "auto"
MOST_STOPS = 20
UNSURE, SURE = 1.0, 2.0  # standard deviations: a brightening that may be none, and one that isn't


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
        tile: pictures with longer sides are computed in tiles of at most this side, and in smaller
            ones where these would take more than 630 MB and 7 bytes a pixel of the picture, or half
            of the memory that there is. They overlap, so that the result is the same within 1/255.
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
    drawing = Drawing(temperature, samples, seed, precision)
    bright = _averaged(model, original, drawing, tile)
    return _bracketed(original, bright, brightnesses, exposure, strength)


@torch.no_grad()
def brighten(
    model: LLFlow,
    picture: files.Picture,
    *,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    brightness: float = 0.0,
    exposure: float | str = AUTO,
    strength: float = 1.0,
    tile: int = TILE,
    precision: str = "float32",
    max_memory: int | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> files.Picture:
    """`enhance` of a file's picture, whose result is made strip by strip as it is written.

    Beside the samples that the file holds, a tile of the picture at a time is in memory, and the
    network's result if it is small; else it is in a temporary file.

    Args: as `enhance` has them, and
        max_memory: bytes that this may take, the picture among it; if None half of what there is.
        folder: of the temporary file, 12 bytes a pixel; if None the system's.
        progress: called with the share of the network's work that is done, now and then.

    Raises:
        TooLittleMemory: `max_memory` is less than the picture and the smallest tile take.
        OSError: no room for the temporary file.
        Others: as `enhance` does.
    """
    _check_drawing(model, temperature, samples, seed, tile)
    _check_light([brightness], exposure, strength)
    drawing = Drawing(temperature, samples, seed, precision)
    original = picture.shown
    room = _Room.of(original, max_memory, picture.nbytes, folder)
    with nullcontext() if max_memory is None else given_back_at_once():
        bright = _averaged(model, original, drawing, tile, room, progress)
    _expose(bright, exposure)
    return picture.with_image(_Lit(original, bright, brightness, strength))


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
    drawing = Drawing(temperature, samples, seed, precision)
    made = _drawn(model, original, drawing, tile)
    typical = None if made.light is None else made.light.exposure.item()
    for sample in made.samples:
        _finish(original, sample, made, typical)
    return [
        _bracketed(original, sample, brightnesses, exposure, strength) for sample in made.samples
    ]


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
    progress: Progress | None = None,
) -> Tensor:
    """`enhance` before anything is clipped to [0, 1], as some conventions of scoring have it.

    Arguments and errors are those of `enhance`, and `progress` is that of `brighten`.
    """
    original = _checked(model, image, temperature, samples, seed, tile)
    drawing = Drawing(temperature, samples, seed, precision)
    return rows.whole(_averaged(model, original, drawing, tile, progress=progress))


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
    made = _drawn(model, original, Drawing(temperature, samples, seed, precision), tile)
    drawn = [rows.whole(sample) for sample in made.samples]
    if made.light is None:
        return drawn
    pairs = zip(drawn, made.exposures, strict=True)
    return [picture * factor_to(Whole(picture), exposure) for picture, exposure in pairs]


@dataclass(frozen=True)
class _Room:
    """Where a picture is computed: bytes for a tile, and the folder for what isn't held in memory;
    None holds everything."""

    tile: int
    folder: Path | None = None

    @classmethod
    def of(cls, picture: Rows, max_memory: int | None, held: int, folder: Path | None) -> _Room:
        """For a picture that is `held`, in so many bytes, until its result is written."""
        _, height, width = picture.shape
        result = rows.BYTES * height * width
        least, each = TILE_MEMORY
        usual = least + each * height * width
        there = available()
        most = max_memory or (there // 2 if there is not None else held + usual)
        left = most - held
        holds = result <= min(HELD, left // 4) and 2 * held + result + STRIP_MEMORY <= most
        if 2 * held + STRIP_MEMORY > most:
            raise TooLittleMemory(
                f"{height * width / 1e6:.1f} megapixels take {held / 1e6:.0f} MB twice, as read "
                f"and as written, and {STRIP_MEMORY / 1e6:.0f} MB; the limit is "
                f"{most / 1e6:.0f} MB",
                "max_memory",
            )
        if max_memory is None:
            left = min(left, usual + (result if holds else 0))
        if holds:
            return cls(left - result)
        return cls(left, folder or _temporary())


def _temporary() -> Path:
    """Where large temporary files belong: `/tmp` may be in memory itself."""
    lasting = Path("/var/tmp")
    told = any(name in os.environ for name in ("TMPDIR", "TEMP", "TMP"))
    return lasting if not told and lasting.is_dir() else Path(tempfile.gettempdir())


@dataclass(frozen=True)
class _Made:
    """What the network made of a picture, and what it was told and tells beside it."""

    samples: list[Scratch]
    overview: Overview
    light: Light | None
    exposures: list[float]


def _averaged(
    model: LLFlow,
    original: Rows,
    drawing: Drawing,
    tile: int,
    room: _Room | None = None,
    progress: Progress | None = None,
) -> Scratch:
    """The mean of the samples, finished at the mean of their exposures."""
    made = _drawn(model, original, drawing, tile, room, progress, averaged=True)
    exposure = sum(made.exposures) / drawing.samples if made.exposures else None
    (bright,) = made.samples
    _finish(original, bright, made, exposure)
    return bright


def _drawn(
    model: LLFlow,
    original: Rows,
    drawing: Drawing,
    tile: int,
    room: _Room | None = None,
    progress: Progress | None = None,
    *,
    averaged: bool = False,
) -> _Made:
    """Each sample, or their mean alone, as the network makes it."""
    _, height, width = original.shape
    if room is None:
        usual = TILE_MEMORY[0] + TILE_MEMORY[1] * height * width
        there = available()
        room = _Room(usual if there is None else min(usual, there // 2))
    count = 1 if averaged else drawing.samples
    samples = [Scratch(height, width, room.folder) for _ in range(count)]

    def put(place: tuple[slice, slice], parts: Sequence[Tensor]) -> None:
        if averaged:
            parts = [sum(parts[1:], parts[0]) / drawing.samples]
        for sample, part in zip(samples, parts, strict=True):
            sample.put(*place, part)

    overview = Overview.of(original)
    light = predicted_light(model, original, overview)
    exposures = decode(
        model,
        original,
        overview,
        light,
        drawing,
        put,
        tile=tile,
        memory=room.tile,
        progress=progress,
    )
    return _Made(samples, overview, light, exposures)


def _finish(original: Rows, bright: Scratch, made: _Made, exposure: float | None) -> None:
    """Make of what the network made the result, in place: with an illumination branch, at this
    exposure, and `original` where that is to stay."""
    if made.light is None or exposure is None:
        return
    factor = factor_to(bright, exposure)
    top = (brightest(bright) * factor).item()
    needed = share_needed(made.overview.mean, made.light)
    for at, strip in rows.each(bright):
        share = made.overview.night.share(at)
        bright.put(at, ALL, finished(original.rows(at), strip * factor, top, needed, share))


def finished(before: Tensor, strip: Tensor, top: float, needed: float, share: Tensor) -> Tensor:
    """What becomes of rows (3, h, W) of the network's picture at its exposure, and of `before` them
    where that is to stay.

    Args:
        top: `highlights.brightest` of the whole.
        needed: see `share_needed`.
        share: (h, W) of `night.Night`.
    """
    strip = rolled_off(strip, top)
    if needed < 1:
        strip = linear.blend(before, strip.clamp(0, 1), needed)
    if needed:
        strip = linear.keep_lights(before, strip)
        strip = torch.lerp(before, strip, share)
    return strip


def factor_to(picture: Rows, exposure: float) -> float:
    """By which the picture has this mean, but for what clips."""
    mean = rows.mean_of(picture)
    return exposure / mean if mean else 1.0


def brightest(picture: Rows) -> Tensor:
    """`highlights.brightest` of the whole."""
    largest = Largest(number_above(math.prod(picture.shape)))
    for _, strip in rows.each(picture):
        largest.see(strip)
    return largest.least


def share_needed(mean: float, light: Light) -> float:
    """Which share of the network's picture the result is: 0 where the predicted exposure is above
    the picture's own mean by less than the branch's standard deviation, 1 from twice that on."""
    if mean == 0:
        return 0.0
    deviations = (light.mean.item() - math.log(mean)) / light.std.item()
    return min(1.0, max(0.0, (deviations - UNSURE) / (SURE - UNSURE)))


def _expose(bright: Scratch, exposure: float | str) -> None:
    """Multiply the picture, in place, so that it has this mean; "auto" leaves it."""
    if isinstance(exposure, str):
        return
    factor = linear.factor_for_mean(bright, exposure)
    for at, strip in rows.each(bright):
        bright.put(at, ALL, strip * factor)


def _bracketed(
    original: Rows,
    bright: Scratch,
    brightnesses: Sequence[float],
    exposure: float | str,
    strength: float,
) -> list[Tensor]:
    _expose(bright, exposure)
    return [rows.whole(_Lit(original, bright, stops, strength)) for stops in brightnesses]


class _Lit:
    """A result of so many stops more, blended with the original."""

    def __init__(self, original: Rows, bright: Rows, brightness: float, strength: float) -> None:
        self.shape = original.shape
        self._original, self._bright = original, bright
        self._factor, self._strength = linear.factor_of_stops(brightness), strength

    def rows(self, at: slice, columns: slice = ALL) -> Tensor:
        result = (self._factor * self._bright.rows(at, columns)).clamp(0, 1)
        return linear.blend(self._original.rows(at, columns), result, self._strength)


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
) -> Whole:
    """The picture as everything computes with it: (3, H, W) float32 on the CPU."""
    _check_drawing(model, temperature, samples, seed, tile)
    image = tensor_of(image)
    shaped = image.dim() == 3 and image.shape[0] == 3 and image.numel() > 0
    if not (shaped and image.is_floating_point()):
        raise ValueError(
            f"enhance: expected a floating-point image (3, H, W), got {image.dtype} "
            f"{tuple(image.shape)}"
        )
    low, high = image.amin().item(), image.amax().item()
    if not (low >= 0 and high <= 1):  # nor where they are NaN
        raise ValueError(f"enhance: expected values in [0, 1], got {low:.8g} to {high:.8g}")
    return Whole(image.detach().float().cpu())


def _check_drawing(model: LLFlow, temperature: float, samples: int, seed: int, tile: int) -> None:
    if not isinstance(model, LLFlow):
        raise TypeError(f"enhance: expected a model first (llflow.load()), got {_kind(model)}")
    _require_number("temperature", temperature)
    for name, value in (("samples", samples), ("seed", seed), ("tile", tile)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"enhance: expected {name} as an integer, got {value!r}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"enhance: expected temperature >= 0, got {temperature}")
    if tile < 1:
        raise ValueError(f"enhance: expected tile >= 1, got {tile}")
    if samples < 1:
        raise ValueError(f"enhance: expected samples >= 1, got {samples}")
    if samples > 1 and temperature == 0:
        raise ValueError("enhance: at temperature 0 all samples are the same; expected samples = 1")


def _kind(value: object) -> str:
    return type(value).__name__
