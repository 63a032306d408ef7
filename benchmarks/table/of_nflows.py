"""nflows' flow: spline couplings and LU linear maps in turn, as simulation-based inference has
used them, with a residual net; and its multi-scale composition as Glow."""

from __future__ import annotations

import density
import torch
from density import Density
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ResidualNet
from nflows.transforms import (
    ActNorm,
    AffineCouplingTransform,
    CompositeTransform,
    LULinear,
    MultiscaleCompositeTransform,
    OneByOneConvolution,
    PiecewiseRationalQuadraticCouplingTransform,
    SqueezeTransform,
)
from torch import Tensor, nn


def spline(dims: int, cond: int) -> Density:
    def net(c_in: int, c_out: int) -> ResidualNet:
        return ResidualNet(c_in, c_out, density.HIDDEN, context_features=cond or None, num_blocks=1)

    layers = []
    for step in range(density.STEPS):
        coupling = PiecewiseRationalQuadraticCouplingTransform(
            (torch.arange(dims) + step) % 2 if dims > 1 else [1],
            net,
            num_bins=density.BINS,
            tails="linear",
            tail_bound=density.BOUND,
        )
        layers += [coupling, LULinear(dims, identity_init=True)]
    flow = Flow(CompositeTransform(layers), StandardNormal([dims]))

    def sample(cond: Tensor | None, count: int) -> Tensor:
        drawn = flow.sample(count, cond)
        return drawn if cond is None else drawn[0]

    return Density(flow, flow.log_prob, sample)


class WithoutContext(nn.Module):
    """nflows hands its nets a context; Glow's takes none."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, context: object = None) -> Tensor:
        return self.net(x)


def glow(shape: tuple[int, int, int]) -> Density:
    channels, height, width = shape
    scales = MultiscaleCompositeTransform(density.LEVELS)
    for _ in range(density.LEVELS):
        channels, height, width = 4 * channels, height // 2, width // 2
        layers: list[nn.Module] = [SqueezeTransform()]
        for step in range(density.GLOW_STEPS):
            mask = (torch.arange(channels) + step) % 2
            coupling = AffineCouplingTransform(
                mask, lambda c_in, c_out: WithoutContext(density.glow_net(c_in, c_out))
            )
            layers += [ActNorm(channels), OneByOneConvolution(channels), coupling]
        hidden = scales.add_transform(CompositeTransform(layers), (channels, height, width))
        channels = hidden[0] if hidden else channels
    size = shape[0] * shape[1] * shape[2]
    flow = Flow(scales, StandardNormal([size]))
    return Density(flow, flow.log_prob, lambda cond, count: flow.sample(count))
