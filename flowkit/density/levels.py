"""Which latent belongs to which level of a multi-scale flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowkit.combine import At, Chain, Inverse, OnChannels
from flowkit.contract import Bijection, Given, Shape
from flowkit.layers import ActNorm, Autoregressive, Flip, Parameterized, Permute, Squeeze
from flowkit.reversible import Reversible


def by_level(bijection: Bijection, noise_shape: Shape, values: Sequence[float]) -> Tensor:
    """A tensor (1, C', *S') that holds values[k] at the latents of level k.

    Level 0 leaves first: what `OnChannels` passes by. Inside of it is the next level.

    Args:
        bijection: data -> noise; levels are followed through chains, At, Inverse, OnChannels and
            whatever moves or maps each element by itself.
        noise_shape: (C', *S').
        values: one for each level.

    Raises:
        ValueError: there are more or fewer levels, or a layer mixes them.
    """
    shape = bijection.shape(noise_shape, inverse=True)
    levels = _levels(bijection, torch.zeros(1, *shape))
    count = int(levels.max().item()) + 1
    if len(values) != count:
        raise ValueError(
            f"Flow.sample: expected a temperature for each of {count} levels, got {len(values)}"
        )
    return torch.as_tensor(values, dtype=torch.get_default_dtype())[levels.long()]


def _levels(bijection: Bijection, levels: Tensor, *, inverse: bool = False) -> Tensor:
    """The levels of a bijection's results, given those of what it maps."""
    kind = type(bijection)
    if isinstance(bijection, Chain) and kind is Chain:
        for layer in list(bijection)[:: -1 if inverse else 1]:
            levels = _levels(layer, levels, inverse=inverse)
        return levels
    if isinstance(bijection, At | Given | Reversible) and kind in (At, Given, Reversible):
        return _levels(bijection.bijection, levels, inverse=inverse)
    if isinstance(bijection, Inverse) and kind is Inverse:
        return _levels(bijection.bijection, levels, inverse=not inverse)
    if isinstance(bijection, OnChannels) and kind is OnChannels:
        first, rest = levels[:, : bijection.channels], levels[:, bijection.channels :]
        first = _levels(bijection.bijection, first + 1, inverse=inverse)
        return torch.cat([first, rest], dim=1)
    if kind in (Squeeze, Permute, Flip):
        return (bijection.inverse if inverse else bijection.forward)(levels)[0]
    if (levels == levels.max()).all():
        shape = bijection.shape(tuple(levels.shape[1:]), inverse=inverse)
        return levels.max().expand(1, *shape)
    # A subclass that maps in another way may mix them.
    elementwise = (ActNorm, Parameterized, Autoregressive)
    if any((kind.forward, kind.inverse) == (e.forward, e.inverse) for e in elementwise):
        return levels
    raise ValueError(
        f"Flow.sample: expected levels that stay apart, got {kind.__name__} behind them, which may "
        "mix them (a temperature can be a tensor, too)"
    )
