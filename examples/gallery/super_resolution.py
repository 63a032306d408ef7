"""Details for a coarse picture: natural patches, by wavelets.

`Haar` turns a picture into one at half its size and three kinds of detail that this lacks. A flow
of the details given the coarse draws sharp pictures of any size, though trained on patches; the
mean over draws is nearer to the truth than any of them.

python examples/gallery/super_resolution.py --out super_resolution.jpg
"""

from argparse import ArgumentParser
from functools import partial

import matplotlib.pyplot as plt
import skimage
import torch
from torch.distributions import Laplace
from torch.nn.functional import interpolate, mse_loss

from flowkit import ActNorm, Chain, ConvNet, Coupling, Flow, Haar, InvertibleLinear, fit
from flowkit import RationalQuadraticSpline as Spline


def grey(name):
    picture = skimage.color.rgb2gray(getattr(skimage.data, name)())
    return torch.as_tensor(picture, dtype=torch.float32)[None, None]


def bicubic(coarse):
    return interpolate(coarse, scale_factor=2, mode="bicubic")


def parts(picture):
    """Details (N, 3, H/2, W/2) beyond bicubic ones, and the coarse (N, 1, H/2, W/2)."""
    bands = Haar()(picture)[0]
    coarse = bands[:, :1] / 2
    return bands[:, 1:] - Haar()(bicubic(coarse))[0][:, 1:], coarse


def whole(details, coarse):
    bands = Haar()(bicubic(coarse))[0][:, 1:] + details
    return Haar().inverse(torch.cat([2 * coarse, bands], dim=1))[0]


def step():
    net = partial(ConvNet, hidden=32)
    return ActNorm(3), InvertibleLinear(3), Coupling(3, net, Spline(bound=8), cond_channels=1)


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="super_resolution.jpg", help="where the picture goes")
parser.add_argument("--steps", type=int, default=300)
arguments = parser.parse_args()

torch.manual_seed(0)
pictures = [grey(name) for name in ("astronaut", "coffee", "rocket")]
patches = [x.unfold(2, 24, 24).unfold(3, 24, 24).reshape(-1, 1, 24, 24) for x in pictures]
details, coarse = parts(torch.cat(patches))
flow = Flow(Chain(*(layer for _ in range(4) for layer in step())))
fit(flow, details, coarse, steps=arguments.steps, batch=48, learning_rate=3e-3, anneal=True)

truth = grey("chelsea")[..., 40:200, 100:340]
new_details, new_coarse = parts(truth)
laplace = Laplace(0.0, details.abs().mean((0, 2, 3), keepdim=True))
with torch.no_grad():
    gain = flow.log_prob(new_details, new_coarse) - laplace.log_prob(new_details).sum()
    draws = flow.sample(new_coarse, num_samples=32, shape=new_details.shape[1:])
gain = (gain / new_details.numel()).item()
mean = whole(draws.mean(0), new_coarse)
smooth = bicubic(new_coarse)
psnr = [-10 * mse_loss(x, truth).log10().item() for x in (smooth, mean)]
print(f"a new picture: {gain:.3f} nats a detail more than a Laplace distribution")
print(f"bicubic {psnr[0]:.2f} dB, mean of draws {psnr[1]:.2f} dB")

shown = {"coarse": new_coarse, "bicubic": smooth, "drawn": whole(draws[0], new_coarse)}
shown |= {"mean of 32": mean, "truth": truth}
figure, panels = plt.subplots(1, 5, figsize=(12, 1.9), layout="constrained")
for panel, (name, picture) in zip(panels, shown.items(), strict=True):
    panel.imshow(picture[0, 0].clamp(0, 1), cmap="gray", vmin=0, vmax=1)
    panel.set(title=name)
    panel.axis("off")
figure.savefig(arguments.out, dpi=80)
