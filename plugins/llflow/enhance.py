"""A dark picture in, a bright picture out."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from llflow import preprocess, retinex
from llflow.model import LLFlow
from llflow.prior import squeeze_map
from llflow.tiles import tiles

TILE = 2048  # side in pixels: what tiny computes at once then takes some 2 GB
LONGEST_MARGIN = 320  # beyond the reach of tiny and small


class NotFinite(ArithmeticError):
    """The network's inverse overflowed on this picture."""


@torch.inference_mode()
def enhance(
    model: LLFlow,
    image: Tensor,
    *,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    tile: int = TILE,
) -> Tensor:
    """The mean of `samples` bright pictures x = flow⁻¹(z | image), z = color map + τ·ε.

    Args:
        model: on the device to compute on; `model.fold()` is faster.
        image: (3, H, W) RGB in [0, 1], any size.
        temperature: τ. 0 decodes the prior's mean, which the paper uses throughout; 1 draws from
            the model.
        samples: how many pictures to average.
        seed: together with the picture it decides ε, whatever else is computed beside it.
        tile: pictures with longer sides are computed in tiles of at most this side, to bound
            memory. They overlap by as much as the network sees, so the result is the same; only
            `large` sees further than the longest overlap, 320 pixels.

    Returns:
        (3, H, W) in [0, 1], on the CPU.

    Raises:
        ValueError: an argument is out of range, or samples > 1 with temperature 0.
        NotFinite: the result overflowed.

    Wang et al., AAAI 2022, "Invertible Network", the sampling strategy of z.
    """
    draws = draw(model, image, temperature=temperature, samples=samples, seed=seed, tile=tile)
    total = sum(sample for sample in draws)
    assert isinstance(total, Tensor)
    return (total / samples).clamp(0, 1)


@torch.inference_mode()
def draw(
    model: LLFlow,
    image: Tensor,
    *,
    temperature: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    tile: int = TILE,
) -> list[Tensor]:
    """The single pictures whose mean `enhance` returns, unclipped.

    Sample k is the same however many are drawn. What depends on the dark picture alone is computed
    once for all of them. Arguments and errors are those of `enhance`.
    """
    _check(image, temperature, samples, tile)
    device = next(model.parameters()).device
    low = preprocess.pad(preprocess.network_input(image, retinex.equalize(image)))[None]
    height, width = low.shape[2:]
    drawn = [torch.empty(3, height, width) for _ in range(samples)]
    noises = [
        _noise(image, seed, index, height, width) for index in range(samples if temperature else 0)
    ]
    for part in tiles(height, width, tile, min(model.config.reach, LONGEST_MARGIN)):
        outer = (..., *part.outer)
        cond = model.condition(low[outer].to(device))
        mean = model.flow.base(cond).mean
        prepared = model.flow.bijection.prepare(cond) if samples > 1 else cond
        for index, bright in enumerate(drawn):
            z = mean
            if temperature:
                z = z + temperature * squeeze_map(noises[index][outer]).to(mean)
            decoded = model.flow.bijection.inverse(z, prepared)[0][0]
            bright[(..., *part.place)] = decoded[(..., *part.inner)].to(bright)
    if not all(bright.isfinite().all() for bright in drawn):
        raise NotFinite("the network's result isn't finite; other weights may do better")
    return [preprocess.crop(bright, *image.shape[1:]) for bright in drawn]


def _check(image: Tensor, temperature: float, samples: int, tile: int) -> None:
    if (
        image.dim() != 3
        or image.shape[0] != 3
        or not image.is_floating_point()
        or not image.numel()
    ):
        raise ValueError(
            f"enhance: expected a floating-point image (3, H, W), got {image.dtype} "
            f"{tuple(image.shape)}"
        )
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"enhance: expected temperature >= 0, got {temperature}")
    if tile < 1:
        raise ValueError(f"enhance: expected tile >= 1, got {tile}")
    if samples < 1:
        raise ValueError(f"enhance: expected samples >= 1, got {samples}")
    if samples > 1 and temperature == 0:
        raise ValueError("enhance: at temperature 0 all samples are the same; expected samples = 1")


def _noise(image: Tensor, seed: int, index: int, height: int, width: int) -> Tensor:
    """Standard normal noise (1, 3, height, width) in the picture's layout, decided by picture, seed
    and index alone, on every device."""
    digest = hashlib.sha256(image.contiguous().numpy().tobytes())
    digest.update(f"{seed} {index}".encode())
    generator = torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)
    return torch.randn(1, 3, height, width, generator=generator)
