"""Mixture of Gaussians: a base with several hills."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from flowkit.conditions import batch_of
from flowkit.contract import Cond, Shape, require_at_least, require_real, wide
from flowkit.density.base import require_noise_shape
from flowkit.ops.coupling.scale import ExpScale, Scale, scale_and_log


class MixtureOfGaussians(nn.Module):
    """p(z) = Σ πₖ·N(z; μₖ, diag sₖ²),  k = 1 … K, with learned π, μ, s; the same for every
    condition.

    The means start at random, `spread` apart from 0 on average, so that the components come to
    differ; all weights start alike and all deviations at 1. Samples carry no gradient, so that
    `rsample_and_log_prob` is refused. A temperature draws all of z nearer to the mixture's mean;
    `noise=`, which a mixture can't take, is refused.

    Args:
        shape: (C, *S) of the noise, or C alone.
        components: K.
        spread: standard deviation of the means at first.
        scale: from raw numbers to (s, log s), bounded away from 0 and ∞.

    Raises:
        ValueError: the shape isn't one, components < 1, or spread isn't at least 0.

    Izmailov et al., Semi-supervised learning with normalizing flows, 2020, arXiv:1912.13025, eq. 3.

    >>> import torch
    >>> from flowkit import Chain, Flip, Flow
    >>> Flow(Flip(), MixtureOfGaussians((2,), 5)).sample(num_samples=7).shape
    torch.Size([7, 2])
    """

    conditional = False

    def __init__(
        self,
        shape: int | Shape,
        components: int = 8,
        *,
        spread: float = 1.0,
        scale: Scale = ExpScale(5.0),
    ) -> None:
        super().__init__()
        require_at_least(self, "components", components, 1)
        require_real(self, spread=spread)
        if not 0 <= spread < float("inf"):
            raise ValueError(f"MixtureOfGaussians: expected spread >= 0, got {spread}")
        self.fixed = require_noise_shape(self, shape)
        self.scale = scale
        self.weights = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(spread * torch.randn(components, *self.fixed))
        self.scales = nn.Parameter(torch.zeros(components, *self.fixed))

    def forward(self, cond: Cond = None) -> MixtureSameFamily:
        """Batch shape (B,) for a condition of B samples, () without; event shape (C, *S)."""
        weights, means, scales = map(wide, (self.weights, self.means, self.scales))
        std: Tensor = scale_and_log(self.scale, scales)[0]
        hills = Independent(Normal(means, std, validate_args=False), len(self.fixed))
        mixture = MixtureSameFamily(
            Categorical(logits=weights, validate_args=False), hills, validate_args=False
        )
        return mixture if cond is None else mixture.expand((batch_of("Flow", cond),))

    def extra_repr(self) -> str:
        return f"{self.fixed}, components={len(self.weights)}, scale={self.scale}"
