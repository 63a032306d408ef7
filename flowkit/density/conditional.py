"""Conditional normal: a base whose mean and deviation a net makes of the condition."""

from __future__ import annotations

import math

from torch import nn
from torch.distributions import Independent

from flowkit.combine import At, Chain
from flowkit.conditions import require_cond
from flowkit.contract import Cond, Shape, require_at_least, wide
from flowkit.density.base import diagonal_normal, require_noise_shape
from flowkit.nets.conditioner import Net, ask, build
from flowkit.ops.coupling.scale import ExpScale, Scale, scale_and_log


class ConditionalNormal(nn.Module):
    """p(z | c) = N(z; μ, diag s²)  with  μ, log s = net(c).

        ConditionalNormal(MLP, 2, cond_channels=10)             vectors given vectors
        ConditionalNormal(ConvNet, 48, cond_channels=32)        images given images of their size
        ConditionalNormal(MLP, (48, 2, 2), cond_channels=10)    images given vectors
        ConditionalNormal(nn.Linear, 2, cond_channels=10, key="label")   a mean and a spread for
                                                                each class, of one-hot labels

    Args:
        net: makes the net from its input and output channels.
        shape: C, for noise with as many places as the condition; or (C, *S), for a condition that
            is a vector, of which the net then makes 2·C·|S| numbers.
        cond_channels: D of the condition (B, D) or (B, D, *S).
        key: the entry of the condition that this is, where that is a mapping.
        scale: from raw numbers to (s, log s), bounded away from 0 and ∞.

    Raises:
        ValueError: the shape isn't one; or, on use, the condition or the net's output has another
            shape.
        TypeError: `net` isn't a factory; or, on use, the condition isn't a tensor (with `key`, a
            mapping of such).

    >>> import torch
    >>> base = ConditionalNormal(nn.Linear, (4, 2, 2), cond_channels=10)  # a mean for each class
    >>> base(torch.eye(10)).sample().shape
    torch.Size([10, 4, 2, 2])
    """

    def __init__(
        self,
        net: Net,
        shape: int | Shape,
        *,
        cond_channels: int,
        key: str | None = None,
        scale: Scale = ExpScale(),
    ) -> None:
        super().__init__()
        require_at_least(self, "cond_channels", cond_channels, 1)
        self.fixed = require_noise_shape(self, shape)
        self.cond_channels, self.scale = cond_channels, scale
        self.entry = None if key is None else At(key, Chain())
        self.net = build(self, net, cond_channels, 2 * math.prod(self.fixed))

    def forward(self, cond: Cond) -> Independent:
        """Batch shape (B,), event shape (C, *S)."""
        if self.entry is not None:
            cond = self.entry.entry(cond)
        cond = require_cond(self, cond, self.cond_channels)
        channels, *places = self.fixed
        if places and cond.dim() > 2:
            raise ValueError(
                f"ConditionalNormal: expected a vector (B, {self.cond_channels}) as the condition "
                f"of noise {self.fixed}, got {tuple(cond.shape)} (shape={channels} for noise with "
                "the places of the condition)"
            )
        numbers = wide(ask(self.net, cond))
        expected = (cond.shape[0], 2 * math.prod(self.fixed), *cond.shape[2:])
        if numbers.shape != expected:
            raise ValueError(
                f"ConditionalNormal: expected {expected} from the net, got {tuple(numbers.shape)}"
            )
        mean, raw = numbers.chunk(2, dim=1)
        std, _ = scale_and_log(self.scale, raw)
        if places:
            mean, std = (part.unflatten(1, self.fixed) for part in (mean, std))
        return diagonal_normal(mean, std)

    def extra_repr(self) -> str:
        return f"{self.fixed}, cond_channels={self.cond_channels}, scale={self.scale}"
