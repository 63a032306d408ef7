"""A density of points in the plane: two moons, by spline couplings.

The same layers as on images; only the net is one for vectors.

python examples/two_moons.py --out two_moons.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch

import flowkit
from flowkit import (
    MLP,
    Chain,
    Coupling,
    Flip,
    Flow,
    RationalQuadraticSpline,
    StandardNormal,
)


def moons(count):
    """Points (count, 2) on two half circles that reach into one another, blurred by 0.1."""
    angle, second = torch.rand(count) * math.pi, torch.randint(2, (count,)).bool()
    x = torch.where(second, 1 - angle.cos(), angle.cos())
    y = torch.where(second, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], dim=1) + 0.1 * torch.randn(count, 2)


def step():
    return flowkit.ActNorm(2), Coupling(2, MLP, RationalQuadraticSpline()), Flip()


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="two_moons.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=800)
arguments = parser.parse_args()

torch.manual_seed(0)
flow = Flow(Chain(*(layer for _ in range(4) for layer in step())), StandardNormal(2))
flowkit.initialize(flow, moons(1024))
optimizer = torch.optim.Adam(flow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, arguments.steps)
for step_number in range(arguments.steps):
    loss = -flow.log_prob(moons(256)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step_number % 100 == 0 or step_number == arguments.steps - 1:
        print(f"step {step_number}: {loss.item():.3f} nats")

horizontal, vertical = torch.linspace(-1.5, 2.5, 160), torch.linspace(-1, 1.5, 100)
grid = torch.cartesian_prod(horizontal, vertical)
with torch.no_grad():
    density = flow.log_prob(grid).exp()
    samples = flow.sample(num_samples=2000)
area = (horizontal[1] - horizontal[0]) * (vertical[1] - vertical[0])
print(f"the density sums to {(density.sum() * area).item():.3f} in this window")

figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained", sharex=True, sharey=True)
axes[0].scatter(*moons(2000).T, s=1)
axes[1].scatter(*samples.T, s=1)
axes[2].pcolormesh(horizontal, vertical, density.reshape(160, 100).T)
for axis, title in zip(axes, ("data", "samples", "density"), strict=True):
    axis.set_title(title)
    axis.set_aspect("equal")
figure.savefig(arguments.out, dpi=80)
