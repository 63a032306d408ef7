"""Three densities in the plane in one flow: which one, a label says.

The label goes in one-hot. Points come from densities whose entropy is known, so that how much the
flow lacks is known too; and by Bayes' rule the flow tells which shape a point is of.

python examples/gallery/labels.py --out labels.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import one_hot

from flowkit import fit, flows


def on_circle(angle):
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def points(label):
    """A point (N, 2) for each label: 0 a ring, 1 eight spots, 2 a frame of constant density."""
    turn, noise = 2 * math.pi * torch.rand(len(label)), torch.randn(len(label), 2)
    ring = (2 + 0.2 * noise[:, :1]) * on_circle(turn)
    spots = 2 * on_circle((turn * 4 / math.pi).floor() * math.pi / 4) + 0.2 * noise
    side = turn.div(math.pi / 2).floor()[:, None] * math.pi / 2
    along, across = 3 * torch.rand(len(label), 1) - 2, 1 + torch.rand(len(label), 1)
    frame = across * on_circle(side[:, 0]) + along * on_circle(side[:, 0] + math.pi / 2)
    return torch.stack([ring, spots, frame], dim=1)[torch.arange(len(label)), label]


GAUSSIAN = 0.5 * math.log(2 * math.pi * math.e * 0.2**2)
RADIUS = (2 + 0.2 * torch.randn(100_000)).log().mean().item()
ENTROPY = torch.tensor(
    [GAUSSIAN + math.log(2 * math.pi) + RADIUS, math.log(8) + 2 * GAUSSIAN, math.log(12)]
)

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="labels.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=1000)
arguments = parser.parse_args()

torch.manual_seed(0)
flow = flows.nsf(2, cond=3, steps=4)
label = torch.randint(3, (30_000,))
x, cond = points(label), one_hot(label, 3).float()
fit(flow, x, cond, steps=arguments.steps, learning_rate=5e-3, anneal=True)

label = torch.randint(3, (6_000,))
x, every = points(label), torch.eye(3)
with torch.no_grad():
    log_prob = torch.stack([flow.log_prob(x, one.expand(len(x), 3)) for one in every], dim=1)
lacking = torch.stack([-log_prob[label == k, k].mean() for k in range(3)]) - ENTROPY
accuracy = (log_prob.argmax(1) == label).float().mean().item()
print("nats above the entropy:", *(f"{value:.3f}" for value in lacking.tolist()))
print(f"told by Bayes' rule which shape a point is of: {accuracy:.3f}")

axis = torch.linspace(-3, 3, 150)
grid = torch.cartesian_prod(axis, axis)
figure, panels = plt.subplots(1, 3, figsize=(9, 3.1), layout="constrained")
for panel, one, name in zip(panels, every, ("ring", "spots", "frame"), strict=True):
    with torch.no_grad():
        density = flow.log_prob(grid, one.expand(len(grid), 3)).exp()
    panel.pcolormesh(axis, axis, density.reshape(150, 150).T, cmap="Blues")
    panel.set(title=name, aspect="equal")
figure.savefig(arguments.out, dpi=80)
