"""Random layers and inputs, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flowkit.contract import Bijection, Cond, Example


@dataclass(frozen=True)
class Draw:
    """One try of a check: B samples, `scale` times normal, of the layer and numbers of `seed`."""

    batch: int = 2
    seed: int = 0
    scale: float = 1.0


def randomized(example: Example, seed: int, dtype: torch.dtype = torch.float32) -> Bijection:
    """A fresh layer with 0.3/√fan_in·normal noise on every trainable parameter.

    Layers start as the identity, which passes anything. The noise on an n×n matrix has a spectral
    norm of about 0.3·2, so that orthogonal ones stay far from singular. Buffers and frozen
    parameters stay, because one may have been worked out from another.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        layer = example.build()
        for parameter in layer.parameters():
            if parameter.requires_grad and parameter.numel():
                fan_in = parameter.numel() // parameter.shape[0] if parameter.dim() > 1 else 1
                parameter.add_(0.3 / fan_in**0.5 * torch.randn_like(parameter))
    return layer.to(dtype)


def random_inputs(
    example: Example, draw: Draw, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Cond]:
    """x (B, *example.shape), scaled by `draw.scale`, and a standard normal condition of its kind
    (None, a tensor or a dict of tensors)."""
    generator = torch.Generator().manual_seed(draw.seed)

    def normal(shape: tuple[int, ...]) -> Tensor:
        # Drawn in float64 for every dtype, so that all precisions see the same numbers.
        noise = torch.randn(draw.batch, *shape, generator=generator, dtype=torch.float64)
        return noise.to(dtype)

    x = draw.scale * normal(example.shape)
    if example.cond_shape is None:
        return x, None
    if isinstance(example.cond_shape, Mapping):
        return x, {key: normal(shape) for key, shape in example.cond_shape.items()}
    return x, normal(example.cond_shape)
