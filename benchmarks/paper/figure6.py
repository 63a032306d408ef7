"""Does the latent hold the brightness? (Fig. 6: a constant is added to it)

python benchmarks/paper/figure6.py --data LOL/our485 --split tiny440
    --weights tiny440 --picture examples/rocket.jpg
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import experiment
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from llflow import data
from llflow.network.model import LLFlow
from llflow.picture import preprocess, retinex
from llflow.picture.files import PictureError, read, to_pil

FARTHEST = 0.4  # the paper's constants: -0.4, -0.2, 0, 0.2, 0.4
MAX_PIXELS = 4_000_000  # of the sheet's picture, which isn't computed in tiles


@torch.no_grad()
def shifted(
    model: LLFlow, dark: Tensor, equalized: Tensor, constants: Sequence[float]
) -> Iterator[Tensor]:
    """x = flow⁻¹(z + c) with z the prior's mean, for each constant c: (3, H, W) in [0, 1].

    For a color map prior z is g(x_l), to which the paper adds the constant.

    Raises:
        ArithmeticError: a picture isn't finite.
    """
    cond = model.condition(experiment.network_input(model, dark, equalized))
    mean = model.flow.base(cond).mean
    given = model.flow.bijection.given(cond)
    for constant in constants:
        bright = given.inverse(mean + constant)[0][0]
        if not bright.isfinite().all():
            raise ArithmeticError(f"at {constant:+.2f} the network's result isn't finite")
        yield preprocess.crop(bright, *dark.shape[1:]).clamp(0, 1).cpu()


def direction(brightness: Sequence[float]) -> str:
    """ "rising" or "falling", if strictly so from each value to the next, else "neither"."""
    steps = np.diff(brightness)
    if (steps > 0).all():
        return "rising"
    return "falling" if (steps < 0).all() else "neither"


def run(args: argparse.Namespace) -> None:
    files = experiment.pictures(args)
    shown = _read(args.picture) if args.picture else None
    model = experiment.load(args, args.weights)
    count = math.ceil(FARTHEST / args.step - 1e-9)
    constants = [FARTHEST * index / count for index in range(-count, count + 1)]
    brightness: dict[str, list[float]] = {}
    for pair_files in tqdm(files, desc="shifting", unit="picture"):
        pair = data.read_pair(pair_files)
        dark, equalized, _ = experiment.in_unit_range(pair)
        try:
            results = shifted(model, dark, equalized, constants)
            brightness[pair.name] = [255 * x.double().mean().item() for x in results]
        except ArithmeticError as error:
            raise ArithmeticError(f"{pair.name}: {error}") from error
    directions = [direction(values) for values in brightness.values()]
    counts = {name: directions.count(name) for name in ("rising", "falling", "neither")}
    nearer = slice(count - count // 2, count + count // 2 + 1)
    of_nearer = sum(direction(values[nearer]) != "neither" for values in brightness.values())
    means = np.mean(list(brightness.values()), axis=0)
    rows = [["constant added to z", "mean brightness, of 255"]]
    rows += [[f"{c:+.2f}", f"{mean:.1f}"] for c, mean in zip(constants, means, strict=True)]
    table = experiment.markdown(rows) + (
        f"\n\nStrictly monotone over the whole range: {len(files) - counts['neither']} of "
        f"{len(files)} pictures ({counts['rising']} rising, {counts['falling']} falling); up to "
        f"±{constants[nearer][-1]:.2f}: {of_nearer}."
    )
    if shown is not None:
        sheet = list(shifted(model, shown, retinex.equalize(shown), constants))
        experiment.draw(_sheet(shown, sheet, constants), args.out / "figure6_picture.png")
    experiment.keep(
        args,
        "figure6",
        table,
        _plot(constants, brightness, means),
        figures={
            "constants": constants,
            "brightness": means.tolist(),
            "pictures": counts,
            "monotone up to": {f"{constants[nearer][-1]:.2f}": of_nearer},
        },
        paper="the brightness of the pictures shown is monotonous in the constant; no figures",
        pictures=brightness,
        data=experiment.of_pictures(files),
        weights=experiment.of_weights(args.weights),
    )


def _read(file: Path) -> Tensor:
    try:
        return read(file, MAX_PIXELS).image
    except PictureError as error:
        raise PictureError(f"{file}: {error}") from error


def _plot(
    constants: Sequence[float], brightness: dict[str, list[float]], means: np.ndarray
) -> experiment.Figure:
    plot = experiment.Figure(figsize=(6, 4), layout="constrained")
    axes = plot.subplots()
    for values in brightness.values():
        axes.plot(constants, values, color="tab:blue", alpha=0.3, linewidth=0.8)
    axes.plot(constants, means, "o-", color="black", label=f"mean of {len(brightness)} pictures")
    axes.set_xlabel("constant added to the latent z")
    axes.set_ylabel("mean brightness of the result, of 255")
    axes.legend()
    return plot


def _sheet(dark: Tensor, results: list[Tensor], constants: Sequence[float]) -> experiment.Figure:
    """The dark picture and what each constant makes of it."""
    titles = ["input", *(f"{constant:+.2f}" for constant in constants)]
    columns = 5
    rows = math.ceil(len(titles) / columns)
    height, width = dark.shape[1:]
    size = (2 * columns, (2 * height / width + 0.3) * rows)
    plot = experiment.Figure(figsize=size, layout="constrained")
    grid = plot.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid:
        axes.axis("off")
    for axes, title, picture in zip(grid, titles, [dark, *results], strict=False):
        axes.imshow(to_pil(picture))
        axes.set_title(title, fontsize="small")
    return plot


def step(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.001 <= value <= 0.2:
        raise argparse.ArgumentTypeError(f"expected 0.001 to 0.2, got {text!r}")
    return value


def main(argv: list[str] | None = None) -> int:
    parser = experiment.parser(
        "figure6",
        "Mean brightness of the result against a constant from -0.4 to 0.4 that is added to the "
        "latent.",
        "--data LOL/our485 --split tiny440 --weights tiny440 --picture examples/rocket.jpg",
    )
    experiment.add_weights(parser)
    parser.add_argument(
        "--step", type=step, default=0.1, help="between constants, at most (default 0.1)"
    )
    parser.add_argument(
        "--picture",
        type=experiment.path,
        metavar="FILE",
        help="a dark picture, for a sheet of what each constant makes of it",
    )
    return experiment.main(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
