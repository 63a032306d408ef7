"""Sequences of any length, and what comes next: a population that booms, and sometimes crashes.

One autoregressive layer of masked convolutions: trained on 32 years, it holds for 128. What it
makes of the past is known noise, so a forecast decodes that, with new noise behind it.

python examples/gallery/sequences.py --out sequences.png
"""

from argparse import ArgumentParser
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from flowkit import ActNorm, Autoregressive, Chain, Flow, MaskedConv, RationalQuadraticSpline, fit


def next_year(x):
    """p(x' | x) of the population's logarithm: Ricker's map, noise, a crash once in ten years."""
    middle = torch.stack([x + 2.3 * (1 - x.exp()), x + 2.3 * (1 - x.exp()) - 1], dim=-1)
    chance = torch.tensor([0.9, 0.1]).expand_as(middle)
    return MixtureSameFamily(Categorical(chance), Normal(middle, 0.15))


def populations(count, years):
    x = [torch.zeros(count)]
    for _ in range(years):
        x.append(next_year(x[-1]).sample().clamp(-6))
    return torch.stack(x[1:], dim=1)[:, None]


def true_log_prob(x):
    before = torch.cat([torch.zeros_like(x[..., :1]), x[..., :-1]], dim=-1)
    return next_year(before).log_prob(x).sum((1, 2))


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="sequences.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=600)
arguments = parser.parse_args()

torch.manual_seed(0)
net = partial(MaskedConv, hidden=32, depth=2, width=3)
layer = Autoregressive(1, net, RationalQuadraticSpline(bins=16, bound=6), axes=1)
flow = Flow(Chain(ActNorm(1), layer))
fit(flow, populations(8_000, 32), steps=arguments.steps, batch=64, learning_rate=5e-3, anneal=True)

x = populations(500, 128)
with torch.no_grad():
    lacking = ((true_log_prob(x) - flow.log_prob(x)).mean() / 128).item()
print(f"KL from the true process: {lacking:.3f} nats a year, over 128 years")

past, future = x[:1, :, :40], 12
with torch.no_grad():
    known = flow.encode(past)[0].expand(500, -1, -1)
    forecast = flow.decode(torch.cat([known, torch.randn(500, 1, future)], dim=2))[0]
low, high = forecast[:, 0, 40:].quantile(torch.tensor([0.1, 0.9]), dim=0)
figure, panel = plt.subplots(figsize=(9, 3), layout="constrained")
before, after = torch.arange(40), torch.arange(40, 40 + future)
panel.plot(before, past[0, 0], color="black", label="past")
panel.fill_between(after, low, high, alpha=0.3, label="80 % of forecasts")
panel.plot(after, forecast[:3, 0, 40:].T, color="darkorange", linewidth=0.8)
panel.plot(after, x[0, 0, 40 : 40 + future], "k:", label="what came")
panel.set(xlabel="year", ylabel="log population", ylim=(-3.2, 1.2))
panel.legend(loc="lower left", ncols=3)
figure.savefig(arguments.out, dpi=80)
