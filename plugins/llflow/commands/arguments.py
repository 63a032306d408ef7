"""What the commands' arguments share."""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class UsageError(ValueError):
    """Arguments that don't go together."""


class Parser(argparse.ArgumentParser):
    """Errors in one line; the description is wrapped, the examples after the options aren't."""

    def __init__(self, *, description: str, **options) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(description=textwrap.fill(description, 79), formatter_class=raw, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def fail(args: argparse.Namespace, message: str, code: int = 1) -> int:
    print(f"llflow {args.command}: {shown(message)}", file=sys.stderr)
    return code


def shown(text: object) -> str:
    """`text` in one line, without what a terminal would obey: names of files are anybody's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def at_least(lowest: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"expected a whole number from {lowest}, got {text!r}")
        return int(text)

    return whole_number


def temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0, got {text!r}")
    return value


def add_device(parser: Parser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default auto)"
    )


def device_of(name: str):
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no CUDA device here")
    return torch.device(name)


def add_sampling(parser: Parser) -> None:
    parser.add_argument(
        "--samples", type=at_least(1), default=1, metavar="N", help="average N samples (default 1)"
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        metavar="T",
        help="spread of the samples: 0 takes the most typical latent, 1 draws from the model "
        "(default 0, or 1 with --samples)",
    )


def temperature_of(args: argparse.Namespace) -> float:
    temperature = args.temperature
    if temperature is None:
        temperature = 0.0 if args.samples == 1 else 1.0
    if temperature == 0 and args.samples > 1:
        raise UsageError("at --temperature 0 all samples are the same; leave --samples out")
    return temperature


def read_split(name: str) -> dict[str, list[str]]:
    from llflow import data
    from llflow.network import checkpoint

    shipped = checkpoint.DEFAULTS / f"{name}.split.json"
    return data.read_split(shipped if shipped.exists() else Path(name))
