"""`llflow train`: train on pairs."""

from __future__ import annotations

import argparse
import math
from dataclasses import fields

from llflow.commands.arguments import (
    UsageError,
    add_device,
    at_least,
    device_of,
    path,
    read_split,
)


def add(commands) -> None:
    parser = commands.add_parser(
        "train",
        usage="llflow train --data DIR --out RUN [options]",
        help="train on pairs of dark and bright pictures",
        description="Train on pairs in low/ and high/ below DIR. Started again with the same "
        "settings, a run goes on where it stopped.",
        epilog="examples:\n  llflow train --data LOL/our485 --out runs/tiny --steps 10000\n"
        "  llflow train --data MYPAIRS --weights tiny --steps 200 --out runs/mine\n",
    )
    parser.add_argument("--data", type=path, required=True, metavar="DIR")
    parser.add_argument("--out", type=path, required=True, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--weights",
        metavar="W",
        help="go on with these, shipped ones by name or a .safetensors file, in place of random "
        "ones; of the recipe's size",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        "--scenes",
        type=path,
        metavar="JSON",
        help='pictures of one scene, which are never split: {"clusters": [["1", "2"], ...]}',
    )
    parts.add_argument(
        "--split",
        metavar="SPLIT",
        help="hold out what another run did: its split.json, or the name of shipped weights",
    )
    add_device(parser)
    parser.add_argument(
        "--validate-every",
        type=at_least(1),
        default=500,
        metavar="STEPS",
        help="between validations (default 500)",
    )
    parser.set_defaults(run=run)
    from llflow.training.recipe import Recipe

    recipe = parser.add_argument_group("recipe", "the paper's, unless said otherwise")
    for field in fields(Recipe):
        recipe.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            metavar=type(field.default).__name__.upper(),
            help=f"{field.metadata['help']} (default {field.default})",
        )


def run(args: argparse.Namespace) -> int:
    import logging

    from llflow import checkpoint, data
    from llflow.training.recipe import Recipe
    from llflow.training.train import train

    logging.basicConfig(level=logging.INFO, format="llflow train: %(message)s")
    try:
        recipe = Recipe(**{field.name: getattr(args, field.name) for field in fields(Recipe)})
    except ValueError as error:
        raise UsageError(str(error)) from error
    pairs = data.find_pairs(args.data)
    if args.split:
        split = read_split(args.split)
        training, validation = (data.named(pairs, split[p]) for p in ("training", "validation"))
    else:
        clusters = data.read_clusters(args.scenes)
        training, validation = data.hold_out(pairs, clusters, recipe.held_out, recipe.seed)
    best = train(
        recipe,
        training,
        validation,
        args.out,
        start_from=checkpoint.load(args.weights) if args.weights else None,
        device=device_of(args.device),
        validate_every=args.validate_every,
    )
    if not math.isfinite(best):
        raise ArithmeticError("no validation gave a finite PSNR, so no weights were kept")
    print(f"{args.out / 'best.safetensors'}: validation PSNR {best:.2f} dB")
    return 0
