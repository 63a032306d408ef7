"""How often does `llflow score` put the cleaner of two pictures first?

python benchmarks/paper/ranking.py --data LOL/our485 --split tiny440
    --weights tiny440 --scenes scene_clusters.json
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import experiment
import numpy as np
import skimage.data
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from llflow import data, enhance, score, variants
from llflow.network.model import LLFlow

STRENGTHS = {
    "noise": [1, 2, 4, 8, 16],  # standard deviation, in levels of 8 bits
    "blur": [0.5, 1, 2, 4],  # standard deviation, in pixels
    "color cast": [2, 5, 10, 20],  # per cent more red and less blue
}
UNITS = {"noise": "/255", "blur": " px", "color cast": " %"}
MEASURES = ("bits", "typicality", "distance", "mismatch")
REFERENCES, PHOTOGRAPHS = "references", "photographs, darkened"
CLEAN, EQUALISED, ENHANCED = "clean", "histogram equalisation", "llflow enhance"
# Photographs of scikit-image's own, in color, of everyday things or of a night: public domain, CC0.
SHIPPED = Path(skimage.data.__file__).parent
FREE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg")


def degraded(bright: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
    """The clean picture (3, H, W) and what is made worse of it, by name; 8 bits, as in a file."""
    noise = torch.from_numpy(rng.standard_normal(bright.shape, dtype=np.float32))
    made = {CLEAN: bright}
    for strength in STRENGTHS["noise"]:
        made[named("noise", strength)] = bright + strength / 255 * noise
    for strength in STRENGTHS["blur"]:
        blurred = gaussian_filter(bright.numpy(), (0, strength, strength))
        made[named("blur", strength)] = torch.from_numpy(blurred)
    for strength in STRENGTHS["color cast"]:
        gains = torch.tensor([1 + strength / 100, 1, 1 - strength / 100])[:, None, None]
        made[named("color cast", strength)] = bright * gains
    return {name: (255 * x).round().clamp(0, 255) / 255 for name, x in made.items()}


def named(kind: str, strength: float) -> str:
    return f"{kind} {strength:g}{UNITS[kind]}"


def measure(
    model: LLFlow, dark: Tensor, equalized: Tensor, bright: Tensor, seed: int, name: str
) -> dict[str, dict[str, float]]:
    """By picture, then by measure, of which less is better; `name` and `seed` decide the noise.

    Bits and mismatch are `llflow.Score`'s. Typicality (Nalisnick et al., 2019, arXiv:1906.02994):
    how far the bits are from those of the model's own samples, of which there are two. Distance:
    how far the logarithm of `Score.distance` is from 0.
    """
    made = degraded(bright, np.random.default_rng([seed, *name.encode()]))
    made |= {EQUALISED: equalized, ENHANCED: enhance(model, dark)}
    own = [sample for (sample,) in variants(model, dark, samples=2, seed=seed)]
    *scores, one, other = score(model, dark, [*made.values(), *own])
    expected = (one.bits + other.bits) / 2
    return {
        what: {
            "bits": found.bits,
            "typicality": abs(found.bits - expected),
            "distance": abs(math.log(found.distance)),
            "mismatch": found.mismatch,
        }
        for what, found in zip(made, scores, strict=True)
    }


def comparisons() -> list[tuple[str, str, str]]:
    """(what is compared, the cleaner picture, the other)."""
    pairs = []
    for kind, strengths in STRENGTHS.items():
        names = [named(kind, strength) for strength in strengths]
        pairs += [(f"{name}, or clean", CLEAN, name) for name in names]
        pairs += [(f"{b}, or {a}", a, b) for a, b in pairwise(names)]
    pairs += [(f"{name}, or clean", CLEAN, name) for name in (EQUALISED, ENHANCED)]
    return [*pairs, (f"{EQUALISED}, or {ENHANCED}", ENHANCED, EQUALISED)]


def first(measured: Sequence[Mapping[str, Any]], cleaner: str, other: str, by: str) -> int:
    """On how many pictures the cleaner one is the first."""
    return sum(of[cleaner][by] < of[other][by] for of in measured)


def share(count: int, total: int) -> str:
    """In per cent, with Wilson's 95 % interval."""
    low, high = binomtest(count, total).proportion_ci(0.95, "wilson")
    return f"{100 * count / total:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def table(measured: Sequence[Mapping[str, Any]], source: str) -> list[list[str]]:
    rows = [[f"{len(measured)} {source}: the cleaner one is first, %", *MEASURES]]
    for title, cleaner, other in comparisons():
        counts = (first(measured, cleaner, other, by) for by in MEASURES)
        rows.append([title, *(share(count, len(measured)) for count in counts)])
    return rows


