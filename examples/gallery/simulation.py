"""Inference from simulations alone: two moons of parameters, given what was observed.

The simulator can draw, but tells no likelihood. A flow of parameters given observations, trained on
10,000 draws, is the posterior for any observation. This one is known, so a classifier can try to
tell its draws from the flow's: 0.5 is a coin's success (C2ST). Lueckmann et al., Benchmarking
simulation-based inference, 2021, arXiv:2101.04653, T.8.

python examples/gallery/simulation.py --out simulation.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier

from flowkit import fit, flows


def crescent(count):
    angle, radius = math.pi * (torch.rand(count) - 0.5), 0.1 + 0.01 * torch.randn(count)
    return torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], dim=1)


def simulate(theta):
    first, second = -theta.sum(1).abs(), theta[:, 1] - theta[:, 0]
    return crescent(len(theta)) + torch.stack([first, second], dim=1) / math.sqrt(2)


def posterior(x, count):
    """The simulator turned round: x less a crescent is either of two turns of θ, uniform before."""
    first, second = (x - crescent(2 * count)).T
    first = torch.where(torch.rand(2 * count) < 0.5, first, -first)
    theta = torch.stack([-first - second, -first + second], dim=1) / math.sqrt(2)
    return theta[theta.abs().max(1).values < 1][:count]


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="simulation.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=800)
parser.add_argument("--draws", type=int, default=1000, help="of each posterior, for the C2ST")
arguments = parser.parse_args()

torch.manual_seed(0)
theta = 2 * torch.rand(10_000, 2) - 1
x = simulate(theta)
flow = flows.nsf(2, cond=2, steps=5)
fit(flow, theta, x, steps=arguments.steps, learning_rate=4e-3, anneal=True)

observed = torch.zeros(1, 2)
with torch.no_grad():
    ours = flow.sample(observed, num_samples=arguments.draws)[:, 0]
truth = posterior(observed, len(ours))
both = torch.cat([truth, ours])
both = (both - truth.mean(0)) / truth.std(0)
which = torch.arange(len(both)) >= len(truth)
classifier = MLPClassifier((20, 20), tol=1e-3, random_state=0)
c2st = cross_val_score(classifier, both, which, cv=5).mean()
print(f"C2ST between the flow's draws and the posterior's: {c2st:.3f}")

figure, panels = plt.subplots(
    1, 2, figsize=(7, 3.6), layout="constrained", sharex=True, sharey=True
)
for panel, draws, name in zip(panels, (truth, ours), ("posterior", "flow"), strict=True):
    panel.scatter(*draws.T, s=2)
    panel.set(title=name, xlabel="θ₁", ylabel="θ₂", aspect="equal")
figure.savefig(arguments.out, dpi=80)
