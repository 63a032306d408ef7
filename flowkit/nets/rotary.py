"""Rotary positions of places, normed so that they fit any height × width."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ACROSS = 16.0
"""How far apart the ends of a square's axis are; places as far as a pixel of 16×16 are 1 apart."""


def coordinates(sizes: tuple[int, ...], like: Tensor) -> Tensor:
    """(T, axes): where the T = ∏ sizes places are, row by row, from the middle of all.

    The whole has an area of ACROSS per axis whatever its resolution, so that places of two grids of
    one aspect ratio that cover the same spot are at the same point. float32, or like's if wider.

    Raises:
        ValueError: one of the sizes is 0.
    """
    if any(size == 0 for size in sizes):
        raise ValueError(f"Transformer: expected at least one place, got places {sizes}")
    dtype = torch.promote_types(like.dtype, torch.float32)
    unit = ACROSS / math.prod(sizes) ** (1 / max(len(sizes), 1))
    axes = [
        (torch.arange(size, device=like.device, dtype=dtype) + 0.5 - size / 2) * unit
        for size in sizes
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def angles(where: Tensor, count: int) -> Tensor:
    """(T, axes·count): each coordinate in `count` frequencies, from 1 down to 1/ACROSS."""
    steps = torch.arange(count, device=where.device, dtype=where.dtype) / max(count - 1, 1)
    return (where[:, :, None] * ACROSS**-steps).flatten(1)


def turned(value: Tensor, angle: Tensor) -> Tensor:
    """value (..., T, D), whose first 2·N numbers are N planes, each turned by angle (T, N).

    Products of two turned vectors depend on the difference of their positions alone. Su et al.,
    RoFormer, 2021, arXiv:2104.09864, §3.2; by axes, as Heo et al., Rotary position embedding for
    vision transformer, 2024, arXiv:2403.13298.
    """
    n = angle.shape[1]
    cos, sin = angle.cos().to(value.dtype), angle.sin().to(value.dtype)
    a, b, rest = value.split([n, n, value.shape[-1] - 2 * n], dim=-1)
    return torch.cat([cos * a - sin * b, sin * a + cos * b, rest], dim=-1)
