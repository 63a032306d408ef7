"""Russian roulette: an infinite series, estimated without bias by finitely many of its terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowkit.contract import require_at_least, require_real


@dataclass(frozen=True)
class RussianRoulette:
    """Estimates of log|det(1 + J)| = Σₖ (-1)ᵏ⁺¹/k·tr Jᵏ for the Jacobian J of a map g, ‖J‖ < 1:

        Σ_{k=1}^{N} (-1)ᵏ⁺¹/k · vᵀJᵏv / P(N ≥ k),  v ~ N(0, 1),  N = certain + geometric(stop)

    Each has the right expectation, and a variance that is finite if ‖J‖² < 1 - stop.

    Args:
        probes: how many estimates there are for each sample, at least 1.
        certain: terms that every estimate has.
        stop: probability to stop after any other term, between 0 and 1. An estimate has
            certain + 1/stop - 1 terms on average, each one more derivative of g.

    Chen et al., Residual flows for invertible generative modeling, 2019, arXiv:1906.02735, §3.1,
    eq. 6, and §3.2 for the terms that are certain.
    """

    probes: int = 1
    certain: int = 2
    stop: float = 0.15

    def __post_init__(self) -> None:
        require_at_least(self, "probes", self.probes, 1)
        require_at_least(self, "certain", self.certain, 0)
        require_real(self, stop=self.stop)
        if not 0 < self.stop < 1:
            raise ValueError(f"RussianRoulette: expected 0 < stop < 1, got {self.stop}")

    def __call__(self, g: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """(B, probes) estimates for x (B, C, *S), whose samples g doesn't mix. They take gradients
        to whatever g depends on, and random numbers from torch's own generator."""
        pull = torch.func.vjp(g, x)[1]  # pyright: ignore
        return torch.stack([self._estimate(pull, x) for _ in range(self.probes)], dim=1)

    def _estimate(self, pull: Callable[..., tuple[Tensor, ...]], x: Tensor) -> Tensor:
        v = torch.randn_like(x)
        further = torch.empty(()).geometric_(self.stop).long().item() - 1
        estimate, power = x.new_zeros(x.shape[0]), v
        for k in range(1, 1 + self.certain + int(further)):
            (power,) = pull(power)
            chance = (1 - self.stop) ** max(0, k - self.certain)
            estimate = estimate + (-1) ** (k + 1) / (k * chance) * (power * v).flatten(1).sum(1)
        return estimate
