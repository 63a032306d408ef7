"""What maps made of several logistic curves share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.contract import require_at_least, require_real
from flowkit.elementwise.numerical import bisected, refined


class Logistics(NamedTuple):
    """y = (1 - ε)·logit(Σ wₖ·σ(aₖ·x + bₖ)) + ε·x, with aₖ > 0 and Σ wₖ = 1.

    The first part alone is flat between curves that lie apart, too flat to be inverted; ε sees to a
    slope of at least ε. It is at most the largest of aₖ and 1. log wₖ, aₖ and bₖ are (B, K, n,
    *S).
    """

    log_weight: Tensor
    rate: Tensor
    offset: Tensor
    least: float

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx for x (B, n, *S)."""
        u, log_below, log_above = self._sides(x)
        # The derivatives of the two logarithms, both positive: nothing cancels, however far x is.
        slopes = log_below.softmax(1) * torch.sigmoid(-u) + log_above.softmax(1) * torch.sigmoid(u)
        slope = (self.rate * slopes).sum(1)
        return self._value(x), ((1 - self.least) * slope + self.least).log()

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dy for y (B, n, *S)."""
        # The mixture lies between its curves, so x lies between where they would reach y alone.
        share = 1 - self.least
        alone = (y[:, None] - share * self.offset) / (share * self.rate + self.least)
        x = bisected(self._value, y, alone.amin(1), alone.amax(1))
        return refined(self.forward, y, x)

    def _value(self, x: Tensor) -> Tensor:
        _, log_below, log_above = self._sides(x)
        logit = log_below.logsumexp(1) - log_above.logsumexp(1)
        return (1 - self.least) * logit + self.least * x

    def _sides(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """aₖ·x + bₖ, log wₖ·σ and log wₖ·(1 - σ) of it, (B, K, n, *S)."""
        u = self.rate * x[:, None] + self.offset
        return u, self.log_weight + F.logsigmoid(u), self.log_weight + F.logsigmoid(-u)


def apart(raw: Tensor, spread: float) -> Tensor:
    """raw (B, K, n, *S) with number k shifted to the k-th of K even places in (-spread, spread).

    Curves that start alike get the same gradients, and would stay alike.
    """
    count = raw.shape[1]
    places = torch.arange(1 - count, count, 2, dtype=raw.dtype, device=raw.device) / count
    return raw + spread * places.reshape(-1, *[1] * (raw.dim() - 2))


def require_curves(who: object, name: str, count: int, spread: float, least: float) -> None:
    """Raise unless there can be such curves, as many as the argument `name` says.

    Raises:
        TypeError: that isn't an integer.
        ValueError: there can't.
    """
    require_at_least(who, name, count, 1)
    require_real(who, spread=spread, least=least)
    if not spread >= 0 or not 0 < least < 1:
        raise ValueError(
            f"{type(who).__name__}: expected spread >= 0 and 0 < least < 1, got {spread} and "
            f"{least}"
        )
