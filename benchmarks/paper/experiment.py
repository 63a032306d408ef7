"""What the paper's experiments share: arguments, pictures, errors in one line, results in files."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from llflow import data
from llflow.atomic import write_atomically
from llflow.commands.options import device_of, read_split, require_unseen, shown
from llflow.errors import UsageError
from llflow.network import checkpoint
from llflow.network.model import LLFlow
from llflow.picture import preprocess

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(f"{error}; pip install 'flowkit[benchmarks]' brings it") from error

sys.path.append(str(Path(__file__).parents[1]))
import measure


class Parser(argparse.ArgumentParser):
    """Errors in one line; the description is wrapped, the example after the options isn't."""

    def __init__(self, *, description: str, **options: Any) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(description=textwrap.fill(description, 79), formatter_class=raw, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


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


def parser(name: str, description: str, example: str) -> Parser:
    """The arguments that every experiment has."""
    parser = Parser(
        prog=f"{name}.py",
        description=description,
        epilog=f"example:\n  python benchmarks/paper/{name}.py {example}\n",
    )
    parser.add_argument(
        "--data", type=path, required=True, metavar="DIR", help="pairs, in low/ and high/ below DIR"
    )
    parser.add_argument(
        "--limit", type=at_least(1), metavar="N", help="take N pictures, evenly spread"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="(default 0)")
    parser.add_argument(
        "--out", type=path, default=Path("benchmarks/results"), help="(default benchmarks/results)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default auto)"
    )
    return parser


def add_weights(parser: Parser) -> None:
    """For experiments on trained weights."""
    parser.add_argument(
        "--weights",
        default=checkpoint.DEFAULT,
        metavar="W",
        help=f"shipped weights by name, or a .safetensors file (default {checkpoint.DEFAULT})",
    )
    parser.add_argument(
        "--split",
        metavar="SPLIT",
        help="take the pairs that were held out only: a run's split.json, or the name of shipped "
        "weights for theirs",
    )


def main(parser: Parser, run: Callable[[argparse.Namespace], None], argv: list[str] | None) -> int:
    """Run, and tell in one line what goes wrong: 0 done, 1 failed, 2 wrong usage."""
    args = parser.parse_args(argv)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out).close()  # refused now rather than after an hour
        run(args)
        return 0
    except KeyboardInterrupt:
        message, code = "interrupted", 130
    except UsageError as error:
        message, code = str(error), 2
    except OSError as error:
        is_named = error.filename is not None and error.strerror is not None
        message, code = f"{error.filename}: {error.strerror}" if is_named else str(error), 1
    except (ValueError, ArithmeticError) as error:
        message, code = str(error), 1
    except (MemoryError, RuntimeError) as error:  # torch's: out of memory, an operation it lacks
        message, code = str(error).partition("\n")[0] or "out of memory", 1
    print(f"{parser.prog}: {shown(message)}", file=sys.stderr)
    return code


def pictures(args: argparse.Namespace) -> list[data.PairFiles]:
    """The pairs that the arguments ask for."""
    files = data.find_pairs(args.data)
    if args.split:
        files = data.named(files, read_split(args.split)["validation"])
    return limited(files, args.limit)


def limited(files: Sequence[data.PairFiles], limit: int | None) -> list[data.PairFiles]:
    """At most `limit` of them, evenly spread."""
    count = min(limit or len(files), len(files))
    return [files[index * len(files) // count] for index in range(count)]


def load(args: argparse.Namespace, weights: str) -> LLFlow:
    """Weights on the device, made cheap; frozen, but a picture's gradient passes through."""
    require_unseen([weights], args.split)
    return checkpoint.load(weights).to(device_of(args.device)).fold()


def in_unit_range(pair: data.Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Dark, equalised and bright picture (3, H, W) in [0, 1]."""
    dark, equalized, bright = (x.float() / 255 for x in (pair.dark, pair.equalized, pair.bright))
    return dark, equalized, bright


def network_input(model: LLFlow, dark: Tensor, equalized: Tensor) -> Tensor:
    """(1, 6, H, W) on the model's device, H and W padded to multiples of 8."""
    low = preprocess.pad(preprocess.network_input(dark, equalized))[None]
    return low.to(next(model.parameters()))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, its first row the titles."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def of_weights(weights: str) -> dict[str, Any]:
    """What says which weights these are."""
    file = Path(weights)
    if weights in checkpoint.shipped():
        file = checkpoint.DEFAULTS / f"{weights}.safetensors"
    return {
        "name": Path(weights).name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "network": asdict(checkpoint.load(weights).config),
    }


def of_pictures(files: Sequence[data.PairFiles]) -> dict[str, Any]:
    """What says which pictures these are: their names, and one SHA-256 over all files."""
    digest = hashlib.sha256()
    for pair in files:
        for file in (pair.dark, pair.bright):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return {"names": [pair.name for pair in files], "sha256": digest.hexdigest()}


def keep(args: argparse.Namespace, name: str, table: str, plot: Figure, **results: Any) -> None:
    """Print the table; write it with all else that the experiment found to NAME.json, and the plot
    to NAME.png, in --out."""
    settings = {
        key: Path(value) if isinstance(value, str) else value for key, value in vars(args).items()
    }
    record = {
        "experiment": name,
        "table": table,
        **results,
        "settings": settings,
        **measure.provenance(),
    }
    measure.write(args.out / f"{name}.json", record)
    draw(plot, args.out / f"{name}.png")
    print(table)


def draw(plot: Figure, file: Path) -> None:
    write_atomically(file, lambda opened: plot.savefig(opened, format="png", dpi=100))
