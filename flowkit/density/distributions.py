"""A flow under one condition, as a torch distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from flowkit.combine.parts import run
from flowkit.conditions import Unchanged
from flowkit.contract import Bijection, Shape, require_channels, require_floating, wide
from flowkit.density.base import StandardNormal
from flowkit.density.noise import Temperature, draw, factor_of, log_prob, scaled

ELEMENTS = 2**20
"""Elements of noise or data that go through the flow in one pass, where samples are many."""


class GivenFlow(Distribution):
    """p(x | c) for a batch of B conditions: batch shape (B,), without a condition ().

    Made by `Flow.given`. Samples of one condition, and densities under it, go through the flow
    together, some 2**20 elements at a time.

    Args:
        bijection: data -> noise, its condition inside.
        base: what makes the distribution of the noise.
        noise: that distribution, batch shape (B,); None for a `StandardNormal`, which is made in
            the shape that is asked for.
        batch: B; None without a condition.
        told_by: what told the noise's shape, for errors.
        noise_shape: (C', *S') of one sample's noise; None if nothing tells it, and then there is no
            sampling, and `log_prob` takes (B, C, *S).

    Raises (on use):
        ValueError: parameters have changed that work was done with; `Flow.given` again.
        NotImplementedError: gradients are asked for through draws of a base that has none, such as
            a mixture.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - that is how torch declares it

    def __init__(
        self,
        bijection: Bijection,
        base: nn.Module,
        noise: Distribution | None,
        *,
        batch: int | None,
        noise_shape: Shape | None,
        told_by: str = "the base",
    ) -> None:
        self.bijection = bijection
        self.base = base
        self.noise = noise
        self.unchanged = None if noise is None else Unchanged(base)
        self.told_by = told_by
        self.batch = batch
        self.noise_shape = noise_shape
        super().__init__(
            torch.Size(() if batch is None else (batch,)), self._event_shape(), validate_args=False
        )

    @property
    def has_rsample(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether draws of the base carry gradients."""
        return self.noise is None or self.noise.has_rsample

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
        if self.noise_shape is None:
            require_channels("GivenFlow", value)
        require_floating("GivenFlow", value)
        axes = value.dim() - 1 if self.noise_shape is None else len(self.event_shape)
        lead, event = value.shape[: value.dim() - axes], value.shape[value.dim() - axes :]
        if self.noise_shape is not None and event != self.event_shape:
            raise ValueError(
                f"GivenFlow: expected samples of shape {tuple(self.event_shape)}, "
                f"got {tuple(value.shape)}"
            )
        if self.batch is not None and (not lead or lead[-1] != self.batch):
            hint = "" if self.noise_shape else " (for several of each: given(cond, shape=))"
            raise ValueError(
                f"GivenFlow: expected {(*lead[:-1], self.batch, *event)} for {self.batch} "
                f"conditions, got {tuple(value.shape)}{hint}"
            )
        flat = wide(value).reshape(lead.numel(), *event)
        parts = []
        for rows in self._passes(len(flat), event.numel()):
            z, logdet = run(self.bijection, flat[rows])
            parts.append(log_prob(self._base(tuple(z.shape[1:])), z) + logdet)
        return torch.cat(parts).reshape(lead)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """(*sample_shape, B, C, *S), with gradients."""
        self._require_gradients("rsample")
        return self.sample_with(tuple(sample_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """(*sample_shape, B, C, *S)."""
        return self.sample_with(tuple(sample_shape))

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Samples as `rsample` gives them, and their log-densities, in one pass."""
        self._require_gradients("rsample_and_log_prob")
        samples, densities, lead = [], [], (*sample_shape, *self.batch_shape)
        for z in self._noise(math.prod(sample_shape), 1.0, None):
            x, logdet = self._decoded(z)
            samples.append(x)
            densities.append(log_prob(self._base(tuple(z.shape[1:])), z) - logdet)
        x = torch.cat(samples)
        return x.reshape(*lead, *x.shape[1:]), torch.cat(densities).reshape(lead)

    def sample_with(
        self,
        sample_shape: Sequence[int] = (),
        *,
        temperature: Temperature = 1.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """(*sample_shape, B, C, *S) at a temperature, or of given noise (*sample_shape, B, C',
        *S'), see `Flow.sample`."""
        count = math.prod(sample_shape)
        if noise is not None:
            expected = (*sample_shape, *self.batch_shape, *self._known_shape())
            if tuple(noise.shape) != expected:
                raise ValueError(
                    f"Flow.sample: expected noise of shape {expected}, got {tuple(noise.shape)}"
                )
        x = torch.cat([self._decoded(z)[0] for z in self._noise(count, temperature, noise)])
        return x.reshape(*sample_shape, *self.batch_shape, *x.shape[1:])

    def _noise(
        self, count: int, temperature: Temperature, noise: Tensor | None
    ) -> Iterator[Tensor]:
        """z (k·B, C', *S') for `count` samples of each condition, some at a time."""
        shape = self._known_shape()
        base, batch = self._base(shape), self._rows()
        factor = factor_of(temperature, self.bijection, batch, shape)
        if isinstance(factor, Tensor):
            factor = factor.to(base.mean)
        if noise is not None:
            noise = noise.reshape(count, batch, *shape)
        for rows in self._passes(count * batch, math.prod(shape)):
            some = slice(rows.start // max(1, batch), rows.stop // max(1, batch))
            if noise is None:
                z = draw(base, some.stop - some.start, factor)
            else:
                z = scaled(base, noise[some], factor)
            yield wide(z).reshape(rows.stop - rows.start, *shape)

    def _require_gradients(self, who: str) -> None:
        # Those through the draws would be missing, those of the densities there: a wrong sum.
        if torch.is_grad_enabled() and not self.has_rsample:
            raise NotImplementedError(
                f"{who}: expected a base whose draws carry gradients, got "
                f"{type(self.base).__name__} (torch.no_grad() does without)"
            )

    def _decoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return run(self.bijection, z, inverse=True)
        except Exception as error:
            error.add_note(f"The noise's shape {self.noise_shape} comes from {self.told_by}.")
            raise

    def _event_shape(self) -> torch.Size:
        if self.noise_shape is None:
            return torch.Size()
        try:
            return torch.Size(self.bijection.shape(self.noise_shape, inverse=True))
        except ValueError as error:
            raise ValueError(
                f"Flow: expected noise that the bijection can take, got {self.noise_shape} from "
                f"{self.told_by}: {error}"
            ) from error

    def _known_shape(self) -> Shape:
        if self.noise_shape is None:
            raise ValueError(
                "Flow.sample: expected shape=(C, *S) of a sample, since neither the base nor the "
                "condition tells it"
            )
        return self.noise_shape

    def _base(self, shape: Shape) -> Distribution:
        """Of batch shape (B,), 1 without a condition."""
        if self.noise is None or self.unchanged is None:
            assert isinstance(self.base, StandardNormal)
            return self.base(self._rows(), shape)
        self.unchanged.require("GivenFlow", self.base)
        return self.noise if self.noise.batch_shape else self.noise.expand(torch.Size((1,)))

    def _rows(self) -> int:
        return 1 if self.batch is None else self.batch

    def _passes(self, rows: int, elements: int) -> Iterator[slice]:
        """Slices of `rows`, whole batches of conditions at a time, of some ELEMENTS each; one if
        there are no rows."""
        batch = max(1, self._rows())
        step = max(1, ELEMENTS // max(1, elements * batch)) * batch
        for start in range(0, max(1, rows), step):
            yield slice(start, min(start + step, rows))
