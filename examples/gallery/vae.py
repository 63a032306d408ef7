"""A variational autoencoder of digits whose posterior is a flow, and what that is worth.

With two latent numbers the evidence is an integral over a grid, so that what the ELBO lacks of it,
KL(q ‖ posterior), is known. A flow given the encoder's features comes closer than the usual normal
distribution. Kingma et al., Improved variational inference with IAF, 2016, arXiv:1606.04934.

python examples/gallery/vae.py --out vae.png
"""

import math
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Bernoulli, Normal

from flowkit import Chain, ConditionalNormal, Flow, fit, flows

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="vae.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=1000)
arguments = parser.parse_args()

torch.manual_seed(0)
ink = torch.tensor(load_digits().data, dtype=torch.float32)[torch.randperm(1797)] > 8
train, new = ink[:1597].float(), ink[1597:].float()


class Autoencoder(nn.Module):
    def __init__(self, posterior):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 16), nn.SiLU())
        self.decoder = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 64))
        self.posterior = posterior

    def log_joint(self, x, z):
        """log p(x | z) + log p(z) of x (B, 64), z (B, 2)."""
        log_prob = Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1)
        return log_prob + Normal(0.0, 1.0).log_prob(z).sum(-1)

    def forward(self, x, cond=None):
        """The ELBO of x (B, 64), a lower bound of log p(x)."""
        z, log_q = self.posterior.rsample_and_log_prob(self.encoder(x))
        return self.log_joint(x, z) - log_q


axis = torch.linspace(-4, 4, 81)
grid = torch.cartesian_prod(axis, axis)
bijections = {"normal": Chain(), "flow": flows.realnvp(2, cond=16, steps=3, hidden=32).bijection}
gaps, densities = {}, []
for name, bijection in bijections.items():
    posterior = Flow(bijection, ConditionalNormal(nn.Linear, 2, cond_channels=16))
    model = Autoencoder(posterior)
    options = {"learning_rate": 5e-3, "anneal": True, "validation": 0, "initialized": True}
    fit(model, train, steps=arguments.steps, batch=128, **options)
    with torch.no_grad():
        joint = model.log_joint(new[:, None], grid)
        evidence = joint.logsumexp(1) + 2 * math.log(0.1)
        elbo = torch.stack([model(new) for _ in range(50)]).mean(0)
        q = posterior.given(model.encoder(new[:3])).log_prob(grid[:, None].expand(-1, 3, 2))
    gaps[name] = (evidence - elbo).mean().item()
    densities += [(joint[:3].exp(), "posterior"), (q.T.exp(), f"q, {name}")]
    print(f"{name}: evidence {evidence.mean():.2f}, ELBO {elbo.mean():.2f}, KL {gaps[name]:.3f}")

figure, panels = plt.subplots(3, 4, figsize=(9, 6.6), layout="constrained")
for column, (density, title) in zip(panels.T, densities, strict=True):
    column[0].set_title(title)
    for panel, values in zip(column, density, strict=True):
        panel.pcolormesh(axis, axis, values.reshape(81, 81).T.sqrt(), cmap="Blues")
        panel.set(aspect="equal", xticks=[], yticks=[])
figure.savefig(arguments.out, dpi=80)
