"""A density in the plane that a number bends: curves of Lissajous, given the phase.

The phase is an angle, so the flow gets its cosine and sine. The true density is a mixture that can
be worked out, so that the distance to it is known.

python examples/gallery/continuous.py --out continuous.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch

from flowkit import fit, flows

NOISE = 0.08


def curve(time, phase):
    return torch.stack([(2 * time + phase).sin(), time.sin() + 0 * phase], dim=-1)


def true_log_prob(x, phase):
    """Of x (N, 2): noise about every place of the curve, by 1,000 of them."""
    places = curve(torch.arange(1000) * 2 * math.pi / 1000, phase[:, None])
    square = ((x[:, None] - places) ** 2).sum(-1)
    each = -square / (2 * NOISE**2) - math.log(2 * math.pi * NOISE**2)
    return each.logsumexp(1) - math.log(1000)


def pairs(count):
    time, phase = 2 * math.pi * torch.rand(2, count)
    return curve(time, phase) + NOISE * torch.randn(count, 2), phase


def condition(phase):
    return torch.stack([phase.cos(), phase.sin()], dim=1)


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="continuous.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=1000)
arguments = parser.parse_args()

torch.manual_seed(0)
flow = flows.nsf(2, cond=2, steps=5)
x, phase = pairs(50_000)
fit(flow, x, condition(phase), steps=arguments.steps, learning_rate=5e-3, anneal=True)

x, phase = pairs(4_000)
with torch.no_grad():
    divergence = (true_log_prob(x, phase) - flow.log_prob(x, condition(phase))).mean().item()
print(f"KL from the true density: {divergence:.3f} nats")

axis = torch.linspace(-1.4, 1.4, 150)
grid = torch.cartesian_prod(axis, axis)
figure, panels = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
for panel, degrees in zip(panels, (0, 30, 60, 90), strict=True):
    phase = torch.full((len(grid),), math.radians(degrees))
    with torch.no_grad():
        density = flow.log_prob(grid, condition(phase)).exp()
    panel.pcolormesh(axis, axis, density.reshape(150, 150).T, cmap="Blues")
    panel.set(title=f"phase {degrees}°", aspect="equal")
figure.savefig(arguments.out, dpi=80)
