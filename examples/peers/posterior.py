"""A posterior by its ELBO: eight schools, ten numbers, in flowkit and zuko.

python posterior.py --out posterior.png
"""

from functools import partial

import torch
import zuko
from comparison import Trained, compare
from torch.distributions import Cauchy, HalfCauchy, Normal

from flowkit import (
    MADE,
    Affine,
    Autoregressive,
    Chain,
    Flip,
    Flow,
    Inverse,
    SoftplusScale,
    StandardNormal,
)

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def log_joint(x):
    """Of (mean/10, log spread, standardised effects) and the data: Rubin, Estimation in parallel
    randomized experiments, 1981."""
    mean, log_spread, effects = 10 * x[:, :1], x[:, 1:2], x[:, 2:]
    spread = log_spread.exp()
    prior = Cauchy(0.0, 5.0).log_prob(mean) + HalfCauchy(5.0).log_prob(spread) + log_spread
    schools = Normal(mean + spread * effects, ERROR).log_prob(EFFECT)
    return prior[:, 0] + Normal(0.0, 1.0).log_prob(effects).sum(1) + schools.sum(1)


def nothing(count):
    """There is no data, only the number of samples that a step draws."""
    return (torch.zeros(count, 10),)


def of_flowkit():
    made, affine = partial(MADE, hidden=64), Affine(SoftplusScale())
    layers = [layer for _ in range(3) for layer in (Autoregressive(10, made, affine), Flip())]
    flow = Flow(Inverse(Chain(*layers)), StandardNormal(10))

    def elbo(like):
        x, log_prob = flow.rsample_and_log_prob(num_samples=len(like))
        return log_joint(x) - log_prob

    return Trained(flow, elbo, lambda count: flow.sample(num_samples=count))


def of_zuko():
    flow = zuko.flows.MAF(10, transforms=3, hidden_features=(64, 64))
    inverse = zuko.flows.Flow(
        [zuko.lazy.LazyInverse(transform) for transform in flow.transform.transforms], flow.base
    )

    def elbo(like):
        x, log_prob = inverse().rsample_and_log_prob((len(like),))
        return log_joint(x) - log_prob

    return Trained(inverse, elbo, lambda count: inverse().sample((count,)))


BUILDS = {"flowkit": of_flowkit, "zuko": of_zuko}


def show(axis, x):
    axis.scatter(10 * x[:, 0], x[:, 1], s=1)
    axis.set(xlabel="mean effect", ylabel="log spread", xlim=(-15, 30), ylim=(-4, 5))


if __name__ == "__main__":
    compare(__doc__, BUILDS, nothing, show, steps=600, batch=128, rate=3e-3)
