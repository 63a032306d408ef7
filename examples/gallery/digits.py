"""Handwritten digits given their class, as whole numbers of bits; and which class a digit is of.

Pixels are whole numbers, which a flow alone would give infinite density: `Dequantized` bounds their
probability. By Bayes' rule the same flow is a classifier.

python examples/gallery/digits.py --out digits.png
"""

from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from einops import rearrange
from sklearn.datasets import load_digits
from torch.nn.functional import one_hot, pad

from flowkit import Dequantized, fit, flows

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="digits.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=500)
arguments = parser.parse_args()

torch.manual_seed(0)
table = load_digits()
pixels, label = torch.tensor(table.images)[:, None], torch.tensor(table.target)
train, new = torch.randperm(len(pixels)).split([1497, 300])

density = Dequantized(flows.glow((1, 8, 8), cond=10, steps=4, hidden=32), levels=17)
classes = one_hot(label, 10).float()
fit(
    density,
    pixels[train],
    classes[train],
    steps=arguments.steps,
    batch=64,
    learning_rate=3e-3,
    anneal=True,
)

with torch.no_grad():
    bits = density.bits_per_dimension(pixels[new], classes[new]).mean().item()
    log_prob = [density.log_prob(pixels[new], one.expand(300, 10)) for one in torch.eye(10)]
accuracy = (torch.stack(log_prob).argmax(0) == label[new]).float().mean().item()
print(f"new digits: {bits:.3f} bits a pixel, uniform {torch.tensor(17).log2().item():.3f}")
print(f"told by Bayes' rule which digit it is: {accuracy:.3f}")

drawn = pad(density.sample(torch.eye(10), num_samples=5, temperature=0.7), (1, 1, 1, 1))
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
axes.imshow(rearrange(drawn, "n c 1 h w -> (n h) (c w)"), cmap="gray_r")
axes.set(
    xticks=4.5 + 10 * torch.arange(10), xticklabels=range(10), yticks=[], title="drawn, by class"
)
figure.savefig(arguments.out, dpi=80)
