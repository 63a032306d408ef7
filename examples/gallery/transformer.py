"""Garments by class, drawn by a transformer flow of a quarter of a million parameters.

Patches of 4×4 are tokens; a causal transformer maps each given those before. Training sees noisy
pictures, and `denoise` takes the noise out of what is drawn; some of them without their class, so
that `guided` can make more of it. Zhai et al., TarFlow, 2024, arXiv:2412.06329.

python examples/gallery/transformer.py --out transformer.png
"""

import gzip
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from einops import rearrange
from fashion import FOLDER, pictures
from torch.nn.functional import one_hot

from flowkit import denoise, dropped, fit, flows, guided

NOISE = 0.1

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="transformer.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=200)
arguments = parser.parse_args()

torch.manual_seed(0)
x = pictures("train", 20_000, size=16) / 127.5 - 1
with gzip.open(FOLDER / "train-labels-idx1-ubyte.gz") as file:
    label = torch.frombuffer(bytearray(file.read(8 + len(x))[8:]), dtype=torch.uint8)
classes = one_hot(label.long(), 10).float()

flow = flows.tarflow((1, 16, 16), cond=10, steps=4, hidden=48, depth=2, heads=4)
print(f"{sum(p.numel() for p in flow.parameters()):,} parameters")
noisy = x + NOISE * torch.randn_like(x)
fit(
    flow,
    noisy,
    dropped(classes, 0.1),
    validation=0.02,
    steps=arguments.steps,
    batch=64,
    learning_rate=3e-3,
    anneal=True,
)

with torch.no_grad():
    own, wrong = (flow.log_prob(noisy[:500], classes[:500].roll(k, 0)).mean() for k in (0, 1))
gained = (own - wrong).item() / 256
print(f"nats a pixel gained by the class: {gained:.4f}")

every = torch.eye(10)
rows = []
for weight in (0.0, 1.0):
    drawn = guided(flow, weight)
    with torch.no_grad():
        sample = drawn.sample(every.repeat(2, 1))
    rows += [sample, denoise(flow, sample, NOISE, every.repeat(2, 1))]
figure, axes = plt.subplots(figsize=(7.5, 6.2), layout="constrained")
axes.imshow(rearrange(torch.cat(rows), "(n c) 1 h w -> (n h) (c w)", c=10), cmap="gray_r")
names = ["drawn", "denoised", "guided", "guided, denoised"]
axes.set(xticks=[], yticks=16 + 32 * torch.arange(4), yticklabels=names)
figure.savefig(arguments.out, dpi=80)
