"""A bijection and a base distribution: a density over images, given a condition."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, TransformedDistribution

from flowkit.bijection import Bijection, Cond, frozen
from flowkit.transform import BijectionTransform


def image_normal(mean: Tensor, std: Tensor | float = 1.0) -> Independent:
    """N(mean, std²) over images: independent per element, one event per (C, H, W).

    Args:
        mean: (B, C, H, W).
        std: broadcastable to it, positive.
    """
    return Independent(Normal(mean, std, validate_args=False), 3, validate_args=False)


class Flow(nn.Module):
    """log p(x | c) = log p_base(z | c) + log|det dz/dx|  with z = bijection(x, c).

    Args:
        bijection: data -> noise.
        base: cond -> distribution of the noise, with batch shape (B,) and event shape (C, H, W); a
            function or a module. `image_normal` makes the usual one. Without a condition the
            batch shape may be (1,).

    Rezende & Mohamed, Variational inference with normalizing flows, 2015, arXiv:1505.05770, eq. 5.

    >>> from flowkit import AffineCoupling, ConvNet
    >>> coupling = AffineCoupling(3, ConvNet, cond_channels=1)
    >>> flow = Flow(coupling, lambda cond: image_normal(cond.expand(-1, 3, -1, -1)))
    >>> cond = torch.zeros(2, 1, 8, 8)
    >>> flow.log_prob(torch.rand(2, 3, 8, 8), cond).shape
    torch.Size([2])
    >>> flow.sample(cond, num_samples=5).shape
    torch.Size([5, 2, 3, 8, 8])
    """

    def __init__(self, bijection: Bijection, base: Callable[[Cond], Distribution]) -> None:
        super().__init__()
        if not callable(base):
            raise TypeError(
                f"Flow: expected base to be a function of the condition, got {type(base).__name__}"
            )
        self.bijection = bijection
        self.base = base

    def forward(self, x: Tensor, cond: Cond = None) -> Tensor:
        """`log_prob`, as the call that DistributedDataParallel wraps."""
        return self.log_prob(x, cond)

    def log_prob(self, x: Tensor, cond: Cond = None) -> Tensor:
        """Log-density of each image, in nats.

        Args:
            x: (B, C, H, W).
            cond: the condition of these images.

        Returns:
            (B,).

        Raises:
            ValueError: the base has another shape than the noise.
        """
        z, logdet = self.bijection(x, cond)
        base = self.base(cond)
        batch_shapes = [z.shape[:1], (1,)] if cond is None else [z.shape[:1]]
        if base.event_shape != z.shape[1:] or base.batch_shape not in batch_shapes:
            raise ValueError(
                f"Flow: expected a base of batch shape ({len(x)},) and event shape "
                f"{tuple(z.shape[1:])}, got {tuple(base.batch_shape)} and {tuple(base.event_shape)}"
            )
        return base.log_prob(z) + logdet

    def sample(
        self, cond: Cond = None, *, temperature: float = 1.0, num_samples: int | None = None
    ) -> Tensor:
        """Images drawn given the condition; gradients flow through where the base allows it.

        Args:
            cond: the condition of a batch of B.
            temperature: τ >= 0 in z = mean + τ·(sample - mean). 1 draws from the model, 0 gives the
                image of the base's mean.
            num_samples: how many for each condition; what depends on the condition alone is
                computed once for all of them. None: one.

        Returns:
            (B, C, H, W), or (num_samples, B, C, H, W) if a number is given.

        Raises:
            ValueError: temperature isn't a number >= 0, or num_samples < 1.
            NotImplementedError: the base has no mean, and temperature isn't 1.
        """
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"Flow.sample: expected temperature >= 0, got {temperature}")
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"Flow.sample: expected num_samples >= 1, got {num_samples}")
        shape = torch.Size(() if num_samples is None else (num_samples,))
        base = self.base(cond)
        if temperature == 0:
            noise = base.mean.expand(shape + base.mean.shape)
        else:
            noise = base.rsample(shape) if base.has_rsample else base.sample(shape)
            if temperature != 1:  # a base without a mean can still be drawn from as it is
                noise = base.mean + temperature * (noise - base.mean)
        images = self._transform(cond)(noise)
        assert isinstance(images, Tensor)
        return images

    def given(self, cond: Cond = None) -> TransformedDistribution:
        """p(x | cond) as a torch distribution; the work that depends on the condition alone is done
        here, once, and reused by every `sample` and `log_prob` of the result."""
        return TransformedDistribution(
            self.base(cond), [self._transform(cond)], validate_args=False
        )

    def _transform(self, cond: Cond) -> BijectionTransform:
        prepared = None if cond is None else self.bijection.prepare(cond)
        return BijectionTransform(self.bijection, prepared)

    def fold(self) -> Flow:
        """The same density as a frozen copy, cheap for inference, see `Bijection.fold`."""
        base = frozen(self.base) if isinstance(self.base, nn.Module) else self.base
        return Flow(self.bijection.fold(), base)
