"""A conditional density on a table: three columns given four others, in flowkit, zuko and nflows.

python table.py --out table.png
"""

from functools import partial

import nflows.distributions
import nflows.flows
import nflows.transforms
import torch
import zuko
from comparison import Trained, compare

import flowkit
from flowkit import MADE, ActNorm, Autoregressive, Chain, Flip, Flow, RationalQuadraticSpline

FOUR = torch.tensor([[0.5, -1.0, 0.3, 0.0]])


def table(count):
    """Columns whose spread, skewness and peaks depend on four others, and on one another."""
    given = torch.randn(count, 4)
    a = given[:, 0] + (0.3 + given[:, 1].abs()) * torch.randn(count)
    b = torch.where(torch.rand(count) < given[:, 2].sigmoid(), 2.0, -2.0) + 0.3 * torch.randn(count)
    c = (a * b / 4).tanh() + given[:, 3] + 0.2 * torch.randn(count).exp()
    return torch.stack([a, b, c], dim=1), given


def of_flowkit():
    made, spline = partial(MADE, hidden=64, depth=2), RationalQuadraticSpline(8)

    def step():
        return ActNorm(3), Autoregressive(3, made, spline, cond_channels=4), Flip()

    flow = Flow(Chain(*(layer for _ in range(3) for layer in step())))

    def sample(count):
        return flow.sample(FOUR, num_samples=count, shape=(3,))[:, 0]

    return Trained(flow, flow.log_prob, sample, partial(flowkit.initialize, flow))


def of_zuko():
    flow = zuko.flows.NSF(3, 4, transforms=3, hidden_features=(64, 64), bins=8)

    def sample(count):
        return flow(FOUR[0]).sample((count,))

    return Trained(flow, lambda x, given: flow(given).log_prob(x), sample)


def of_nflows():
    transforms = []
    for _ in range(3):
        transforms += [
            nflows.transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                3, 64, context_features=4, num_bins=8, tails="linear", tail_bound=5.0, num_blocks=1
            ),
            nflows.transforms.ReversePermutation(3),
        ]
    transform = nflows.transforms.CompositeTransform(transforms)
    flow = nflows.flows.Flow(transform, nflows.distributions.StandardNormal([3]))
    return Trained(flow, flow.log_prob, lambda count: flow.sample(count, FOUR)[0])


BUILDS = {"flowkit": of_flowkit, "zuko": of_zuko, "nflows": of_nflows}


def show(axis, columns):
    axis.scatter(columns[:, 0], columns[:, 1], c=columns[:, 2], s=1)
    axis.set(xlim=(-4, 4), ylim=(-4, 4))


if __name__ == "__main__":
    compare(__doc__, BUILDS, table, show, steps=600, batch=256, rate=3e-3)
