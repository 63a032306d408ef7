"""zuko's flow: autoregressive splines, which is how its NSF comes."""

from __future__ import annotations

import density
import zuko
from density import Density
from torch import Tensor


def spline(dims: int, cond: int) -> Density:
    flow = zuko.flows.NSF(
        dims,
        cond,
        bins=density.BINS,  # on ±5, which is zuko's own
        transforms=density.STEPS,
        hidden_features=(density.HIDDEN, density.HIDDEN),
    )

    def sample(cond: Tensor | None, count: int) -> Tensor:
        return flow(None if cond is None else cond[0]).sample((count,))

    return Density(flow, lambda x, cond: flow(cond).log_prob(x), sample)
