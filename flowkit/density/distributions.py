"""A flow under one condition, as a torch distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from flowkit.contract import Bijection, Shape, require_channels, wide
from flowkit.density.base import StandardNormal
from flowkit.density.levels import by_level

ELEMENTS = 2**20
"""Elements of noise or data that go through the flow in one pass, where samples are many."""

Temperature = float | Tensor | Sequence[float]


class GivenFlow(Distribution):
    """p(x | c) for a batch of B conditions: batch shape (B,), without a condition ().

    Made by `Flow.given`. Samples of one condition, and densities under it, go through the flow
    together, some 2**20 elements at a time.

    Args:
        bijection: data -> noise, its condition inside.
        base: of the noise; batch shape (B,), or a `StandardNormal`.
        batch: B; None without a condition.
        noise_shape: (C', *S') of one sample's noise; None if nothing tells it, and then there is no
            sampling, and `log_prob` takes (B, C, *S).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - that is how torch declares it
    has_rsample = True

    def __init__(
        self,
        bijection: Bijection,
        base: Distribution | StandardNormal,
        *,
        batch: int | None,
        noise_shape: Shape | None,
    ) -> None:
        self.bijection = bijection
        self.base = base
        self.batch = batch
        self.noise_shape = noise_shape
        batch_shape = torch.Size(() if batch is None else (batch,))
        event_shape = torch.Size()
        if noise_shape is not None:
            event_shape = torch.Size(bijection.shape(noise_shape, inverse=True))
        super().__init__(batch_shape, event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each sample, in nats.

        Args:
            value: (*N, B, C, *S), without a condition (*N, C, *S): N samples of each condition.

        Returns:
            (*N, B), without a condition (*N,).

        Raises:
            ValueError: the shapes don't belong together.
        """
        axes = value.dim() - 1 if self.noise_shape is None else len(self.event_shape)
        lead, event = value.shape[: value.dim() - axes], value.shape[value.dim() - axes :]
        if self.noise_shape is not None and event != self.event_shape:
            raise ValueError(
                f"GivenFlow: expected samples of shape {tuple(self.event_shape)}, "
                f"got {tuple(value.shape)}"
            )
        if self.batch is not None and (not lead or lead[-1] != self.batch):
            raise ValueError(
                f"GivenFlow: expected samples (..., {self.batch}, *{tuple(event)}) for "
                f"{self.batch} conditions, got {tuple(value.shape)}"
            )
        flat = value.reshape(-1, *event)
        require_channels("GivenFlow", flat)
        parts = []
        for rows in self._passes(len(flat), event.numel()):
            z, logdet = self.bijection(wide(flat[rows]))
            parts.append(self._base_log_prob(z) + logdet)
        if not parts:
            return wide(flat).new_zeros(lead)
        return torch.cat(parts).reshape(lead)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """(*sample_shape, B, C, *S), with gradients where the base allows them."""
        return self.sample_with(tuple(sample_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """(*sample_shape, B, C, *S)."""
        return self.rsample(sample_shape)

    def rsample_and_log_prob(
        self, sample_shape: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Samples as `rsample` gives them, and their log-densities, in one pass."""
        lead, count = self._lead(sample_shape)
        samples, densities = [], []
        for z in self._noise(count, 1.0, None):
            x, logdet = self.bijection.inverse(z)
            samples.append(x)
            densities.append(self._base_log_prob(z) - logdet)
        x = torch.cat(samples)
        return x.reshape(*lead, *x.shape[1:]), torch.cat(densities).reshape(lead)

    def sample_with(
        self,
        sample_shape: Sequence[int] | None = None,
        *,
        temperature: Temperature = 1.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """(*sample_shape, B, C, *S) at a temperature, or of given noise, see `Flow.sample`. With
        None for `sample_shape` it is (), but without a condition there is an axis of 1 then."""
        lead, count = self._lead(sample_shape)
        samples = [self.bijection.inverse(z)[0] for z in self._noise(count, temperature, noise)]
        x = torch.cat(samples)
        return x.reshape(*lead, *x.shape[1:])

    def _lead(self, sample_shape: Sequence[int] | None) -> tuple[tuple[int, ...], int]:
        """The axes before a sample's own, and how many samples each condition gets."""
        shape = tuple(sample_shape or ())
        if any(size < 1 for size in shape):
            raise ValueError(f"GivenFlow: expected num_samples >= 1, got {shape}")
        if self.batch is not None:
            return (*shape, self.batch), math.prod(shape)
        return (1,) if sample_shape is None else shape, math.prod(shape)

    def _noise(
        self, count: int, temperature: Temperature, noise: Tensor | None
    ) -> Iterator[Tensor]:
        """z (k·B, C', *S') for `count` samples of each condition, some at a time."""
        if self.noise_shape is None:
            raise ValueError(
                "Flow.sample: expected shape=(C, *S) of a sample, since neither the base nor the "
                "condition tells it"
            )
        batch = 1 if self.batch is None else self.batch
        if noise is not None:
            expected = (count * batch, *self.noise_shape)
            if noise.shape[-len(self.noise_shape) :] != expected[1:] or noise.numel() != math.prod(
                expected
            ):
                raise ValueError(
                    f"Flow.sample: expected noise of {count} x {batch} samples of shape "
                    f"{self.noise_shape}, got {tuple(noise.shape)}"
                )
            noise = noise.reshape(count, batch, *self.noise_shape)
        factor = self._factor(temperature)
        for rows in self._passes(count * batch, math.prod(self.noise_shape)):
            drawn = self._draw(
                (rows.stop - rows.start) // batch,
                factor,
                None if noise is None else noise[rows.start // batch : rows.stop // batch],
            )
            yield drawn.reshape(-1, *self.noise_shape)

    def _draw(self, count: int, factor: Tensor | float, noise: Tensor | None) -> Tensor:
        """mean + factor·(draw - mean) (count, B, C', *S')."""
        assert self.noise_shape is not None
        base, batch = self.base, 1 if self.batch is None else self.batch
        if isinstance(base, StandardNormal):
            base = base(batch, self.noise_shape)
        if base.batch_shape == torch.Size():
            base = base.expand((batch,))
        whole = isinstance(factor, float) and factor == 1
        if noise is not None:
            return base.mean + factor * base.stddev * noise.to(base.mean)
        if isinstance(factor, float) and factor == 0:
            return base.mean.expand(count, *base.mean.shape)
        drawn = base.rsample((count,)) if base.has_rsample else base.sample((count,))
        # A base without a mean can still be drawn from as it is.
        return drawn if whole else base.mean + factor * (drawn - base.mean)

    def _factor(self, temperature: Temperature) -> Tensor | float:
        values = torch.as_tensor(temperature)
        if not (values.isfinite() & (values >= 0)).all():
            raise ValueError(f"Flow.sample: expected temperature >= 0, got {temperature}")
        if isinstance(temperature, Tensor) and temperature.dim():
            return temperature
        if isinstance(temperature, Sequence):
            assert self.noise_shape is not None
            return by_level(self.bijection, self.noise_shape, temperature)
        return float(temperature)

    def _base_log_prob(self, z: Tensor) -> Tensor:
        """(k·B,) for z (k·B, C', *S')."""
        if isinstance(self.base, StandardNormal):
            return self.base(len(z), tuple(z.shape[1:])).log_prob(z)
        batch = 1 if self.batch is None else self.batch
        return self.base.log_prob(z.reshape(-1, batch, *z.shape[1:])).reshape(-1)

    def _passes(self, rows: int, elements: int) -> Iterator[slice]:
        """Slices of `rows`, whole batches of conditions at a time, of some ELEMENTS each."""
        batch = max(1, 1 if self.batch is None else self.batch)
        step = max(1, ELEMENTS // max(1, elements * batch)) * batch
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))
