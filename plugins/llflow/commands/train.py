"""`llflow train`: train on pairs."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, fields
from pathlib import Path

from llflow.commands.arguments import (
    UsageError,
    add_device,
    at_least,
    device_of,
    path,
    read_split,
)

DEFAULT = "fine-tune"


def add(commands) -> None:
    from llflow.training.recipe import CHOICES, Recipe

    parser = commands.add_parser(
        "train",
        usage="llflow train --data DIR [--recipe R] [options]",
        help="train on pairs of dark and bright pictures",
        description="Train on pairs of pictures, such as those in low/ and high/ below DIR. By "
        "itself it teaches the default weights your pairs, in minutes; --recipe small trains a "
        "network from scratch. Started again with the same settings, a run goes on where it "
        "stopped.",
        epilog="examples:\n  llflow train --data MYPAIRS\n"
        "  llflow train --data LOL/our485 --recipe small --out runs/small --device cuda\n"
        "  llflow train --data LOL/our485 --recipe mine.toml --learning-rate 2e-4\n"
        "  torchrun --nproc-per-node 4 -m llflow train --data LOL/our485 --recipe large\n",
    )
    parser.add_argument("--data", type=path, required=True, metavar="DIR")
    parser.add_argument(
        "--recipe",
        default=DEFAULT,
        metavar="R",
        help=f"a shipped one ({', '.join(Recipe.shipped())}) or a TOML file with the settings "
        f"below, a line each (default {DEFAULT})",
    )
    parser.add_argument(
        "--out", type=path, metavar="RUN", help="the run's folder (default runs/NAME-OF-DIR)"
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        "--scenes",
        type=path,
        metavar="JSON",
        help='pictures of one scene, which are never split: {"clusters": [["1", "2"], ...]} '
        "(default: pictures that look alike)",
    )
    parts.add_argument(
        "--split",
        metavar="SPLIT",
        help="hold out what another run did: its split.json, or the name of shipped weights",
    )
    parser.add_argument(
        "--allow-leaks",
        action="store_true",
        help="go on though validation shows scenes of training, as far as looks tell",
    )
    parser.add_argument(
        "--photographs",
        type=path,
        metavar="DIR",
        help="bright ones without dark partners, for --synthetic-share",
    )
    add_device(parser)
    parser.add_argument(
        "--validate-every",
        type=at_least(1),
        metavar="STEPS",
        help="between validations (default 500, or a tenth of a shorter run)",
    )
    parser.add_argument(
        "--save-every",
        type=at_least(1),
        default=100,
        metavar="STEPS",
        help="between saves of last.pt (default 100)",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write RUN/tensorboard for TensorBoard too"
    )
    parser.set_defaults(run=run)

    settings = parser.add_argument_group(
        "settings", f"in place of the recipe's; [in brackets: {DEFAULT}'s]"
    )
    shipped = asdict(Recipe.read(DEFAULT))
    for field in fields(Recipe):
        kind = type(field.default)
        value = shipped[field.name]
        settings.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=None,
            help=f"{field.metadata['help']} [{value}]",
            **{"action": argparse.BooleanOptionalAction}
            if kind is bool
            else {
                "type": kind,
                "choices": CHOICES.get(field.name),
                "metavar": kind.__name__.upper(),
            },
        )


def run(args: argparse.Namespace) -> int:
    import logging

    from llflow.training.recipe import Recipe, RecipeError
    from llflow.training.train import train

    logging.basicConfig(level=logging.INFO, format="llflow train: %(message)s")
    given = {field.name: getattr(args, field.name) for field in fields(Recipe)}
    try:
        recipe = Recipe(
            **asdict(Recipe.read(args.recipe))
            | {name: value for name, value in given.items() if value is not None}
        )
    except RecipeError as error:
        raise UsageError(str(error)) from error
    out = args.out or Path("runs") / args.data.resolve().name
    training, validation = _split(args, recipe, out)
    best = train(
        recipe,
        training,
        validation,
        out,
        photographs=args.photographs,
        device=device_of(args.device),
        validate_every=args.validate_every or min(500, math.ceil(recipe.steps / 10)),
        save_every=args.save_every,
        tensorboard=args.tensorboard,
    )
    if not math.isfinite(best):
        raise ArithmeticError("no validation gave a finite PSNR, so no weights were kept")
    weights = out / "best.safetensors"
    print(f"{weights}: validation PSNR {best:.2f} dB")
    print(f"use them: llflow enhance dark.jpg --weights {weights}")
    return 0


def _split(args: argparse.Namespace, recipe, out: Path) -> tuple[list, list]:
    """Pairs for training and validation: as the run in `out` has them, as asked for, by scene."""
    from llflow import data

    pairs = data.find_pairs(args.data)
    if args.split or (out / "last.pt").exists():
        split = read_split(args.split or str(out / "split.json"))
        training, validation = (data.named(pairs, split[p]) for p in ("training", "validation"))
        if not args.split and len(training) + len(validation) < len(pairs):
            raise data.DataError(f"{args.data}: has pairs that the run in {out} doesn't know")
    else:
        clusters = data.read_clusters(args.scenes) if args.scenes else None
        training, validation = data.hold_out(pairs, clusters, recipe.held_out, recipe.seed)
    if (args.split or args.scenes) and not (args.allow_leaks or (out / "last.pt").exists()):
        data.refuse_leaks(training, validation)
    return training, validation
