"""A posterior from its density alone: eight schools, ten numbers, by the ELBO.

An inverse autoregressive flow draws and tells the density of its draws in one pass. Given mean and
spread the effects are normal, so two integrals over a grid give the evidence exactly: the ELBO is
that less KL(q ‖ posterior). Rubin, Estimation in parallel randomized experiments, 1981.

python examples/gallery/variational.py --out variational.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal

from flowkit import fit_reverse, flows

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def log_prior(mean, log_spread):
    """N(0, 10) for the mean, N(1, 1) for the logarithm of the spread."""
    return Normal(0.0, 10.0).log_prob(mean) + Normal(1.0, 1.0).log_prob(log_spread)


def log_joint(x):
    """Of (mean/10, log spread, eight effects in spreads from the mean) and the data."""
    mean, log_spread, z = 10 * x[:, 0], x[:, 1], x[:, 2:]
    effects = mean[:, None] + log_spread.exp()[:, None] * z
    schools = Normal(0.0, 1.0).log_prob(z) + Normal(effects, ERROR).log_prob(EFFECT)
    return log_prior(mean, log_spread) + math.log(10) + schools.sum(1)


mean, log_spread = torch.linspace(-50, 50, 1001)[:, None], torch.linspace(-5, 7, 601)
spread = (log_spread.exp()[None, :, None] ** 2 + ERROR**2).sqrt()
exact = log_prior(mean, log_spread) + Normal(mean[..., None], spread).log_prob(EFFECT).sum(-1)
evidence = (exact.flatten().logsumexp(0) + math.log(0.1 * 0.02)).item()

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="variational.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=800)
arguments = parser.parse_args()

torch.manual_seed(0)
flow = flows.iaf(10, steps=3)
fit_reverse(flow, log_joint, steps=arguments.steps, learning_rate=5e-3, anneal=True)

with torch.no_grad():
    x, log_q = flow.rsample_and_log_prob(num_samples=20_000)
weight = log_joint(x) - log_q
elbo, estimate = weight.mean().item(), (weight.logsumexp(0) - math.log(len(x))).item()
print(f"evidence {evidence:.3f}, ELBO {elbo:.3f}, by importance weights {estimate:.3f}")

figure, panels = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for panel, draws, name, grid, log_density in (
    (panels[0], 10 * x[:, 0], "mean effect", mean[:, 0], exact.logsumexp(1)),
    (panels[1], x[:, 1], "log spread", log_spread, exact.logsumexp(0)),
):
    density = log_density.softmax(0) / (grid[1] - grid[0])
    panel.hist(draws, 80, density=True, color="lightsteelblue", label="flow")
    panel.plot(grid, density, color="darkorange", label="exact")
    panel.set(xlabel=name, xlim=(draws.min(), draws.max()))
panels[0].legend()
figure.savefig(arguments.out, dpi=80)
