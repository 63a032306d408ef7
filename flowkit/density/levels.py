"""Which latent belongs to which level of a multi-scale flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowkit.combine import At, Chain, Inverse, OnChannels
from flowkit.contract import Bijection, Shape
from flowkit.layers import Flip, Permute, Squeeze


def by_level(bijection: Bijection, noise_shape: Shape, values: Sequence[float]) -> Tensor:
    """A tensor (1, C', *S') that holds values[k] at the latents of level k.

    Level 0 leaves first: what `OnChannels` passes by. Inside of it is the next level.

    Args:
        bijection: data -> noise; levels are found in chains, also inside At, Inverse, OnChannels.
        noise_shape: (C', *S').
        values: one for each level.

    Raises:
        ValueError: there are more or fewer levels.
    """
    shape = bijection.shape(noise_shape, inverse=True)
    levels = _levels(bijection, torch.zeros(1, *shape))
    count = int(levels.max().item()) + 1
    if len(values) != count:
        raise ValueError(
            f"Flow.sample: expected a temperature for each of {count} levels, got {len(values)}"
        )
    return torch.as_tensor(values, dtype=torch.get_default_dtype())[levels.long()]


def _levels(bijection: Bijection, levels: Tensor) -> Tensor:
    """The levels of the noise's elements, given those of the data's."""
    if isinstance(bijection, Chain):
        for layer in bijection:
            levels = _levels(layer, levels)
        return levels
    if isinstance(bijection, At):
        return _levels(bijection.bijection, levels)
    if isinstance(bijection, OnChannels):
        first, rest = levels[:, : bijection.channels], levels[:, bijection.channels :]
        return torch.cat([_levels(bijection.bijection, first + 1), rest], dim=1)
    moves = isinstance(bijection, Squeeze | Permute | Flip)
    if moves or (
        isinstance(bijection, Inverse) and isinstance(bijection.bijection, Squeeze | Permute)
    ):
        return bijection(levels)[0]
    return levels
