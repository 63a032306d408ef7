"""Trainings with equal budgets, scored on held-out scenes: what Tables 5 and 6 share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import experiment
import numpy as np
from tqdm import tqdm

from llflow import data
from llflow.commands.options import device_of, read_split
from llflow.errors import UsageError
from llflow.evaluation.conventions import Convention, conventions
from llflow.evaluation.evaluate import Scene, enhanced, score
from llflow.evaluation.perceptual import Perceptual
from llflow.network import checkpoint
from llflow.network.model import SIZES, LLFlow
from llflow.training.recipe import Recipe
from llflow.training.train import train

# PSNR and SSIM of the picture as it is, then as LLFlow's released test script has them, after which
# the published numbers are probably made.
SHOWN = ("raw_psnr", "raw_ssim", "gt_mean_llflow_psnr", "gt_mean_llflow_ssim_columns")
LPIPS = "raw_lpips_alex"


@dataclass(frozen=True)
class Training:
    """One row: what it changes in the recipe, the run's folder, and the paper's (PSNR, SSIM,
    LPIPS).

    Rows of one folder share the run; `pretrained` rows begin with --pretrain steps of NLL.
    """

    title: str
    folder: str
    paper: tuple[float, float, float]
    changes: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False


def parser(name: str, description: str) -> experiment.Parser:
    recipe = Recipe()
    parser = experiment.parser(name, description, "--data LOL/our485 --size small --device cuda")
    parser.add_argument(
        "--split",
        default=checkpoint.DEFAULT,
        metavar="SPLIT",
        help="which pairs are trained on and which are scored: a run's split.json, or the name of "
        f"shipped weights for theirs (default {checkpoint.DEFAULT})",
    )
    parser.add_argument(
        "--runs",
        type=experiment.path,
        default=Path("runs/paper"),
        help="where runs lie (default runs/paper)",
    )
    parser.add_argument("--size", choices=SIZES, default=recipe.size, help="(default %(default)s)")
    for option, default in (
        ("steps", recipe.steps),
        ("batch", recipe.batch),
        ("crop", recipe.crop),
        ("pretrain", 1000),
    ):
        parser.add_argument(
            f"--{option}",
            type=experiment.at_least(1),
            default=default,
            metavar="N",
            help="(default %(default)s)",
        )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=recipe.learning_rate,
        metavar="R",
        help="(default %(default)s)",
    )
    parser.add_argument(
        "--lpips-trunk",
        type=experiment.path,
        metavar="FILE",
        help="AlexNet's weights, to score LPIPS too",
    )
    return parser


def recipe_of(training: Training, args: argparse.Namespace) -> Recipe:
    """The row's recipe: the paper's, with the budget that the options give, equal for all rows.

    Weights are averaged over about a thirtieth of the steps: with the paper's 30,000 that is the
    recipe's own decay, 0.999, and a short run's average doesn't hold its untrained beginning.
    """
    recipe = Recipe()
    return Recipe(
        size=args.size,
        steps=args.steps,
        batch=args.batch,
        crop=args.crop,
        learning_rate=args.learning_rate,
        pretrain=args.pretrain if training.pretrained else 0,
        average=min(recipe.average, max(0.0, 1 - 30 / args.steps)),
        seed=args.seed,
        **training.changes,
    )


def run(name: str, trainings: Sequence[Training], args: argparse.Namespace) -> None:
    """Train each row, or go on with its run, then score the final averaged weights."""
    if args.pretrain >= args.steps and any(training.pretrained for training in trainings):
        raise UsageError(f"expected --pretrain below --steps, got {args.pretrain} and {args.steps}")
    recipes = [recipe_of(training, args) for training in trainings]
    lpips = {"alex": Perceptual("alex", args.lpips_trunk)} if args.lpips_trunk else {}
    keys = [*SHOWN, *([LPIPS] if lpips else [])]
    rows = [row for row in conventions(lpips) if row.key in keys]
    pairs, split = data.find_pairs(args.data), read_split(args.split)
    training_pairs, held_out = (data.named(pairs, split[p]) for p in ("training", "validation"))
    scored = experiment.limited(held_out, args.limit)
    figures, weights = {}, {}
    for training, recipe in zip(trainings, recipes, strict=True):
        file = _trained(training, recipe, training_pairs, held_out, args)
        model = experiment.load(args, str(file))
        means = score(_pictures(training.title, model, scored), rows).values[training.title].mean(0)
        if not np.isfinite(means).all():
            raise ArithmeticError(
                f"{training.title}: scores that aren't finite; is a picture tiny?"
            )
        figures[training.title] = {
            row.key: value for row, value in zip(rows, means.tolist(), strict=True)
        }
        weights[training.title] = experiment.of_weights(str(file)) | {"recipe": _settings(recipe)}
    budget = (
        f"Each: {args.size}, {args.steps:,} steps of {args.batch} crops of "
        f"{args.crop}×{args.crop}, learning rate {args.learning_rate:g}, seed {args.seed}"
    )
    if any(training.pretrained for training in trainings):
        budget += f"; the whole flow by l1 after {args.pretrain:,} of them by likelihood"
    experiment.keep(
        args,
        name,
        f"{_table(trainings, rows, figures, len(scored))}\n\n{budget}.",
        _plot(trainings, figures),
        figures=figures,
        paper={training.title: training.paper for training in trainings},
        data=experiment.of_pictures(scored) | {"training pairs": len(training_pairs)},
        weights=weights,
        lpips={net: {"sha256": of.sha256} for net, of in lpips.items()},
    )


def _pictures(title: str, model: LLFlow, files: Sequence[data.PairFiles]) -> Iterator[Scene]:
    """What `llflow evaluate` scores, without the dark picture and its equalisation."""
    scenes = enhanced({title: model}, files)
    for scene in tqdm(scenes, desc=f"scoring {title}", unit="picture", total=len(files)):
        yield replace(scene, pictures={title: scene.pictures[title]})


def _trained(
    training: Training,
    recipe: Recipe,
    pairs: Sequence[data.PairFiles],
    held_out: Sequence[data.PairFiles],
    args: argparse.Namespace,
) -> Path:
    """The run's weights, averaged at the last step.

    `train` keeps weights when it validates; once, at the end, so that none are selected on the
    pictures that are scored, and on one picture, since they are scored afterwards.
    """
    folder = args.runs / training.folder
    print(f"{training.title}: {folder}")
    psnr = train(
        recipe,
        pairs,
        held_out,
        folder,
        device=device_of(args.device),
        validate_every=recipe.steps,
        validation_pictures=1,
    )
    if not math.isfinite(psnr):
        raise ArithmeticError(f"{training.title}: the trained weights' pictures aren't finite")
    return folder / "best.safetensors"


def _table(
    trainings: Sequence[Training],
    rows: Sequence[Convention],
    figures: dict[str, dict[str, float]],
    count: int,
) -> str:
    titles = [f"{count} pictures", *(f"{row.adjustment.title}: {row.title}" for row in rows)]
    table = [[*titles, "paper: PSNR", "SSIM", "LPIPS"]]
    for training in trainings:
        ours = [
            f"{value:.2f}" if key.endswith("psnr") else f"{value:.4f}"
            for key, value in figures[training.title].items()
        ]
        psnr, ssim, lpips = training.paper
        table.append([training.title, *ours, f"{psnr:.2f}", f"{ssim:.4f}", f"{lpips:.4f}"])
    return experiment.markdown(table)


def _plot(trainings: Sequence[Training], figures: dict[str, dict[str, float]]) -> experiment.Figure:
    plot = experiment.Figure(figsize=(9, 0.5 * len(trainings) + 1.4), layout="constrained")
    grid = plot.subplots(1, 2, sharey=True)
    titles = [training.title for training in trainings]
    panels = (("PSNR, dB", "psnr", 0), ("SSIM", "ssim", 1))
    for axes, (label, measure, index) in zip(grid, panels, strict=True):
        axes.barh(titles, [figures[title][f"raw_{measure}"] for title in titles], label="ours, raw")
        paper = [training.paper[index] for training in trainings]
        axes.plot(paper, titles, "x", color="tab:red", label="paper")
        axes.set_xlabel(label)
    grid[0].invert_yaxis()
    grid[1].legend()
    return plot


def _settings(recipe: Recipe) -> dict[str, object]:
    """The settings as JSON can say them: it has no infinity."""
    return {
        name: str(value) if value == math.inf else value for name, value in asdict(recipe).items()
    }
