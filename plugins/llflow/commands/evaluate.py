"""`llflow evaluate`: score weights on pairs."""

from __future__ import annotations

import argparse

from llflow.commands.arguments import (
    add_device,
    add_sampling,
    device_of,
    path,
    read_split,
    temperature_of,
)


def add(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score weights on pairs of dark and bright pictures",
        description="Print raw PSNR and SSIM (RGB, 11x11 Gaussian window) of weights, of the dark "
        "input itself and of its histogram equalisation, averaged over pairs in low/ and high/.",
        epilog="example:\n  llflow evaluate --data LOL/our485 --split tiny\n",
    )
    parser.add_argument("--data", type=path, required=True, metavar="DIR")
    parser.add_argument("--weights", nargs="+", default=["tiny"], metavar="W")
    parser.add_argument(
        "--split",
        metavar="SPLIT",
        help="score the pairs that were held out only: a run's split.json, or the name of shipped "
        "weights for theirs",
    )
    add_sampling(parser)
    add_device(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from llflow import checkpoint, data
    from llflow.evaluation.evaluate import evaluate

    temperature = temperature_of(args)
    pairs = data.find_pairs(args.data)
    if args.split:
        pairs = data.named(pairs, read_split(args.split)["validation"])
    device = device_of(args.device)
    models = {name: checkpoint.load(name).to(device) for name in args.weights}
    scores = evaluate(models, pairs, temperature=temperature, samples=args.samples)
    print(f"| {len(pairs)} pictures | PSNR (dB) | SSIM |\n|---|---|---|")
    for score in scores:
        print(f"| {score.name} | {score.psnr:.2f} | {score.ssim:.4f} |")
    return 0
