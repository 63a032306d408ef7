"""Digits given their class, as whole numbers of bits, in flowkit and normflows.

python digits.py --out digits.png
"""

from functools import partial

import normflows
import numpy as np
import torch
from comparison import Trained, compare
from PIL import Image, ImageDraw, ImageFont
from torch.nn.functional import one_hot

import flowkit
from flowkit import Dequantized
from flowkit.flows import glow

LEVELS = 32
CLASSES = torch.arange(10).repeat_interleave(5)


def digit(number, place, size, angle):
    """A picture (1, 16, 16) of whole numbers below 32."""
    image = Image.new("L", (64, 64))
    font = ImageFont.load_default(40 + 12 * size)
    ImageDraw.Draw(image).text(tuple(32 + 5 * place), f"{number}", 255, font, "mm")
    small = image.rotate(12 * angle, Image.Resampling.BILINEAR).resize((16, 16))
    return torch.from_numpy(np.array(small, dtype=np.int64) * LEVELS // 256)[None]


def digits(count):
    numbers, random = torch.randint(10, (count,)), 2 * torch.rand(count, 4) - 1
    drawn = [
        digit(int(number), row[:2].numpy(), row[2].item(), row[3].item())
        for number, row in zip(numbers, random, strict=True)
    ]
    return torch.stack(drawn), numbers


def of_flowkit():
    density = Dequantized(glow((1, 16, 16), 10, steps=5, hidden=32), LEVELS)

    def log_prob(x, numbers):
        return density.log_prob(x, one_hot(numbers, 10).float())

    def first(x, numbers):
        flowkit.initialize(density, x, one_hot(numbers, 10).float())

    sample = partial(density.sample, one_hot(CLASSES, 10).float())
    return Trained(density, log_prob, lambda _: sample(temperature=0.8), first)


def of_normflows():
    bases, flows = [], []
    for channels, shape in ((8, (8, 4, 4)), (4, (2, 8, 8))):
        blocks = [normflows.flows.GlowBlock(channels, 32) for _ in range(6)]
        flows.append([*blocks, normflows.flows.Squeeze()])
        bases.append(normflows.distributions.ClassCondDiagGaussian(shape, 10))
    flow = normflows.MultiscaleFlow(bases, flows, [normflows.flows.Merge()])

    def log_prob(x, numbers):
        value = (x + torch.rand(x.shape)) / LEVELS
        return flow.log_prob(value, numbers) - 256 * np.log(LEVELS)

    def sample(_):
        return (flow.sample(y=CLASSES, temperature=0.8)[0] * LEVELS).floor().clamp(0, LEVELS - 1)

    return Trained(flow, log_prob, sample)


BUILDS = {"flowkit": of_flowkit, "normflows": of_normflows}


def show(axis, pictures):
    rows = pictures[:50].reshape(10, 5, 16, 16).permute(1, 2, 0, 3)
    axis.imshow(rows.reshape(80, 160), cmap="gray", vmin=0, vmax=LEVELS - 1)
    axis.axis("off")


if __name__ == "__main__":
    compare(__doc__, BUILDS, digits, show, steps=400, batch=32, rate=2e-3)
