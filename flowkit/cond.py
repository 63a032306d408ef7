"""Putting a condition beside the tensor that it conditions."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.bijection import Cond


def require_cond(who: object, cond: Cond, channels: int, like: Tensor | None = None) -> Tensor:
    """Return `cond` if it is a (B, `channels`, H, W) tensor that fits `like` (B, C, H, W).

    Raises:
        ValueError: it is missing, or its shape is another.
        TypeError: it isn't a tensor.
    """
    name = type(who).__name__
    if cond is None:
        raise ValueError(f"{name}: expected a condition of {channels} channels, got None")
    if not isinstance(cond, Tensor):
        raise TypeError(
            f"{name}: expected a condition tensor, got {type(cond).__name__}"
            " (flowkit.At picks one entry of a mapping)"
        )
    batch, height, width = ("B", "H", "W") if like is None else (like.shape[0], *like.shape[2:])
    expected = f"({batch}, {channels}, {height}, {width})"
    fits = cond.dim() == 4 and cond.shape[1] == channels
    if fits and like is not None:
        fits = cond.shape[0] == batch and cond.shape[2:] == like.shape[2:]
    if not fits:
        raise ValueError(
            f"{name}: expected a condition of shape {expected}, got {tuple(cond.shape)}"
        )
    return cond


def beside(x: Tensor, cond: Tensor) -> Tensor:
    """`x` (B, C, H, W), then the channels of `cond` (B, D, H, W), in the wider precision."""
    return torch.cat([x, cond], dim=1)
