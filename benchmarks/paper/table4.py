"""Does the likelihood tell noise from a change of brightness, where l1 can't? (Table 4)

python benchmarks/paper/table4.py --data LOL/our485 --split tiny440 --weights tiny440
"""

from __future__ import annotations

import argparse
import math
import sys

import experiment
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from llflow import data
from llflow.network.model import LLFlow
from llflow.picture import preprocess

CHANGE = 20 / 255  # mean absolute difference to the reference
PAPER = {
    "reference": {"nll": -6.09, "l1": None},
    "brightness reduced by 20": {"nll": -5.95, "l1": 20},
    "brightness increased by 20": {"nll": -6.15, "l1": 20},
    "noise, uniform": {"nll": 4.84, "l1": 20},
    "noise, gaussian": {"nll": 4.84, "l1": 20},
}


def degraded(bright: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
    """The reference and what Table 4 makes of it, by the names in `PAPER`; not clipped.

    The paper gives the noise's mean, 0, and mean absolute value, 20 of 255, and leaves its
    distribution open: here U(-40, 40), and a Gaussian of σ = 20·√(π/2) = 25.07.

    Args:
        bright: (3, H, W) in [0, 1].
        rng: decides the noise.
    """
    uniform = rng.uniform(-2, 2, bright.shape)
    gaussian = rng.standard_normal(bright.shape) * math.sqrt(math.pi / 2)
    differences = [0.0, -1.0, 1.0, *(torch.from_numpy(x).float() for x in (uniform, gaussian))]
    return {
        name: bright + CHANGE * difference
        for name, difference in zip(PAPER, differences, strict=True)
    }


@torch.no_grad()
def measure(
    model: LLFlow, pair: data.Pair, *, seed: int, clip: bool
) -> dict[str, dict[str, float]]:
    """By degradation, "nll" in bits per pixel and "l1" in steps of 8 bits.

    Args:
        model: its own color map is the prior's mean.
        pair: its name and `seed` decide the noise.
        seed: see `pair`.
        clip: cut off what leaves [0, 1].

    Raises:
        ArithmeticError: a likelihood isn't finite.
    """
    dark, equalized, bright = experiment.in_unit_range(pair)
    low = experiment.network_input(model, dark, equalized)
    cond = model.condition(low)
    measured = {}
    rng = np.random.default_rng([seed, *pair.name.encode()])
    for name, picture in degraded(bright, rng).items():
        picture = picture.clamp(0, 1) if clip else picture
        nll = model.nll(preprocess.pad(picture)[None].to(low), low, cond=cond).item()
        if not math.isfinite(nll):
            raise ArithmeticError(f"{pair.name}: the likelihood of '{name}' isn't finite")
        measured[name] = {"nll": nll, "l1": 255 * (picture - bright).abs().mean().item()}
    return measured


def run(args: argparse.Namespace) -> None:
    files = experiment.pictures(args)
    model = experiment.load(args, args.weights)
    measured = {
        pair.name: measure(model, data.read_pair(pair), seed=args.seed, clip=args.clip)
        for pair in tqdm(files, desc="likelihoods", unit="picture")
    }
    nll, l1 = (
        {name: [of[name][key] for of in measured.values()] for name in PAPER}
        for key in ("nll", "l1")
    )
    ours = {name: {"nll": np.mean(nll[name]), "l1": np.mean(l1[name])} for name in PAPER}
    titles = [
        f"mean of {len(files)} pictures",
        "NLL, bits/pixel",
        "bits/dimension",
        "l1, of 255",
        "paper: NLL",
        "paper: l1",
    ]
    rows = [
        [
            name,
            f"{ours[name]['nll']:.2f}",
            f"{ours[name]['nll'] / 3:.2f}",
            f"{ours[name]['l1']:.2f}",
            f"{paper['nll']:.2f}",
            "" if paper["l1"] is None else f"{paper['l1']}",
        ]
        for name, paper in PAPER.items()
    ]
    *_, darker, brighter, uniform, gaussian = nll.values()
    worst = np.maximum(darker, brighter)
    told = {
        name: int(np.sum(values > worst))
        for name, values in (("uniform", uniform), ("gaussian", gaussian))
    }
    table = experiment.markdown([titles, *rows]) + (
        "\n\nNoise is less likely than either change of brightness on "
        f"{told['uniform']} (uniform) and {told['gaussian']} (gaussian) of {len(files)} pictures."
    )
    experiment.keep(
        args,
        "table4",
        table,
        _plot(nll),
        figures=ours | {"noise less likely than both": told},
        paper=PAPER,
        pictures=measured,
        data=experiment.of_pictures(files),
        weights=experiment.of_weights(args.weights),
    )


def _plot(nll: dict[str, list[float]]) -> experiment.Figure:
    plot = experiment.Figure(figsize=(8, 3.5), layout="constrained")
    axes = plot.subplots()
    per_dimension = [np.array(values) / 3 for values in nll.values()]
    axes.boxplot(per_dimension, orientation="horizontal", tick_labels=list(nll))
    axes.plot(
        [paper["nll"] for paper in PAPER.values()],
        range(1, len(PAPER) + 1),
        "x",
        color="tab:red",
        label="paper, mean (unit not stated)",
    )
    axes.invert_yaxis()
    axes.set_xlabel("negative log-likelihood, bits per dimension")
    axes.legend()
    return plot


def main(argv: list[str] | None = None) -> int:
    parser = experiment.parser(
        "table4",
        "Negative log-likelihood and l1 of references, of references with another brightness, and "
        "of noisy references, given the dark pictures.",
        "--data LOL/our485 --split tiny440 --weights tiny440",
    )
    experiment.add_weights(parser)
    parser.add_argument(
        "--clip",
        action="store_true",
        help="cut off what leaves [0, 1], as a file would; l1 falls below 20 then",
    )
    return experiment.main(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
