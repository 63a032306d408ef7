"""Where the flow is unsure, is it wrong? `llflow uncertainty` against the true error.

python benchmarks/paper/calibration.py --data LOL/our485 --split tiny440
    --weights tiny440 --scenes scene_clusters.json
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import experiment
import numpy as np
import ranking
from scipy.stats import norm, spearmanr
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from llflow import data, enhance, uncertainty
from llflow.evaluation.intervals import bootstrap
from llflow.network.model import LLFlow

CELL = 8  # pixels a side, over which both are averaged
MOST = 0.1  # share of the cells that are called the most uncertain


def measure(model: LLFlow, dark: Tensor, equalized: Tensor, bright: Tensor) -> dict[str, float]:
    """Of one picture: "rank", Spearman's correlation of the uncertainty of 8×8 pixels with the
    error there, of a result brought to the reference's mean; "error", which share of the absolute
    error the most uncertain tenth of them has; with an illumination branch "deviations", by how
    many of its standard deviations the log exposure is off."""
    result = enhance(model, dark)
    mean = result.mean().item()
    error = cells((result * (bright.mean().item() / mean if mean else 1) - bright).abs().mean(0))
    unsure = cells(uncertainty(model, dark))
    order = np.argsort(-unsure)[: round(MOST * len(unsure))]
    found = {
        "rank": float(np.asarray(spearmanr(unsure, error))[0]),
        "error": float(error[order].sum() / error.sum()),
    }
    like = next(model.parameters())
    light = model.light(dark[None].to(like), equalized[None].to(like))
    if light is not None:
        off = math.log(bright.mean().item()) - light.mean.item()
        found["deviations"] = off / light.std.item()
    return found


def cells(values: Tensor) -> np.ndarray:
    return F.avg_pool2d(values[None, None], CELL).flatten().numpy()


def run(args: argparse.Namespace) -> None:
    files = ranking.one_of_each(experiment.pictures(args), args.scenes)
    model = experiment.load(args, args.weights)
    measured: dict[str, dict[str, float]] = {}
    for pair_files in tqdm(files, desc="uncertainty", unit="picture"):
        pair = data.read_pair(pair_files)
        try:
            measured[pair.name] = measure(model, *experiment.in_unit_range(pair))
        except ArithmeticError as error:
            raise ArithmeticError(f"{pair.name}: {error}") from error
    of = list(measured.values())
    ranks, shares = (_mean([x[name] for x in of]) for name in ("rank", "error"))
    rows = [
        [f"mean of {len(of)} pictures [95 %]", "found", "if it told nothing"],
        ["rank correlation with the error", ranks, "0"],
        [f"the error's share in the {MOST:.0%} most uncertain", shares, f"{MOST:.2f}"],
    ]
    table = experiment.markdown(rows)
    if "deviations" in of[0]:
        table += "\n\n" + experiment.markdown(_exposures([x["deviations"] for x in of]))
    experiment.keep(
        args,
        "calibration",
        table,
        _plot(of),
        pictures=measured,
        data=experiment.of_pictures(files),
        weights=experiment.of_weights(args.weights),
    )


def _mean(values: Sequence[float]) -> str:
    low, high = bootstrap(np.array(values)[:, None], range(len(values)))[:, 0]
    return f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"


def _exposures(deviations: Sequence[float]) -> list[list[str]]:
    rows = [["the true exposure is within", "of the pictures, % [95 %]", "of a normal one, %"]]
    for count in (1, 2):
        within = sum(abs(each) <= count for each in deviations)
        expected = 100 * (norm.cdf(count) - norm.cdf(-count))
        share = ranking.share(within, len(deviations))
        rows.append([f"{count} standard deviation{'s' * (count > 1)}", share, f"{expected:.0f}"])
    return rows


def _plot(measured: Sequence[dict[str, Any]]) -> experiment.Figure:
    plot = experiment.Figure(figsize=(5, 4), layout="constrained")
    axes = plot.subplots()
    axes.scatter([of["rank"] for of in measured], [of["error"] for of in measured], s=14)
    axes.axhline(MOST, color="grey", linewidth=0.8)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("rank correlation of uncertainty and error")
    axes.set_ylabel(f"the error's share in the {MOST:.0%} most uncertain")
    return plot


def main(argv: list[str] | None = None) -> int:
    parser = experiment.parser(
        "calibration",
        "How well the spread of samples tells where the result is wrong, and the predicted spread "
        "of exposures how far that is off.",
        "--data LOL/our485 --split tiny440 --weights tiny440 --scenes scene_clusters.json",
    )
    experiment.add_weights(parser)
    ranking.add_scenes(parser)
    return experiment.main(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
