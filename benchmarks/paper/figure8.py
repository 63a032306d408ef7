"""Does the likelihood's gradient find the damaged half of a picture? (Fig. 8)

python benchmarks/paper/figure8.py --data LOL/our485 --split tiny440 --weights tiny440
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import experiment
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from llflow import data
from llflow.distribution.activation import equalized_map, gradient_norm
from llflow.enhancement import enhance
from llflow.network.model import LLFlow
from llflow.picture.files import to_pil

ARRANGEMENTS = ("left", "right")  # where the damaged half is


def stitched(reference: Tensor, damaged: Tensor, side: str) -> Tensor:
    """The damaged picture's "left" or "right" half beside the reference's other, (3, H, W)."""
    middle = reference.shape[2] // 2
    left, right = (damaged, reference) if side == "left" else (reference, damaged)
    return torch.cat([left[..., :middle], right[..., middle:]], dim=2)


def measure(
    model: LLFlow, damaging: LLFlow | None, pair: data.Pair
) -> dict[str, dict[str, dict[str, float]]]:
    """By where the damaged half is, then "norm" or "map": the mean over the "damaged" half and over
    the "reference" half."""
    dark, equalized, reference = experiment.in_unit_range(pair)
    damaged = equalized if damaging is None else enhance(damaging, dark)
    middle = reference.shape[2] // 2
    measured = {}
    for side in ARRANGEMENTS:
        norm = gradient_norm(model, dark, stitched(reference, damaged, side))
        measured[side] = {}
        for name, values in (("norm", norm), ("map", equalized_map(norm))):
            left, right = values[:, :middle].mean().item(), values[:, middle:].mean().item()
            halves = (left, right) if side == "left" else (right, left)
            measured[side][name] = dict(zip(("damaged", "reference"), halves, strict=True))
    return measured


def run(args: argparse.Namespace) -> None:
    files = experiment.pictures(args)
    shown = data.read_pair(data.PairFiles("picture", *args.picture)) if args.picture else None
    model = experiment.load(args, args.weights)
    damaging = experiment.load(args, args.damaged_weights) if args.damaged_weights else None
    measured = {}
    for pair_files in tqdm(files, desc="gradients", unit="picture"):
        pair = data.read_pair(pair_files)
        try:
            measured[pair.name] = measure(model, damaging, pair)
        except ArithmeticError as error:
            raise ArithmeticError(f"{pair.name}: {error}") from error
    halves = {
        name: np.array(
            [
                [of[side][name][half] for half in ("damaged", "reference")]
                for of in measured.values()
                for side in ARRANGEMENTS
            ]
        )
        for name in ("norm", "map")
    }
    figures = {
        name: {
            "damaged": values[:, 0].mean(),
            "reference": values[:, 1].mean(),
            "damaged higher": int((values[:, 0] > values[:, 1]).sum()),
        }
        for name, values in halves.items()
    }
    count = 2 * len(files)
    rows = [[f"{count} stitched pictures", "damaged half", "reference half", "damaged is higher"]]
    titles = {"norm": "mean of ‖∂L/∂x‖₂, bits", "map": "mean of G, its ranks in (0, 1]"}
    for (name, found), form in zip(figures.items(), (".1f", ".3f"), strict=True):
        rows.append(
            [
                titles[name],
                *(f"{found[half]:{form}}" for half in ("damaged", "reference")),
                f"{found['damaged higher']} of {count}",
            ]
        )
    damage = "the dark picture's histogram equalisation"
    if args.damaged_weights:
        damage = f"of the weights {Path(args.damaged_weights).name}"
    if shown is not None:
        experiment.draw(_maps(model, damaging, shown), args.out / "figure8_picture.png")
    experiment.keep(
        args,
        "figure8",
        experiment.markdown(rows) + f"\n\nThe damaged half is {damage}.",
        _plot(halves["norm"]),
        figures=figures,
        paper="the area with artifacts has a higher gradient activation value; no figures",
        pictures=measured,
        data=experiment.of_pictures(files),
        weights=experiment.of_weights(args.weights),
        damaged_weights=experiment.of_weights(args.damaged_weights) if damaging else None,
    )


def _plot(halves: np.ndarray) -> experiment.Figure:
    plot = experiment.Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = plot.subplots()
    for offset, side in enumerate(ARRANGEMENTS):
        damaged, reference = halves[offset :: len(ARRANGEMENTS)].T
        axes.scatter(reference, damaged, s=12, label=f"damaged half on the {side}")
    ends = [halves.min(), halves.max()]
    axes.plot(ends, ends, color="grey", linewidth=0.8, label="both the same")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("mean of ‖∂L/∂x‖₂ over the reference half, bits")
    axes.set_ylabel("mean of ‖∂L/∂x‖₂ over the damaged half, bits")
    axes.legend()
    return plot


def _maps(model: LLFlow, damaging: LLFlow | None, pair: data.Pair) -> experiment.Figure:
    """Both arrangements of one pair, each beside its map, as in the paper."""
    dark, equalized, reference = experiment.in_unit_range(pair)
    damaged = equalized if damaging is None else enhance(damaging, dark)
    height, width = reference.shape[1:]
    plot = experiment.Figure(figsize=(10, 2.5 * height / width + 0.3), layout="constrained")
    grid = plot.subplots(1, 4)
    for index, side in enumerate(ARRANGEMENTS):
        picture = stitched(reference, damaged, side)
        norm = gradient_norm(model, dark, picture)
        grid[2 * index].imshow(to_pil(picture))
        grid[2 * index].set_title(f"damaged on the {side}", fontsize="small")
        grid[2 * index + 1].imshow(equalized_map(norm).numpy(), vmin=0, vmax=1)
        grid[2 * index + 1].set_title("G", fontsize="small")
    for axes in grid:
        axes.axis("off")
    return plot


def main(argv: list[str] | None = None) -> int:
    parser = experiment.parser(
        "figure8",
        "The gradient activation map of pictures whose one half is the reference and whose other "
        "half is damaged: by default the dark picture's histogram equalisation, which is noisy.",
        "--data LOL/our485 --split tiny440 --weights tiny440",
    )
    experiment.add_weights(parser)
    parser.add_argument(
        "--damaged-weights",
        metavar="W",
        help="take the damaged half from these weights, such as an early checkpoint",
    )
    parser.add_argument(
        "--picture",
        type=experiment.path,
        nargs=2,
        metavar=("DARK", "BRIGHT"),
        help="one more pair, to show the stitched pictures and their maps",
    )
    return experiment.main(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
