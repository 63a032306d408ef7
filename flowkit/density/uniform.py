"""Uniform noise in a box."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Uniform

from flowkit.conditions import batch_of
from flowkit.contract import Cond, Shape, wide
from flowkit.density.base import require_noise_shape


class BoxUniform(nn.Module):
    """p(z) = 1/volume for low <= z <= high, both ends among it, 0 elsewhere (log-density -∞).

    For bijections onto the box, such as those of a `BoundedSpline`. A temperature draws z nearer to
    the middle, above 1 out of the box; `noise=`, which is normal, is refused.

    Args:
        low, high: numbers, or tensors that together broadcast to (C, *S); finite, low < high.
            They are kept in the default dtype, tensors in float64 in that. (A number such as 0.1,
            rounded to float32, is an end beside 0.1 for data in float64.)
        shape: (C, *S) of the noise, or C alone; None where the tensors have it.

    Raises:
        ValueError: the box is empty or not finite, or nothing tells a shape (C, *S).
    """

    conditional = False
    low: Tensor
    high: Tensor

    def __init__(
        self, low: Tensor | float, high: Tensor | float, shape: int | Shape | None = None
    ) -> None:
        super().__init__()
        default = torch.get_default_dtype()
        ends = [
            end.to(torch.promote_types(end.dtype, default))
            if isinstance(end, Tensor)
            else torch.as_tensor(end, dtype=default)
            for end in (low, high)
        ]
        sizes = [tuple(end.shape) for end in ends]
        try:
            whole = tuple(torch.broadcast_shapes(*sizes)) if shape is None else shape
            whole = require_noise_shape(self, whole)
            first, last = (end.expand(whole) for end in ends)
        except RuntimeError as error:
            raise ValueError(
                f"BoxUniform: expected ends that broadcast to {shape or 'one shape'}, got "
                f"{sizes[0]} and {sizes[1]}"
            ) from error
        if not (first.isfinite() & last.isfinite() & (first < last)).all():
            raise ValueError(
                f"BoxUniform: expected finite low < high, got {first.tolist()} and {last.tolist()}"
            )
        self.register_buffer("low", first.clone())
        self.register_buffer("high", last.clone())

    def forward(self, cond: Cond = None) -> Independent:
        """Batch shape (B,) for a condition of B samples, () without; event shape (C, *S)."""
        box = Closed(wide(self.low), wide(self.high), validate_args=False)
        uniform = Independent(box, self.low.dim(), validate_args=False)
        return uniform if cond is None else uniform.expand((batch_of("Flow", cond),))

    def extra_repr(self) -> str:
        return f"{tuple(self.low.shape)}"


class Closed(Uniform):
    """torch's uniform distribution, and its upper end: a pixel may well be 1 exactly."""

    def log_prob(self, value: Tensor) -> Tensor:
        # Rounded as the value is, which may be an end.
        low, high = self.low.to(value.dtype), self.high.to(value.dtype)
        outside = (value < low) | (value > high)
        density = -(high - low).log() + torch.zeros_like(value)
        return density.masked_fill(outside, -math.inf).where(~value.isnan(), value)
