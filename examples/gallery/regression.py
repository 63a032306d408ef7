"""Regression with the whole distribution of y: two branches, and noise that grows.

A flow of one number is its distribution function: Φ(z) is the share of y below the one that came.
Were the flow true, these shares would be uniform over new data, which is what calibration means.

python examples/gallery/regression.py --out regression.png
"""

from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from flowkit import fit, flows


def truth(x):
    """p(y | x) for x (N, 1): up by one branch with probability 0.7, down by the other."""
    branches = torch.cat([(2 * x).sin() + x, (2 * x).sin() - x], dim=1)
    spread = (0.1 + 0.15 * x).expand_as(branches)
    chance = torch.tensor([0.7, 0.3]).expand_as(branches)
    return MixtureSameFamily(Categorical(chance), Normal(branches, spread))


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="regression.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=800)
arguments = parser.parse_args()

torch.manual_seed(0)
flow = flows.nsf(1, cond=1, steps=2)
x = 3 * torch.rand(20_000, 1)
fit(flow, truth(x).sample()[:, None], x, steps=arguments.steps, learning_rate=5e-3, anneal=True)

x = 3 * torch.rand(5_000, 1)
y = truth(x).sample()[:, None]
with torch.no_grad():
    divergence = (truth(x).log_prob(y[:, 0]) - flow.log_prob(y, x)).mean().item()
    share = Normal(0.0, 1.0).cdf(flow.encode(y, x)[0][:, 0])
level = torch.linspace(0, 1, 101)
observed = (share[:, None] <= level).float().mean(0)
miscalibration = (observed - level).abs().max().item()
print(f"KL from the true density: {divergence:.3f} nats")
print(f"largest distance of the calibration curve from the diagonal: {miscalibration:.3f}")

horizontal, vertical = torch.linspace(0, 3, 120), torch.linspace(-5, 5, 160)
grid = torch.cartesian_prod(horizontal, vertical)
with torch.no_grad():
    density = flow.log_prob(grid[:, 1:], grid[:, :1]).exp().reshape(120, 160)
figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", width_ratios=(2, 1))
panels[0].pcolormesh(horizontal, vertical, density.T.sqrt(), cmap="Blues")
panels[0].scatter(x[:400], y[:400], s=2, color="darkorange")
panels[0].set(title="density of y given x, and new data", xlabel="x", ylabel="y")
panels[1].plot([0, 1], [0, 1], color="gray", linewidth=1)
panels[1].plot(level, observed, color="darkorange")
panels[1].set(title="calibration", xlabel="level", ylabel="share of new data below", aspect="equal")
figure.savefig(arguments.out, dpi=80)
