"""Two moons by spline couplings, in flowkit, zuko, nflows and normflows.

python moons.py --out moons.png
"""

import math
from functools import partial

import nflows.distributions
import nflows.flows
import nflows.transforms
import normflows
import torch
import zuko
from comparison import Trained, compare
from nflows.nn.nets import ResidualNet

import flowkit
from flowkit import (
    MLP,
    ActNorm,
    Chain,
    Coupling,
    Flip,
    Flow,
    RationalQuadraticSpline,
    StandardNormal,
)


def moons(count):
    angle, second = torch.rand(count) * math.pi, torch.randint(2, (count,)).bool()
    x = torch.where(second, 1 - angle.cos(), angle.cos())
    y = torch.where(second, 0.5 - angle.sin(), angle.sin())
    return (torch.stack([x, y], dim=1) + 0.1 * torch.randn(count, 2),)


def of_flowkit():
    def step():
        return ActNorm(2), Coupling(2, MLP, RationalQuadraticSpline(8)), Flip()

    flow = Flow(Chain(*(layer for _ in range(4) for layer in step())), StandardNormal(2))

    def sample(count):
        return flow.sample(num_samples=count)

    return Trained(flow, flow.log_prob, sample, partial(flowkit.initialize, flow))


def of_zuko():
    flow = zuko.flows.NSF(2, transforms=4, passes=2, hidden_features=(64, 64), bins=8)
    return Trained(flow, lambda x: flow().log_prob(x), lambda count: flow().sample((count,)))


def of_nflows():
    def step(k):
        return nflows.transforms.PiecewiseRationalQuadraticCouplingTransform(
            mask=[k % 2, 1 - k % 2],
            transform_net_create_fn=lambda a, b: ResidualNet(a, b, 64, num_blocks=1),
            num_bins=8,
            tails="linear",
            tail_bound=5.0,
        )

    transform = nflows.transforms.CompositeTransform([step(k) for k in range(4)])
    flow = nflows.flows.Flow(transform, nflows.distributions.StandardNormal([2]))
    return Trained(flow, flow.log_prob, flow.sample)


def of_normflows():
    layers = []
    for _ in range(4):
        layers += [normflows.flows.CoupledRationalQuadraticSpline(2, 1, 64, tail_bound=5)]
        layers += [normflows.flows.LULinearPermute(2)]
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(2), layers)
    return Trained(flow, flow.log_prob, lambda count: flow.sample(count)[0])


BUILDS = {
    "flowkit": of_flowkit,
    "zuko": of_zuko,
    "nflows": of_nflows,
    "normflows": of_normflows,
}


def show(axis, points):
    axis.scatter(*points.T, s=1)
    axis.set(xlim=(-1.6, 2.6), ylim=(-1.1, 1.6))


if __name__ == "__main__":
    compare(__doc__, BUILDS, moons, show, steps=600, batch=256, rate=5e-3)
