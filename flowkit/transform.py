"""A bijection, given a condition, as a torch.distributions transform."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from flowkit.bijection import Bijection, Cond

Map = Callable[[Tensor, Cond], tuple[Tensor, Tensor]]


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
        super().__init__()
        self.bijection = bijection
        self.cond = cond
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        return shape[:-3] + torch.Size(self.bijection.inverse_shape(tuple(shape[-3:])))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        return shape[:-3] + torch.Size(self.bijection.forward_shape(tuple(shape[-3:])))

    def _call(self, noise: Tensor) -> Tensor:
        data, logdet = self._mapped(self.bijection.inverse, noise)
        self._last = noise, data, logdet
        return data

    def _inverse(self, data: Tensor) -> Tensor:
        noise, logdet = self._mapped(self.bijection, data)
        self._last = noise, data, -logdet
        return noise

    def log_abs_det_jacobian(self, noise: Tensor, data: Tensor) -> Tensor:
        """log|det d data / d noise|, (*S, B); free if either was just computed from the other."""
        last, self._last = self._last, None  # once only: a tensor changed in place is still itself
        if last is not None and last[0] is noise and last[1] is data:
            return last[2]
        return self._mapped(self.bijection.inverse, noise)[1]

    def _mapped(self, map_: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        batch_shape, image_shape = x.shape[:-3], x.shape[-3:]
        if self.cond is None:
            value, logdet = map_(x.reshape(batch_shape.numel(), *image_shape), None)
        else:
            samples = x.reshape(batch_shape[:-1].numel(), batch_shape[-1], *image_shape)
            mapped = [map_(sample, self.cond) for sample in samples]
            value = torch.cat([value for value, _ in mapped])
            logdet = torch.cat([logdet for _, logdet in mapped])
        return value.reshape(*batch_shape, *value.shape[1:]), logdet.reshape(batch_shape)
