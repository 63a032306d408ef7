"""Drawing noise: at a temperature, or from noise that is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily, Uniform

from flowkit.contract import Bijection, Shape
from flowkit.density.levels import by_level

Temperature = float | Tensor | Sequence[float]


def log_prob(base: Distribution, z: Tensor) -> Tensor:
    """(k·B,) for z (k·B, C, *S) under a base of batch shape (B,) or (1,)."""
    if z.shape[0] == 0:
        # torch.distributions can't sum over the elements of no samples.
        return z.flatten(1).sum(1)
    # Not batch_shape.numel(), nor len(z) above, which torch.export takes for constants.
    batch = math.prod(base.batch_shape)
    return base.log_prob(z.reshape(-1, batch, *z.shape[1:])).reshape(-1)


def draw(base: Distribution, count: int, factor: Tensor | float = 1.0) -> Tensor:
    """mean + factor·(draw - mean), `count` for each of the base's: (count, B, C, *S)."""
    if isinstance(factor, float) and factor == 0:
        return base.mean.expand(count, *base.mean.shape)
    drawn = base.rsample((count,)) if base.has_rsample else base.sample((count,))
    if isinstance(factor, float) and factor == 1:
        # A base without a mean can still be drawn from as it is.
        return drawn
    return base.mean + factor * (drawn - base.mean)


def scaled(base: Distribution, noise: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """mean + factor·std·noise for noise (count, B, C, *S) from N(0, 1).

    Raises:
        ValueError: the base is known not to be distributed like that.
    """
    inner = base.base_dist if isinstance(base, Independent) else base
    if isinstance(inner, MixtureSameFamily | Uniform):
        raise ValueError(
            "Flow.sample: expected a normal base for noise=, whose draws are mean + std·noise, got "
            f"{type(inner).__name__} (leave noise out, and it draws)"
        )
    return base.mean + factor * base.stddev * noise.to(base.mean)


def factor_of(
    temperature: Temperature, bijection: Bijection, batch: int, shape: Shape
) -> Tensor | float:
    """A temperature as a number, or as a tensor that broadcasts to noise (batch, *shape).

    Raises:
        TypeError: it isn't a number, a tensor or a sequence of numbers.
        ValueError: it is negative or not finite, or doesn't fit the noise or the levels.
    """
    if isinstance(temperature, str) or not isinstance(temperature, float | int | Tensor | Sequence):
        raise TypeError(
            "Flow.sample: expected the temperature as a number, a tensor, or numbers by level, got "
            f"{type(temperature).__name__}"
        )
    if isinstance(temperature, float | int):
        # Apart from tensors, at whose values torch.compile can't look.
        if not 0 <= temperature < math.inf:
            raise ValueError(f"Flow.sample: expected temperature >= 0, got {temperature}")
        return float(temperature)
    values = torch.as_tensor(temperature)
    if not (values.isfinite() & (values >= 0)).all():
        raise ValueError(f"Flow.sample: expected temperature >= 0, got {temperature}")
    if isinstance(temperature, Sequence):
        return by_level(bijection, shape, temperature)
    if values.dim() == 0:
        return values if values.requires_grad else float(temperature)
    sizes = zip(reversed(values.shape), reversed((batch, *shape)), strict=False)
    if values.dim() > 1 + len(shape) or any(size not in (1, wanted) for size, wanted in sizes):
        raise ValueError(
            f"Flow.sample: expected a temperature that broadcasts to {(batch, *shape)}, "
            f"got one of shape {tuple(values.shape)}"
        )
    return values
