"""A dark picture in, a bright picture out."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from llflow import preprocess, retinex
from llflow.model import LLFlow


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
) -> Tensor:
    """The mean of `samples` bright pictures x = flow⁻¹(z | image), z = color map + τ·ε.

    Args:
        model: on the device to compute on; `model.fold()` is faster.
        image: (3, H, W) RGB in [0, 1], any size.
        temperature: τ. 0 decodes the prior's mean, which the paper uses throughout; 1 draws from
            the model.
        samples: how many pictures to average.
        seed: together with the picture it decides ε, whatever else is computed beside it.

    Returns:
        (3, H, W) in [0, 1], on the CPU.

    Raises:
        ValueError: an argument is out of range, or samples > 1 with temperature 0.
        NotFinite: the result overflowed.

    Wang et al., AAAI 2022, "Invertible Network", the sampling strategy of z.
    """
    draws = draw(model, image, temperature=temperature, samples=samples, seed=seed)
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
) -> list[Tensor]:
    """The single pictures whose mean `enhance` returns, unclipped.

    Sample k is the same however many are drawn. What depends on the dark picture alone is computed
    once for all of them. Arguments and errors are those of `enhance`.
    """
    _check(image, temperature, samples)
    device = next(model.parameters()).device
    equalized = retinex.equalize(image)
    low = preprocess.pad(preprocess.network_input(image, equalized))[None].to(device)
    cond = model.condition(low)
    mean = model.flow.base(cond).mean
    bijection = model.flow.bijection
    prepared = bijection.prepare(cond)
    drawn = []
    for index in range(samples):
        z = mean + temperature * _noise(image, seed, index, mean) if temperature else mean
        bright = bijection.inverse(z, prepared)[0][0]
        if not bright.isfinite().all():
            raise NotFinite("the network's result isn't finite; other weights may do better")
        drawn.append(preprocess.crop(bright, *image.shape[1:]).cpu())
    return drawn


def _check(image: Tensor, temperature: float, samples: int) -> None:
    if (
        image.dim() != 3
        or image.shape[0] != 3
        or not image.is_floating_point()
        or not len(image[0])
    ):
        raise ValueError(
            f"enhance: expected a floating-point image (3, H, W), got {image.dtype} "
            f"{tuple(image.shape)}"
        )
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"enhance: expected temperature >= 0, got {temperature}")
    if samples < 1:
        raise ValueError(f"enhance: expected samples >= 1, got {samples}")
    if samples > 1 and temperature == 0:
        raise ValueError("enhance: at temperature 0 all samples are the same; expected samples = 1")


def _noise(image: Tensor, seed: int, index: int, like: Tensor) -> Tensor:
    """Standard normal noise that picture, seed and index decide alone, on every device."""
    digest = hashlib.sha256(image.contiguous().numpy().tobytes())
    digest.update(f"{seed} {index}".encode())
    generator = torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
