"""Base distributions: what the noise side of a flow looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from flowkit.contract import Cond, Shape, wide_dtype


def diagonal_normal(mean: Tensor, std: Tensor | float = 1.0) -> Independent:
    """N(mean, std²), independent per element, one event per sample.

    Args:
        mean: (B, C, *S).
        std: broadcastable to it, positive.
    """
    std = torch.as_tensor(std, dtype=mean.dtype, device=mean.device)
    return Independent(Normal(mean, std, validate_args=False), mean.dim() - 1, validate_args=False)


def require_noise_shape(who: object, shape: int | Shape) -> Shape:
    """Return `shape`, C or (C, *S), as (C, *S).

    Raises:
        ValueError: it isn't one.
    """
    fixed = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not fixed or not all(type(n) is int and n > 0 for n in fixed):
        raise ValueError(
            f"{type(who).__name__}: expected a shape (C, *S) of the noise, got {shape}"
        )
    return fixed


class StandardNormal(nn.Module):
    """N(0, 1) for noise of any shape, which moves with its flow in device and dtype.

    Where a sample's shape isn't asked for, it is the one said here:

        StandardNormal()                       only the caller can tell: `flow.sample(shape=...)`
        StandardNormal((48, 2, 2))             always this shape (C, *S) of the noise
        StandardNormal(48, like="quarter")     48 channels at as many places as cond["quarter"] has
        StandardNormal(48, like=True)          … as the condition has, which is one tensor

    Args:
        shape: (C, *S), or C alone.
        like: the entry of the condition whose places S the noise has, True for a condition that is
            a tensor itself; with it, `shape` is C.

    Raises:
        TypeError: `like` is something else.
        ValueError: `like` without channels, or the shape isn't one.

    >>> flow_base = StandardNormal(48, like="quarter")
    >>> flow_base.shape({"quarter": torch.rand(2, 32, 4, 6)})
    (48, 4, 6)
    """

    place: Tensor

    def __init__(
        self, shape: int | Shape | None = None, *, like: str | Literal[True] | None = None
    ) -> None:
        super().__init__()
        if like is not None and like is not True and not isinstance(like, str):
            raise TypeError(
                "StandardNormal: expected like as the name of an entry or True, got "
                f"{type(like).__name__}"
            )
        if like is not None and not isinstance(shape, int):
            raise ValueError(
                f"StandardNormal: expected the number of channels with like={like!r}, got {shape}"
            )
        self.fixed = None if shape is None else require_noise_shape(self, shape)
        self.like = like
        # Says where the flow is; it has no parameter of its own to ask.
        self.register_buffer("place", torch.zeros(()), persistent=False)

    @property
    def conditional(self) -> bool:
        """Whether the condition is needed, here for its size alone."""
        return self.like is not None

    def shape(self, cond: Cond) -> Shape | None:
        """(C, *S) of the noise under this condition, None if only the caller can tell."""
        if self.like is None or self.fixed is None:
            return self.fixed
        if not isinstance(self.like, str):
            if not isinstance(cond, Tensor):
                raise ValueError(
                    "StandardNormal: expected a condition that is a tensor, for like=True, got "
                    f"{type(cond).__name__}"
                )
            return (*self.fixed, *cond.shape[2:])
        if not isinstance(cond, Mapping) or self.like not in cond:
            came = sorted(cond) if isinstance(cond, Mapping) else type(cond).__name__
            raise ValueError(
                f"StandardNormal: expected a condition with the entry {self.like!r}, got {came}"
                + (" (like=True?)" if isinstance(cond, Tensor) else "")
            )
        return (*self.fixed, *cond[self.like].shape[2:])

    def forward(self, batch: int, shape: Shape) -> Independent:
        """N(0, 1) of batch shape (B,) and event shape `shape`."""
        zero = self.place.new_zeros((), dtype=wide_dtype(self.place))
        return diagonal_normal(zero.expand(batch, *shape))

    def extra_repr(self) -> str:
        return f"{self.fixed or 'any shape'}" + (f", like={self.like!r}" if self.like else "")
