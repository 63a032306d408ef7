"""Sequences given a number: waves of any phase at the frequency that is asked for.

Half of the channels leave early, as noise given the other half (`split`). The condition is a vector
and holds at every time, so one flow serves any length: trained on 64 samples, drawn at 64 and 160.

python examples/waves.py --out waves.png
"""

import math
from argparse import ArgumentParser
from functools import partial

import matplotlib.pyplot as plt
import torch

import flowkit
from flowkit import ActNorm, Chain, ConvNet, Coupling, Flow, Inverse, InvertibleLinear, Squeeze


def waves(count, length):
    """Noisy waves (count, 1, length) of random phase, and their frequencies (count, 1), periods in
    64 samples."""
    frequency, phase = 1 + 3 * torch.rand(count, 1), torch.rand(count, 1) * 2 * math.pi
    x = (2 * math.pi * frequency * torch.arange(length) / 64 + phase).sin()
    return (x + 0.05 * torch.randn_like(x))[:, None], frequency


net = partial(ConvNet, hidden=32, axes=1)


def steps(channels, number=4):
    """Glow steps that see the condition, a vector of one."""

    def step():
        coupling = Coupling(channels, net, cond_channels=1)
        return ActNorm(channels), InvertibleLinear(channels), coupling

    return Chain(*(layer for _ in range(number) for layer in step()))


inner = Chain(Squeeze(), steps(8), Inverse(Squeeze()))
prior = Coupling(8, net, kept=4, cond_channels=1)
flow = Flow(Chain(Squeeze(8), steps(8), flowkit.split(4, inner, prior)))

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="waves.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=400)
arguments = parser.parse_args()

torch.manual_seed(0)
flowkit.initialize(flow, *waves(64, 64))
optimizer = torch.optim.Adam(flow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, arguments.steps)
for step in range(arguments.steps):
    loss = -flow.log_prob(*waves(64, 64)).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(flow.parameters(), 50)
    optimizer.step()
    schedule.step()
    if step % 50 == 0 or step == arguments.steps - 1:
        print(f"step {step}: {loss.item():.1f} nats")

frequency = torch.tensor([[1.0], [2.0], [3.0]])
figure, axes = plt.subplots(3, 2, figsize=(9, 5), layout="constrained", sharex="col", sharey=True)
for column, length in enumerate((64, 160)):
    with torch.no_grad():
        samples = flow.sample(frequency, num_samples=2, shape=(1, length), temperature=0.8)
    print(f"samples {tuple(samples.shape)}")
    for row, axis in enumerate(axes[:, column]):
        axis.plot(samples[:, row, 0].T)
        axis.set_title(f"frequency {frequency[row].item():.0f}, length {length}")
figure.savefig(arguments.out, dpi=80)
