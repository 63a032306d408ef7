"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from llflow.errors import UsageError

if TYPE_CHECKING:
    import torch

    from llflow.settings import Settings

# Those of llflow.picture.files, which takes a second to import.
FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"]


class PathText(click.Path):
    """A path that names something: no empty text, and `-` only where a stream is taken."""

    def __init__(self, *, stream: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.stream = stream

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("expected a path, got an empty text", param, ctx)
        if value == "-" and not self.stream:
            message = "expected a path, got '-': standard input and output aren't read or written"
            self.fail(message, param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """click's, which lets NaN and infinity pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} isn't a finite number", param, ctx)
        return number


class Seed(click.types.IntParamType):
    """Of 64 bits, as PyTorch's generators have them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seed = super().convert(value, param, ctx)
        if not -(2**63) <= seed < 2**63:
            self.fail(f"expected a whole number of 64 bits, got {seed}", param, ctx)
        return seed


class Exposure(click.ParamType):
    """auto, or a mean between 0 and 1."""

    name = "exposure"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        try:
            mean = float(value)
        except ValueError:
            mean = math.nan
        if not 0 < mean < 1:
            self.fail(f"{value!r} is neither auto nor a number between 0 and 1", param, ctx)
        return mean


class Shipped(click.ParamType):
    """What comes with the package, by name, or a file of its kind."""

    folder, ending = "", ""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        shipped = (Path(__file__).parents[1] / self.folder).glob(f"{incomplete}*{self.ending}")
        names = [CompletionItem(path.stem) for path in sorted(shipped)]
        return names or [CompletionItem(incomplete, type="file")]


class Weights(Shipped):
    """Weights by name or file."""

    name, folder, ending = "weights", "weights", ".safetensors"


class Preset(Shipped):
    """Settings by name or file."""

    name, folder, ending = "preset", "presets", ".toml"


class Bytes(click.ParamType):
    """A size: bytes, or 800M, 2G, in units of a thousand as memory is sold."""

    name = "size"
    units: ClassVar = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)i?B?", value.strip(), re.IGNORECASE)
        size = int(float(found[1]) * self.units[found[2].upper()]) if found else 0
        if size < 1:
            self.fail(f"expected a size such as 800M or 2G, got {value!r}", param, ctx)
        return size


STREAM_OR_PATH = PathText(path_type=Path, readable=False, stream=True)
PATH = PathText(path_type=Path, readable=False)  # what can't be read is named in its turn
FROM_ONE = click.IntRange(min=1)
FROM_ZERO = click.IntRange(min=0)

Decorator = Callable[[Callable], Callable]


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, listed in help as they are here."""

    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


data_option = click.option(
    "--data",
    "folder",
    type=PATH,
    required=True,
    metavar="DIR",
    help="The pairs, dark and bright.",
)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
weights_option = click.option(
    "--weights",
    type=Weights(),
    show_default="tiny",
    metavar="W",
    help="Shipped weights by name, or a .safetensors file.",
)
sampling = together(
    click.option(
        "--samples",
        type=FROM_ONE,
        default=1,
        show_default=True,
        metavar="N",
        help="Average N samples.",
    ),
    click.option(
        "--temperature",
        type=FiniteRange(min=0),
        show_default="0, or 1 with --samples",
        metavar="T",
        help="Spread of the samples: 0 takes the most typical latent, 1 draws from the model.",
    ),
    click.option(
        "--seed", type=Seed(), default=0, show_default=True, metavar="N", help="Of the samples."
    ),
)


light = together(
    click.option(
        "--brightness",
        type=FiniteRange(-10, 10),
        default=0.0,
        show_default=True,
        metavar="STOPS",
        help="Make results brighter, or darker below 0: 1 is twice the light.",
    ),
    click.option(
        "--exposure",
        type=Exposure(),
        default="auto",
        show_default=True,
        metavar="MEAN",
        help="Mean of each result, between 0 and 1, before --brightness; auto leaves it to the "
        "network.",
    ),
    click.option(
        "--strength",
        type=FiniteRange(0, 1),
        default=1.0,
        show_default=True,
        metavar="SHARE",
        help="Of the result, blended with the input in linear light; 0 is the input.",
    ),
)


preset_option = click.option(
    "--preset",
    type=Preset(),
    metavar="NAME",
    help="Settings by name (bright, smooth, subtle) or from a TOML file; options given here win.",
)
output = together(
    click.option(
        "--format",
        type=click.Choice(FORMATS, case_sensitive=False),
        show_default="the input's",
        help="Of the results.",
    ),
    click.option(
        "--depth",
        type=click.Choice(["8", "16", "32f"]),
        show_default="the input's",
        help="Bits a channel of the results.",
    ),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        show_default="95, AVIF 90",
        metavar="N",
        help="Of JPEG, WebP and AVIF, 1 to 100.",
    ),
)


def settings_of(preset: str | None, given: dict[str, Any]) -> Settings:
    """The preset's settings, and instead of them what was typed."""
    from llflow.settings import Settings

    source = click.get_current_context().get_parameter_source
    typed = {
        name: value for name, value in given.items() if source(name) is not ParameterSource.DEFAULT
    }
    return Settings(**typed) if preset is None else Settings.read(preset, **typed)


def precision_option(default: str, help: str) -> Decorator:
    """PRECISIONS of llflow.network.precision, which takes a second to import."""
    return click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bf16"]),
        default=default,
        show_default=True,
        help=f"Of the networks; auto is bf16 where the processor computes in it{help}.",
    )


def max_pixels_option(default: str) -> Decorator:
    return click.option(
        "--max-pixels",
        type=FROM_ONE,
        show_default=default,
        metavar="N",
        help="Refuse larger pictures.",
    )


def device_of(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no CUDA device here")
    return torch.device(name)


def temperature_of(temperature: float | None, samples: int) -> float:
    if temperature is None:
        temperature = 0.0 if samples == 1 else 1.0
    if temperature == 0 and samples > 1:
        raise click.UsageError("At --temperature 0 all samples are the same; leave --samples out.")
    return temperature


def read_split(name: str) -> dict[str, list[str]]:
    """The names of a split's parts: shipped weights' by their name, else a file's."""
    from llflow import data
    from llflow.network import checkpoint

    shipped = checkpoint.DEFAULTS / f"{name}.split.json"
    return data.read_split(shipped if shipped.exists() else Path(name))


def require_unseen(weights: Iterable[str], split: str | None) -> None:
    """Refuse shipped weights, by name or by a file of the same bytes, on pictures that a shipped
    split held out and they have seen.

    Raises:
        UsageError: they have, so what they make of them says nothing of other pictures.
    """
    from llflow.network import checkpoint

    if split not in checkpoint.shipped():
        return
    held_out = {*read_split(split)["validation"]}
    files = {checkpoint.digest(checkpoint.file_of(name)): name for name in checkpoint.shipped()}
    for name in weights:
        file = checkpoint.file_of(name)
        known = files.get(checkpoint.digest(file)) if file.is_file() else None
        if known and held_out & {*read_split(known)["training"]}:
            raise UsageError(
                f"{name} was trained on what {split} held out, and can't be judged by it; "
                f"--weights {split} can"
            )


def refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a file to write")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists (--overwrite replaces it)")


def report(message: object) -> None:
    """Say in one line what went wrong."""
    click.echo(f"llflow: {shown(message)}", err=True)


def shown(text: object) -> str:
    """`text` in one line, without what a terminal would obey: names of files are anybody's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
