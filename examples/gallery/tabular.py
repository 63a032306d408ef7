"""The density of a table: ten measures of 569 biopsies, skewed and bound to one another.

A spline flow is compared, on rows that it hasn't seen, with a normal distribution of every
covariance. `Standardize` keeps the table's own units, which are far apart, as fixed numbers.

python examples/gallery/tabular.py --out tabular.png
"""

from argparse import ArgumentParser

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_breast_cancer

from flowkit import Chain, Flow, Standardize, fit, flows

parser = ArgumentParser(description=__doc__)
parser.add_argument("--out", default="tabular.png", help="where the picture goes")
parser.add_argument("--steps", type=int, default=500)
arguments = parser.parse_args()

torch.manual_seed(0)
table = load_breast_cancer()
rows = torch.as_tensor(table.data[:, :10], dtype=torch.float32)
train, new = rows[torch.randperm(len(rows))].split([426, 143])

spline = flows.nsf(10, steps=3, hidden=32, bins=5)
flow = Flow(Chain(Standardize.from_data(train), *spline.bijection), spline.base)
fit(
    flow,
    train,
    steps=arguments.steps,
    batch=64,
    learning_rate=3e-3,
    anneal=True,
    patience=None,
)

normal = torch.distributions.MultivariateNormal(train.mean(0), train.T.cov())
with torch.no_grad():
    gain = flow.log_prob(new) - normal.log_prob(new)
    drawn = flow.sample(num_samples=len(rows))
error = gain.std() / len(new) ** 0.5
gain = gain.mean().item()
print(f"new rows: {gain:.2f} ± {error:.2f} nats more than a normal distribution")

shown = (0, 3), (0, 2), (5, 6), (6, 7)
figure, panels = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained")
for panel, (a, b) in zip(panels, shown, strict=True):
    panel.scatter(rows[:, a], rows[:, b], s=3, label="table")
    panel.scatter(drawn[:, a], drawn[:, b], s=3, label="flow")
    panel.set(xlabel=table.feature_names[a], ylabel=table.feature_names[b])
panels[0].legend()
figure.savefig(arguments.out, dpi=80)
