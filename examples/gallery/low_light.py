"""LLFlow in forty lines, from flowkit's parts: dark pictures made bright.

An encoder makes features for both levels and for where the noise has its middle; the flow says how
bright pictures are spread, and at temperature 0 gives the image of that middle. Wang et al.,
Low-light image enhancement with normalizing flow, 2022, arXiv:2109.05923; in full it is llflow.

python examples/gallery/low_light.py --out low_light.jpg
"""

from argparse import ArgumentParser
from functools import partial

import matplotlib.pyplot as plt
import skimage
import torch
from torch import nn
from torch.nn.functional import mse_loss, pixel_unshuffle

from flowkit import (
    ActNorm,
    At,
    Chain,
    ConditionalNormal,
    ConvNet,
    Coupling,
    Flow,
    InvertibleLinear,
    Squeeze,
    initialize,
)


def darkened(bright):
    """Four stops darker in linear light, with a sensor's noise."""
    light = bright**2.2 / 16
    return (light + 0.004 * torch.randn_like(light)).clamp(1e-4) ** (1 / 2.2)


class Encoder(nn.Module):
    """The condition: features of the dark picture, brought to half and a quarter of its size."""

    def __init__(self):
        super().__init__()
        conv = partial(nn.Conv2d, kernel_size=3, padding=1)
        self.body = nn.Sequential(conv(3, 32), nn.SiLU(), conv(32, 32), nn.SiLU(), conv(32, 6))

    def forward(self, dark):
        features = self.body(5 * dark - 1)
        return {"half": pixel_unshuffle(features, 2), "quarter": pixel_unshuffle(features, 4)}


def level(key, channels, cond_channels, steps=4):
    def step():
        coupling = Coupling(channels, partial(ConvNet, hidden=32), cond_channels=cond_channels)
        return ActNorm(channels), InvertibleLinear(channels), coupling

    return Chain(Squeeze(), At(key, Chain(*(layer for _ in range(steps) for layer in step()))))


conv = partial(nn.Conv2d, kernel_size=1)
base = ConditionalNormal(conv, 48, cond_channels=96, key="quarter")
flow = Flow(Chain(level("half", 12, 24), level("quarter", 48, 96)), base)
encoder = Encoder()

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="low_light.jpg", help="where the picture goes")
parser.add_argument("--steps", type=int, default=700)
arguments = parser.parse_args()

torch.manual_seed(0)
pictures = [getattr(skimage.data, name)()[..., :3] for name in ("astronaut", "coffee", "rocket")]
pictures = [torch.tensor(x).permute(2, 0, 1)[None] / 255 for x in pictures]
patches = [x.unfold(2, 24, 12).unfold(3, 24, 12).flatten(2, 3) for x in pictures]
patches = torch.cat(patches, dim=2)[0].movedim(1, 0)

with torch.no_grad():
    some = patches[torch.randint(len(patches), (64,))]
    initialize(flow, some, encoder(darkened(some)))
learned = [*encoder.parameters(), *flow.parameters()]
optimizer = torch.optim.Adam(learned)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, arguments.steps)
for _ in range(arguments.steps):
    bright = patches[torch.randint(len(patches), (16,))][:, torch.randperm(3)]
    loss = -flow.log_prob(bright, encoder(darkened(bright))).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(learned, 100)
    optimizer.step()
    schedule.step()

truth = torch.tensor(skimage.data.chelsea()).permute(2, 0, 1)[None, :, 40:200, 100:340] / 255
dark = darkened(truth)
with torch.no_grad():
    bright = flow.fold().sample(encoder(dark), shape=truth.shape[1:], temperature=0).clamp(0, 1)
gained = (dark * truth.mean() / dark.mean()).clamp(0, 1)
psnr = [-10 * mse_loss(x, truth).log10().item() for x in (gained, bright)]
print(f"gain alone, to the true brightness, {psnr[0]:.2f} dB, the flow {psnr[1]:.2f} dB")

shown = {"dark": dark, "gain alone": gained, "flow": bright, "truth": truth}
figure, panels = plt.subplots(1, 4, figsize=(11, 2.1), layout="constrained")
for panel, (name, picture) in zip(panels, shown.items(), strict=True):
    panel.imshow(picture[0].permute(1, 2, 0))
    panel.set(title=name)
    panel.axis("off")
figure.savefig(arguments.out, dpi=80)
