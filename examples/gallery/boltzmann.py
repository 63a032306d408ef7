"""A Boltzmann distribution from its energy alone: four double wells, turned in eight dimensions.

The flow learns by the reverse KL, from its own draws; importance weights then mend what it lacks.
How many draws those are worth is the effective sample size, and their mean is the partition
function, which is known here. Noé et al., Boltzmann generators, 2019, arXiv:1812.01729.

python examples/gallery/boltzmann.py --out boltzmann.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch

from flowkit import fit_reverse, flows

torch.manual_seed(0)
TURN = torch.linalg.qr(torch.randn(8, 8)).Q


def well(x):
    """-U of one double well, whose second place is lower."""
    return -(x**4) + 4 * x**2 + 0.5 * x


def log_density(x):
    """-U(x) of x (N, 8): four wells and four harmonics, in turned coordinates."""
    x = x @ TURN
    return well(x[:, :4]).sum(1) - (x[:, 4:] ** 2 / 2).sum(1)


grid = torch.linspace(-4, 4, 4001)
log_z = 4 * (well(grid).logsumexp(0) + math.log(8 / 4000)) + 2 * math.log(2 * math.pi)

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="boltzmann.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=600)
arguments = parser.parse_args()

flow = flows.nsf(8, steps=6)
steps = arguments.steps
fit_reverse(flow, log_density, steps=steps, learning_rate=3e-3, anneal=True, warm_up=0.6)

with torch.no_grad():
    x, log_q = flow.rsample_and_log_prob(num_samples=20_000)
weight = log_density(x) - log_q
estimate = (weight.logsumexp(0) - math.log(len(x))).item()
share = weight.softmax(0)
effective = (1 / (share**2).sum() / len(x)).item()
print(f"log Z {log_z:.3f}, by importance weights {estimate:.3f}")
print(f"effective sample size: {100 * effective:.0f} % of the draws")

figure, panels = plt.subplots(1, 4, figsize=(11, 2.6), layout="constrained", sharey=True)
for panel, place in zip(panels, (x @ TURN)[:, :4].T, strict=True):
    panel.hist(place, 80, density=True, color="lightsteelblue", label="flow")
    panel.hist(place, 80, weights=share, density=True, histtype="step", label="reweighted")
    panel.plot(grid, well(grid).softmax(0) / 0.002, color="darkorange", label="exact")
    panel.set(xlabel="place in a well", xlim=(-2.5, 2.5))
panels[0].legend(fontsize="small")
figure.savefig(arguments.out, dpi=80)
