"""flowkit's flows, as its constructors have them."""

from __future__ import annotations

from functools import partial

import density
from density import Density
from torch import Tensor

import flowkit
from flowkit import Flow, flows


def spline(dims: int, cond: int) -> Density:
    """Couplings by splines, `flows.nsf`."""
    sizes = {"steps": density.STEPS, "hidden": density.HIDDEN}
    return _of(flows.nsf(dims, cond or None, bins=density.BINS, bound=density.BOUND, **sizes))


def glow(shape: tuple[int, int, int]) -> Density:
    return _of(
        flows.glow(shape, steps=density.GLOW_STEPS, hidden=density.HIDDEN, levels=density.LEVELS)
    )


def _of(flow: Flow) -> Density:
    def sample(cond: Tensor | None, count: int) -> Tensor:
        drawn = flow.sample(cond, num_samples=count)
        return drawn if cond is None else drawn[:, 0]

    return Density(flow, flow.log_prob, sample, partial(flowkit.initialize, flow))
