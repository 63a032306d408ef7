"""normflows' flow: spline couplings and LU linear maps with a permutation in turn, with a
residual net; and its Glow."""

from __future__ import annotations

import density
import normflows
from density import Density
from torch import Tensor


def spline(dims: int, cond: int) -> Density:
    layers = []
    for _ in range(density.STEPS):
        coupling = normflows.flows.CoupledRationalQuadraticSpline(
            dims,
            1,
            density.HIDDEN,
            num_context_channels=cond or None,
            num_bins=density.BINS,
            tail_bound=density.BOUND,
            reverse_mask=dims == 1,  # of one number the other half is none
        )
        layers += [coupling, normflows.flows.LULinearPermute(dims)]
    base = normflows.distributions.DiagGaussian(dims, trainable=False)
    if not cond:
        alone = normflows.NormalizingFlow(base, layers)
        return Density(
            alone, lambda x, cond: alone.log_prob(x), lambda cond, count: alone.sample(count)[0]
        )
    flow = normflows.ConditionalNormalizingFlow(base, layers)

    def sample(cond: Tensor | None, count: int) -> Tensor:
        assert cond is not None
        return flow.sample(count, context=cond.expand(count, -1))[0]

    return Density(flow, lambda x, cond: flow.log_prob(x, context=cond), sample)


def glow(shape: tuple[int, int, int]) -> Density:
    channels, height, width = shape
    bases, levels = [], []
    for level in range(density.LEVELS):
        channels, height, width = 4 * channels, height // 2, width // 2
        blocks = [
            normflows.flows.GlowBlock(channels, density.HIDDEN) for _ in range(density.GLOW_STEPS)
        ]
        levels.insert(0, [*blocks, normflows.flows.Squeeze()])
        if level < density.LEVELS - 1:
            channels //= 2
        bases.insert(0, normflows.distributions.GlowBase((channels, height, width)))
    merges = [normflows.flows.Merge() for _ in range(density.LEVELS - 1)]
    flow = normflows.MultiscaleFlow(bases, levels, merges)

    def log_prob(x: Tensor, cond: Tensor | None) -> Tensor:
        value = flow.log_prob(x, None)
        assert isinstance(value, Tensor)
        return value

    return Density(flow, log_prob, lambda cond, count: flow.sample(count)[0])
