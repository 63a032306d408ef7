"""Angles: a density on the torus, of two torsions of a chain molecule.

A spline that maps the circle onto itself, uniform noise, and a net that sees an angle by its cosine
and sine: then there is no seam, neither in what is drawn nor in what is decided.
Rezende et al., Normalizing flows on tori and spheres, 2020, arXiv:2002.02428.

python examples/gallery/circular.py --out circular.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, VonMises

from flowkit import MLP, BoxUniform, Chain, CircularSpline, Coupling, Flip, Flow, fit

MIDDLE = torch.tensor([[-1.1, -0.8], [-2.4, 2.9], [-1.3, 2.4], [1.0, 0.8]])
TIGHT = torch.tensor([[8.0, 8.0], [5.0, 5.0], [8.0, 6.0], [12.0, 12.0]])
truth = MixtureSameFamily(
    Categorical(torch.tensor([0.4, 0.3, 0.2, 0.1])), Independent(VonMises(MIDDLE, TIGHT), 1)
)


class OfAngles(nn.Module):
    """A net of angles, the same after a whole turn."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.net = MLP(2 * c_in, c_out)

    def forward(self, x):
        return self.net(torch.cat([x.cos(), x.sin()], dim=1))


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="circular.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=600)
arguments = parser.parse_args()

torch.manual_seed(0)
layers = [layer for _ in range(4) for layer in (Coupling(2, OfAngles, CircularSpline()), Flip())]
flow = Flow(Chain(*layers), BoxUniform(-math.pi, math.pi, shape=2))
fit(flow, truth.sample((20_000,)), steps=arguments.steps, learning_rate=5e-3, anneal=True)

x = truth.sample((5_000,))
edge = torch.stack([torch.full((100,), math.pi), torch.linspace(-3, 3, 100)], dim=1)
with torch.no_grad():
    divergence = (truth.log_prob(x) - flow.log_prob(x)).mean().item()
    seam = (flow.log_prob(edge) - flow.log_prob(edge * torch.tensor([-1, 1]))).abs().max().item()
print(f"KL from the true density: {divergence:.3f} nats")
print(f"largest step of the log-density over the seam: {seam:.1e}")

axis = torch.linspace(-math.pi, math.pi, 150)
grid = torch.cartesian_prod(axis, axis)
figure, panels = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
for panel, density, name in zip(panels, (truth, flow), ("truth", "flow"), strict=True):
    with torch.no_grad():
        value = density.log_prob(grid).exp().reshape(150, 150).T
    panel.pcolormesh(axis, axis, value.sqrt(), cmap="Blues")
    panel.set(title=name, xlabel="φ", ylabel="ψ", aspect="equal")
figure.savefig(arguments.out, dpi=80)
