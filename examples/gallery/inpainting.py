"""The lower half of a garment, given the upper half: many answers, each whole.

Pixel by pixel, by a spline whose knots masked convolutions make of the pixels before. The condition
is a picture as large: the upper half, mirrored, so that what touches lies on top of one another,
and 15 numbers that are the same at every place (principal components): what kind of thing it is.

python examples/gallery/inpainting.py --out inpainting.jpg
"""

from argparse import ArgumentParser
from functools import partial

import matplotlib.pyplot as plt
import torch
from einops import rearrange, repeat
from fashion import pictures

from flowkit import (
    ActNorm,
    Autoregressive,
    Chain,
    Dequantized,
    Flow,
    MaskedConv,
    RationalQuadraticSpline,
    StandardNormal,
    fit,
)

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="inpainting.jpg", help="where the picture goes")
parser.add_argument("--steps", type=int, default=600)
arguments = parser.parse_args()

torch.manual_seed(0)
upper, lower = (pictures("train", 10_000) // 16).split(14, dim=2)
new_upper, new_lower = (pictures("t10k", 500) // 16).split(14, dim=2)
middle = upper.flatten(1).mean(0)
axes = torch.pca_lowrank(upper.flatten(1), 15)[2]


def condition(upper):
    kind = (upper.flatten(1) - middle) @ axes / 50
    return torch.cat([upper.flip(2) / 8 - 1, repeat(kind, "b c -> b c 14 28")], dim=1)


net = partial(MaskedConv, hidden=32, depth=3, width=5)
layer = Autoregressive(1, net, RationalQuadraticSpline(), axes=2, cond_channels=16)
density = Dequantized(Flow(Chain(ActNorm(1), layer), StandardNormal((1, 14, 28))), levels=16)
fit(
    density,
    lower,
    condition(upper),
    steps=arguments.steps,
    batch=32,
    learning_rate=4e-3,
    anneal=True,
)

with torch.no_grad():
    bits = density.bits_per_dimension(new_lower, condition(new_upper)).mean().item()
    wrong = density.bits_per_dimension(new_lower, condition(new_upper.roll(1, 0))).mean().item()
print(f"new pictures: {bits:.2f} bits a pixel, given another's upper half {wrong:.2f}")

shown = new_upper[20:30]
drawn = density.sample(condition(shown), num_samples=4)
truth = torch.cat([shown, new_lower[20:30]], dim=2)[None]
rows = torch.cat([truth, torch.cat([shown.expand_as(drawn), drawn], dim=3)])
figure, panel = plt.subplots(figsize=(7.5, 4), layout="constrained")
panel.imshow(rearrange(rows, "n b 1 h w -> (n h) (b w)"), cmap="gray_r")
panel.set(xticks=[], yticks=14 + 28 * torch.arange(5), yticklabels=["truth", *4 * ["drawn"]])
figure.savefig(arguments.out, dpi=80)
