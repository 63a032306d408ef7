"""What is unlike the training pictures? Not what has a low density: the pitfall, and a way round.

A flow of garments finds small digits *more* likely than garments, because they are simple. What a
general compressor needs for a picture says how simple it is; the difference tells them apart.
Nalisnick et al., 2019, arXiv:1810.09136; Serrà et al., 2020, arXiv:1909.11480.

python examples/gallery/anomaly.py --out anomaly.png
"""

import io
from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from fashion import pictures
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch.nn.functional import interpolate, pad

from flowkit import Dequantized, fit, flows


def compressed(x):
    """Bits a pixel of each picture (N, 1, 16, 16) as a lossless WebP file."""
    sizes = []
    for picture in x[:, 0].to(torch.uint8).numpy():
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "WebP", lossless=True)
        sizes.append(8 * file.tell() / picture.size)
    return torch.tensor(sizes)


parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="anomaly.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=250)
arguments = parser.parse_args()

torch.manual_seed(0)
density = Dequantized(flows.glow((1, 16, 16), steps=4, hidden=32))
train = pictures("train", 10_000, size=16)
fit(density, train, steps=arguments.steps, batch=64, learning_rate=3e-3, anneal=True)

garments = pictures("t10k", 500, size=16)
digits = torch.tensor(load_digits().images[:500], dtype=torch.float32)[:, None]
digits = pad((interpolate(digits, size=(10, 10), mode="bilinear") * 15.9).floor(), (3, 3, 3, 3))
both = torch.cat([garments, digits])
odd = torch.arange(1000) >= 500
with torch.no_grad():
    bits = density.bits_per_dimension(both)
excess = bits - compressed(both)
by_density, corrected = (roc_auc_score(odd, score) for score in (bits, excess))
print(f"bits a pixel: garments {bits[:500].mean():.2f}, digits {bits[500:].mean():.2f}")
print(f"digits told, AUC: by density {by_density:.3f}, less the compressor's bits {corrected:.3f}")

figure, panels = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for panel, score, name in zip(panels, (bits, excess), ("flow", "flow less WebP"), strict=True):
    parts, names = [score[~odd], score[odd]], ["garments", "digits"]
    panel.hist(parts, 40, histtype="stepfilled", alpha=0.6, label=names)
    panel.set(title=f"{name}, bits a pixel")
panels[0].legend()
figure.savefig(arguments.out, dpi=80)