def photographs(folder: Path) -> list[data.Pair]:
    """The free photographs, and dark pictures made of them."""
    files = [data.PairFiles(name, folder / name, folder / name) for name in FREE]
    return [data.synthetic_pair(pair, 0) for pair in files]


def add_scenes(parser: experiment.Parser) -> None:
    parser.add_argument(
        "--scenes",
        type=experiment.path,
        metavar="JSON",
        help="pictures of one scene, of which the first is taken: "
        '{"clusters": [["1", "2"], ...]} as for llflow train',
    )


def one_of_each(files: Sequence[data.PairFiles], scenes: Path | None) -> list[data.PairFiles]:
    """The first picture of every scene: pictures of one scene would make intervals too narrow."""
    if scenes is None:
        return list(files)
    firsts: dict[tuple[str, str], data.PairFiles] = {}
    found = data.scenes_of(files, data.read_clusters(scenes))
    for scene, pair in zip(found, files, strict=True):
        firsts.setdefault(scene, pair)
    return list(firsts.values())


def run(args: argparse.Namespace) -> None:
    files = one_of_each(experiment.pictures(args), args.scenes)
    model = experiment.load(args, args.weights)
    pairs = [(REFERENCES, pair) for pair in map(data.read_pair, files)]
    pairs += [(PHOTOGRAPHS, pair) for pair in photographs(SHIPPED)]
    measured: dict[str, dict[str, Any]] = {}
    for source, pair in tqdm(pairs, desc="likelihoods", unit="picture"):
        pictures = experiment.in_unit_range(pair)
        try:
            of = measure(model, *pictures, args.seed, pair.name)
        except ArithmeticError as error:
            raise ArithmeticError(f"{pair.name}: {error}") from error
        measured.setdefault(source, {})[pair.name] = of
    tables = [
        experiment.markdown(table(list(of.values()), source)) for source, of in measured.items()
    ]
    experiment.keep(
        args,
        "ranking",
        "\n\n".join([*tables, "In brackets: Wilson's interval, 95 %."]),
        _plot(measured[REFERENCES]),
        pictures=measured,
        data=experiment.of_pictures(files),
        weights=experiment.of_weights(args.weights),
    )


def _plot(measured: Mapping[str, Any]) -> experiment.Figure:
    """Each measure against each degradation's strength, less that of the clean picture."""
    plot = experiment.Figure(figsize=(9, 5), layout="constrained")
    shown = ("bits", "mismatch")
    grid = plot.subplots(len(shown), len(STRENGTHS), sharey="row")
    for row, by in zip(grid, shown, strict=True):
        for axes, (kind, strengths) in zip(row, STRENGTHS.items(), strict=True):
            for of in measured.values():
                values = [of[named(kind, s)][by] - of[CLEAN][by] for s in strengths]
                axes.plot(strengths, values, color="tab:blue", alpha=0.3, linewidth=0.8)
            axes.axhline(0, color="grey", linewidth=0.8)
            axes.set_xscale("log")
            axes.set_xticks(strengths, [f"{s:g}" for s in strengths])
            axes.minorticks_off()
            axes.set_xlabel(f"{kind}, {UNITS[kind].strip()}")
            axes.set_yscale("symlog", linthresh=0.1 if by == "bits" else 0.001)
        row[0].set_ylabel(f"{by}, less the clean picture's")
    return plot


def main(argv: list[str] | None = None) -> int:
    parser = experiment.parser(
        "ranking",
        "How often the cleaner of two pictures scores lower: of references of held-out pairs, and "
        "of scikit-image's photographs, darkened.",
        "--data LOL/our485 --split tiny440 --weights tiny440 --scenes scene_clusters.json",
    )
    experiment.add_weights(parser)
    add_scenes(parser)
    return experiment.main(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
