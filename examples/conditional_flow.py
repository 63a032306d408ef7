"""A conditional flow on images: discs seen in the dark, without their colors.

Each disc is orange or blue, and both are equally bright, so what is seen can't tell which: every
sample decides for itself. Trained on pictures of 16×16, sampled at 16×16 and at 32×48.

python examples/conditional_flow.py --out conditional_flow.png
"""

from argparse import ArgumentParser
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import avg_pool2d

import flowkit
from flowkit import ActNorm, At, Chain, ConvNet, Coupling, Flow, InvertibleLinear, Squeeze


def level(key, channels, steps=4):
    """Halve the resolution, then `steps` Glow steps that see cond[key]."""

    def step():
        coupling = Coupling(channels, partial(ConvNet, hidden=32), cond_channels=1)
        return ActNorm(channels), InvertibleLinear(channels), coupling

    return Chain(Squeeze(), At(key, Chain(*(layer for _ in range(steps) for layer in step()))))


flow = Flow(Chain(level("half", 12), level("quarter", 48)))


def pictures(count, height, width):
    """Pictures (count, 3, height, width), and what is seen of them in the dark: a noisy eighth of
    their brightness (count, 1, height, width)."""
    bright = torch.full((count, 3, height, width), 0.15)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    colors = torch.tensor([[0.95, 0.5, 0.05], [0.15, 0.5, 0.85]])
    for _ in range(height * width // 128):
        y, x, radius = torch.rand(3, count, 1, 1) * torch.tensor([height, width, 3.0]).view(
            3, 1, 1, 1
        )
        disc = (rows - y) ** 2 + (columns - x) ** 2 < (2 + radius) ** 2
        color = colors[torch.randint(2, (count,))][:, :, None, None]
        bright = torch.where(disc[:, None], color, bright)
    dark = bright.mean(1, keepdim=True) / 8
    return bright + 0.04 * torch.randn_like(bright), dark + 0.005 * torch.randn_like(dark)


def condition(dark):
    """What each level sees: the dark picture at its resolution, brought to the order of 1."""
    seen = 40 * dark - 1.5
    return {"half": avg_pool2d(seen, 2), "quarter": avg_pool2d(seen, 4)}


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="conditional_flow.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=400)
arguments = parser.parse_args()

torch.manual_seed(0)
bright, dark = pictures(64, 16, 16)
flowkit.initialize(flow, bright, condition(dark))
optimizer = torch.optim.Adam(flow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, arguments.steps)
for step in range(arguments.steps):
    bright, dark = pictures(64, 16, 16)
    loss = -flow.log_prob(bright, condition(dark)).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(flow.parameters(), 50)
    optimizer.step()
    schedule.step()
    if step % 50 == 0 or step == arguments.steps - 1:
        print(f"step {step}: {loss.item():.0f} nats")

figure, axes = plt.subplots(4, 5, figsize=(9, 6), layout="constrained")
folded = flow.fold()
for row, (height, width) in zip((0, 2), ((16, 16), (32, 48)), strict=True):
    bright, dark = pictures(2, height, width)
    samples = folded.sample(
        condition(dark), num_samples=3, shape=(3, height, width), temperature=0.7
    )
    print(f"samples {tuple(samples.shape)}")
    for column, images in enumerate([3 * dark.expand_as(bright), *samples, bright]):
        for image, axis in zip(images, axes[row : row + 2, column], strict=True):
            axis.imshow(image.clamp(0, 1).permute(1, 2, 0))
            axis.axis("off")
for axis, title in zip(axes[0], ("seen (×3)", *["sample"] * 3, "truth"), strict=True):
    axis.set_title(title)
figure.savefig(arguments.out, dpi=80)
