"""A bijection, given a condition, as a torch.distributions transform."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from flowkit.bijection import Bijection, Cond


class BijectionTransform(Transform):
    """noise -> data: the direction in which a distribution is pushed forward.

    Acts on (*S, B, C, H, W): each of the S samples is mapped under the same B conditions.

    Args:
        bijection: the map, data -> noise in its `forward`.
        cond: its condition for the batch of B, ready for use.
    """

    domain = constraints.independent(constraints.real, 3)
    codomain = constraints.independent(constraints.real, 3)
    bijective = True

    def __init__(self, bijection: Bijection, cond: Cond = None) -> None:
        super().__init__(cache_size=1)
        self.bijection = bijection
        self.cond = cond
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        return shape[:-3] + torch.Size(self.bijection.inverse_shape(tuple(shape[-3:])))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        return shape[:-3] + torch.Size(self.bijection.forward_shape(tuple(shape[-3:])))

    def _call(self, noise: Tensor) -> Tensor:
        data, logdet = self._per_sample(self.bijection.inverse, noise)
        self._last = noise, data, logdet
        return data

    def _inverse(self, data: Tensor) -> Tensor:
        noise, logdet = self._per_sample(self.bijection, data)
        self._last = noise, data, -logdet
        return noise

    def log_abs_det_jacobian(self, noise: Tensor, data: Tensor) -> Tensor:
        """log|det d data / d noise|, (*S, B); free if either was just computed from the other."""
        if self._last is not None and self._last[0] is noise and self._last[1] is data:
            return self._last[2]
        return self._per_sample(self.bijection.inverse, noise)[1]

    def _per_sample(self, map_, x: Tensor) -> tuple[Tensor, Tensor]:
        sample_shape, image_shape = x.shape[:-4], x.shape[-4:]
        mapped = [map_(sample, self.cond) for sample in x.reshape(-1, *image_shape)]
        values = torch.stack([value for value, _ in mapped])
        logdets = torch.stack([logdet for _, logdet in mapped])
        return (
            values.reshape(*sample_shape, *values.shape[1:]),
            logdets.reshape(*sample_shape, *logdets.shape[1:]),
        )

    def with_cache(self, cache_size: int = 1) -> BijectionTransform:
        return self
