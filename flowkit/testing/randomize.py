"""Random layers and inputs, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import biject_to

from flowkit.combine.parts import require_bijection
from flowkit.contract import Bijection, Cond, Example
from flowkit.testing.draws import LAYOUTS, Draw

Module = TypeVar("Module", bound=nn.Module)


def randomized(example: Example, seed: int, dtype: torch.dtype = torch.float32) -> Bijection:
    """A fresh layer with 0.3/√fan_in·normal noise on every trainable parameter.

    Layers start as the identity, which passes anything. The noise on an n×n matrix has a spectral
    norm of about 0.3·2, so that orthogonal ones stay far from singular. Buffers and frozen
    parameters stay, because one may have been worked out from another.

    Raises:
        TypeError: what `build` makes isn't a bijection that is ready for use.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = require_bijection(example, example.build())
        return moved(layer).to(dtype)


@torch.no_grad()
def moved(module: Module) -> Module:
    """The module after that noise, from torch's own generator, was added to its parameters."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.numel():
            fan_in = parameter.numel() // parameter.shape[0] if parameter.dim() > 1 else 1
            parameter.add_(0.3 / fan_in**0.5 * torch.randn_like(parameter))
    return module


def random_inputs(example: Example, draw: Draw) -> tuple[Tensor, Cond]:
    """x (B, *example.shape) in the example's domain and a standard normal condition of its kind
    (None, a tensor or a dict of tensors), as `draw` has it.

    x is `draw.scale` times normal; in a domain other than all of ℝⁿ it is what
    `torch.distributions.biject_to` makes of that. Where either side isn't all of ℝⁿ the scale is at
    most 1: at 10 much of (0, 1) would round to its ends.
    """
    generator = torch.Generator().manual_seed(draw.seed)

    def normal(shape: tuple[int, ...]) -> Tensor:
        # Drawn in float64 for every dtype, so that all precisions see the same numbers.
        return torch.randn(draw.batch, *shape, generator=generator, dtype=torch.float64)

    def placed(value: Tensor) -> Tensor:
        return laid_out(value.to(draw.dtype), draw.layout)

    everywhere = example.domain is None and example.codomain is None
    scale = draw.scale if everywhere else min(draw.scale, 1.0)
    x = into(example.domain, scale * normal(example.shape))
    if example.cond_shape is None:
        return placed(x), None
    if isinstance(example.cond_shape, Mapping):
        entries = {key: placed(normal(shape)) for key, shape in example.cond_shape.items()}
        return placed(x), entries
    return placed(x), placed(normal(example.cond_shape))


def into(domain: Any, value: Tensor) -> Tensor:
    """Real numbers moved into a constraint of torch.distributions; None leaves them."""
    return value if domain is None else biject_to(domain)(value)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same numbers, lying in memory as LAYOUTS says."""
    assert layout in LAYOUTS
    if layout == "channels last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "every other element":
        return x.repeat_interleave(2, dim=-1)[..., ::2]
    return x.contiguous()
