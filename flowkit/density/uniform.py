"""Uniform noise in a box."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Uniform

from flowkit.conditions import batch_of
from flowkit.contract import Cond, Shape, wide_dtype
from flowkit.density.base import require_noise_shape


class BoxUniform(nn.Module):
    """p(z) = 1/volume for low <= z <= high, both ends among it, 0 elsewhere (log-density -∞).

    For bijections onto the box, such as those of a `BoundedSpline`. A temperature draws z nearer to
    the middle, above 1 out of the box; `noise=`, which is normal, is refused.

    Args:
        low, high: numbers, or tensors that together broadcast to (C, *S); finite, low < high.
            They are kept in float64, whatever precision the flow has, so that a flow made in
            float32 and then turned to float64 has the ends that were said. (A flow in float32 asked
            about data in float64 rounds a number such as 0.1, which is then beside its end.)
        shape: (C, *S) of the noise, or C alone; None where the tensors have it.

    Raises:
        TypeError: an end is neither a number nor a tensor.
        ValueError: the box is empty or not finite, or nothing tells a shape (C, *S).
    """

    conditional = False
    low: Tensor
    high: Tensor
    place: Tensor

    def __init__(
        self, low: Tensor | float, high: Tensor | float, shape: int | Shape | None = None
    ) -> None:
        super().__init__()
        dtype = torch.get_default_dtype()
        for end in (low, high):
            if isinstance(end, Tensor):
                dtype = torch.promote_types(dtype, end.dtype)
            elif not isinstance(end, int | float):
                raise TypeError(
                    "BoxUniform: expected low and high as numbers or tensors, got "
                    f"{type(end).__name__}"
                )
        ends = [torch.as_tensor(end, dtype=torch.float64) for end in (low, high)]
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
        # Says in which precision the flow is, and where.
        self.register_buffer("place", torch.zeros((), dtype=dtype), persistent=False)

    def forward(self, cond: Cond = None) -> Independent:
        """Batch shape (B,) for a condition of B samples, () without; event shape (C, *S)."""
        dtype = wide_dtype(self.place)
        box = Closed(self.low.to(dtype), self.high.to(dtype), validate_args=False)
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
