"""Command line of llflow: arguments only."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from llflow.batch import PlanError

EXAMPLES = """\
examples:
  llflow enhance dark.jpg bright.jpg
  llflow enhance holiday/ holiday_bright/ --recursive --skip-existing
  llflow convert official.pth large.safetensors
"""


class UsageError(ValueError):
    """Arguments that don't go together."""


class Parser(argparse.ArgumentParser):
    """Errors in one line; the description is wrapped, the examples after the options aren't."""

    def __init__(self, *, description: str, **options) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(description=textwrap.fill(description, 79), formatter_class=raw, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run `llflow ARGV...` and return the exit code: 0 done, 1 something failed, 2 wrong usage."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    args = _parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be what it can't print
    try:
        return args.run(args)
    except KeyboardInterrupt:
        return _fail(args, "interrupted", code=130)
    except (UsageError, PlanError) as error:
        return _fail(args, str(error), code=2)
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        return _fail(args, f"{error.filename}: {error.strerror}" if named else str(error))
    except (ValueError, ArithmeticError) as error:
        return _fail(args, str(error))
    except (MemoryError, RuntimeError) as error:  # torch's: out of memory, a singular matrix, ...
        return _fail(args, str(error).partition("\n")[0] or "out of memory")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    # argparse takes paths up to the first option only; those behind it come back as unknown.
    if args.command == "enhance" and not any(text.startswith("-") for text in rest):
        args.paths += map(_path, rest)
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def _fail(args: argparse.Namespace, message: str, code: int = 1) -> int:
    print(f"llflow {args.command}: {_shown(message)}", file=sys.stderr)
    return code


def _shown(text: object) -> str:
    """`text` in one line, without what a terminal would obey: names of files are anybody's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def _at_least(lowest: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"expected a whole number from {lowest}, got {text!r}")
        return int(text)

    return whole_number


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0, got {text!r}")
    return value


def _parser() -> Parser:
    parser = Parser(
        prog="llflow",
        description="Make dark photographs bright with a conditional normalizing flow.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_enhance, _add_convert, _add_evaluate, _add_train):
        add(commands)
    return parser


def _add_device(parser: Parser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default auto)"
    )


def _device(name: str):
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no CUDA device here")
    return torch.device(name)


# --- enhance ---------------------------------------------------------------------------------


def _add_enhance(commands) -> None:
    parser = commands.add_parser(
        "enhance",
        usage="llflow enhance [options] IN [IN ...] [OUT]",
        help="brighten a picture, several, or a folder",
        description="Brighten a picture, several, or a folder of them. PNG, JPEG, WebP, BMP, TIFF "
        "and AVIF are recognised by content. Without OUT, results lie beside the inputs with "
        "'_bright' in their names.",
        epilog="examples:\n  llflow enhance dark.jpg\n  llflow enhance dark.jpg bright.png\n"
        "  llflow enhance a.jpg b.png out/\n  llflow enhance photos/ out/ --recursive\n"
        "  llflow enhance dark.jpg mean.png --samples 8 --temperature 0.7\n",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=_path,
        metavar="PATH",
        help="pictures or folders to read; of two or more paths the last is OUT, the picture to "
        "write, or a folder for several results",
    )
    parser.add_argument("--recursive", action="store_true", help="take folders within folders too")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave finished results alone"
    )
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    _add_sampling(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    parser.add_argument(
        "--weights",
        metavar="W",
        help="shipped weights by name, or a .safetensors file (default tiny)",
    )
    _add_device(parser)
    parser.add_argument(
        "--max-pixels",
        type=_at_least(1),
        metavar="N",
        help="refuse larger pictures (default 50 million)",
    )
    parser.set_defaults(run=_enhance)


def _add_sampling(parser: Parser) -> None:
    parser.add_argument(
        "--samples", type=_at_least(1), default=1, metavar="N", help="average N samples (default 1)"
    )
    parser.add_argument(
        "--temperature",
        type=_temperature,
        metavar="T",
        help="spread of the samples: 0 takes the most typical latent, 1 draws from the model "
        "(default 0, or 1 with --samples)",
    )


def _temperature_of(args: argparse.Namespace) -> float:
    temperature = args.temperature
    if temperature is None:
        temperature = 0.0 if args.samples == 1 else 1.0
    if temperature == 0 and args.samples > 1:
        raise UsageError("at --temperature 0 all samples are the same; leave --samples out")
    return temperature


def _enhance(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from llflow import batch, checkpoint, images
    from llflow.enhance import enhance

    inputs, out = args.paths, None
    if len(inputs) > 1:
        *inputs, out = inputs
    temperature = _temperature_of(args)
    jobs = batch.plan(inputs, out, recursive=args.recursive)
    model = checkpoint.load(args.weights or checkpoint.DEFAULT).to(_device(args.device)).fold()

    def brighten(picture: images.Picture) -> images.Picture:
        bright = enhance(
            model,
            picture.image,
            temperature=temperature,
            samples=args.samples,
            seed=args.seed,
        )
        return picture.with_image(bright)

    outcomes = batch.run(
        jobs,
        brighten,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
        max_pixels=args.max_pixels or images.MAX_PIXELS,
    )
    done, skipped, failed = [], 0, []
    for outcome in tqdm(outcomes, total=len(jobs), desc="enhancing", unit="picture"):
        if outcome.problem is not None:
            failed.append(outcome)
        elif outcome.skipped:
            skipped += 1
        else:
            done.append(outcome)
    where = f" -> {_shown(done[0].job.target)}" if len(done) == 1 else ""
    left = f", {skipped} skipped" if skipped else ""
    print(f"{len(done)} enhanced{left}, {len(failed)} failed{where}")
    for outcome in failed:
        _fail(args, f"{outcome.job.source}: {outcome.problem}")
    return 1 if failed else 0


# --- convert ---------------------------------------------------------------------------------


def _add_convert(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="turn the LLFlow authors' checkpoint into a file for --weights",
        description="Turn a checkpoint of the LLFlow authors (.pth or .safetensors) into a file "
        "for --weights. The network's size is read off the tensors; nothing in the file is "
        "executed. The authors' weights have their own licence (CC BY-NC-SA 4.0).",
        epilog="example:\n  llflow convert LOL_smallNet.pth small.safetensors\n",
    )
    parser.add_argument("checkpoint", type=_path, metavar="CHECKPOINT")
    parser.add_argument("out", type=_path, metavar="OUT")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    from llflow import checkpoint, official
    from llflow.model import SIZES

    if args.out.suffix != ".safetensors":
        raise UsageError(f"expected OUT to end in .safetensors, got {args.out}")
    if args.out.exists() and not args.overwrite:
        raise ValueError(f"{args.out} exists (--overwrite replaces it)")
    model = official.convert(official.read(args.checkpoint))
    checkpoint.save(model, args.out)
    size = next((name for name, config in SIZES.items() if config == model.config), "custom")
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {size} network, {count:,} parameters")
    return 0


# --- evaluate --------------------------------------------------------------------------------


def _add_evaluate(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score weights on pairs of dark and bright pictures",
        description="Print raw PSNR and SSIM (RGB, 11x11 Gaussian window) of weights, of the dark "
        "input itself and of its histogram equalisation, averaged over pairs in low/ and high/.",
        epilog="example:\n  llflow evaluate --data LOL/our485 --split tiny\n",
    )
    parser.add_argument("--data", type=_path, required=True, metavar="DIR")
    parser.add_argument("--weights", nargs="+", default=["tiny"], metavar="W")
    parser.add_argument(
        "--split",
        metavar="SPLIT",
        help="score the pairs that were held out only: a run's split.json, or the name of shipped "
        "weights for theirs",
    )
    _add_sampling(parser)
    _add_device(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from llflow import checkpoint, data
    from llflow.evaluate import evaluate

    temperature = _temperature_of(args)
    pairs = data.find_pairs(args.data)
    if args.split:
        pairs = data.named(pairs, _read_split(args.split)["validation"])
    device = _device(args.device)
    models = {name: checkpoint.load(name).to(device) for name in args.weights}
    scores = evaluate(models, pairs, temperature=temperature, samples=args.samples)
    print(f"| {len(pairs)} pictures | PSNR (dB) | SSIM |\n|---|---|---|")
    for score in scores:
        print(f"| {score.name} | {score.psnr:.2f} | {score.ssim:.4f} |")
    return 0


def _read_split(name: str) -> dict[str, list[str]]:
    from llflow import checkpoint, data

    shipped = checkpoint.DEFAULTS / f"{name}.split.json"
    return data.read_split(shipped if shipped.exists() else Path(name))


# --- train -----------------------------------------------------------------------------------


def _add_train(commands) -> None:
    parser = commands.add_parser(
        "train",
        usage="llflow train --data DIR --out RUN [options]",
        help="train on pairs of dark and bright pictures",
        description="Train on pairs in low/ and high/ below DIR. Started again with the same "
        "settings, a run goes on where it stopped.",
        epilog="examples:\n  llflow train --data LOL/our485 --out runs/tiny --steps 10000\n"
        "  llflow train --data MYPAIRS --weights tiny --steps 200 --out runs/mine\n",
    )
    parser.add_argument("--data", type=_path, required=True, metavar="DIR")
    parser.add_argument("--out", type=_path, required=True, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--weights",
        metavar="W",
        help="go on with these, shipped ones by name or a .safetensors file, in place of random "
        "ones; of the recipe's size",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        "--scenes",
        type=_path,
        metavar="JSON",
        help='pictures of one scene, which are never split: {"clusters": [["1", "2"], ...]}',
    )
    parts.add_argument(
        "--split",
        metavar="SPLIT",
        help="hold out what another run did: its split.json, or the name of shipped weights",
    )
    _add_device(parser)
    parser.add_argument(
        "--validate-every",
        type=_at_least(1),
        default=500,
        metavar="STEPS",
        help="between validations (default 500)",
    )
    parser.set_defaults(run=_train)
    from llflow.recipe import Recipe

    recipe = parser.add_argument_group("recipe", "the paper's, unless said otherwise")
    for field in fields(Recipe):
        recipe.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            metavar=type(field.default).__name__.upper(),
            help=f"{field.metadata['help']} (default {field.default})",
        )


def _train(args: argparse.Namespace) -> int:
    import logging

    from llflow import checkpoint, data
    from llflow.recipe import Recipe
    from llflow.train import train

    logging.basicConfig(level=logging.INFO, format="llflow train: %(message)s")
    try:
        recipe = Recipe(**{field.name: getattr(args, field.name) for field in fields(Recipe)})
    except ValueError as error:
        raise UsageError(str(error)) from error
    pairs = data.find_pairs(args.data)
    if args.split:
        split = _read_split(args.split)
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
        device=_device(args.device),
        validate_every=args.validate_every,
    )
    if not math.isfinite(best):
        raise ArithmeticError("no validation gave a finite PSNR, so no weights were kept")
    print(f"{args.out / 'best.safetensors'}: validation PSNR {best:.2f} dB")
    return 0
