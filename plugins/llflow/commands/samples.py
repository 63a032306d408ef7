"""`llflow samples`: a sheet of what a dark picture may have been."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from llflow.commands.drawing import (
    loaded,
    opened,
    overwrite_option,
    prepare,
    require_picture,
    write_drawn,
)
from llflow.commands.options import (
    FROM_ONE,
    PATH,
    Exposure,
    FiniteRange,
    Seed,
    device_option,
    precision_option,
    shown,
    weights_option,
)

EPILOG = """\b
examples:
  llflow samples dark.jpg sheet.jpg
  llflow samples dark.jpg sheet.jpg --samples 4 --brightness -1,-0.5,0,0.5,1
  llflow samples dark.jpg sheet.jpg --save singles/
"""


class Stops(click.ParamType):
    """Several brightnesses, with commas between."""

    name = "stops"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if not isinstance(value, str):
            return value
        try:
            stops = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers with commas between, got {value!r}", param, ctx)
        if not all(math.isfinite(each) and abs(each) <= 10 for each in stops):
            self.fail(f"expected numbers from -10 to 10, got {value!r}", param, ctx)
        if len(set(stops)) < len(stops):
            self.fail(f"expected each number once, got {value!r}", param, ctx)
        return stops


@click.command("samples", epilog=EPILOG)
@click.argument("source", type=PATH, metavar="IN")
@click.argument("out", type=PATH, metavar="OUT")
@click.option(
    "--samples",
    type=FROM_ONE,
    default=3,
    show_default=True,
    metavar="N",
    help="Rows: samples of the texture.",
)
@click.option(
    "--brightness",
    type=Stops(),
    default="-1,0,1",
    show_default=True,
    metavar="STOPS,...",
    help="Columns: 1 is twice the light, 0 what the network deems typical.",
)
@click.option(
    "--temperature",
    type=FiniteRange(min=0),
    show_default="1, or 0 with --samples 1",
    metavar="T",
    help="Spread of the samples: 0 takes the most typical latent, 1 draws from the model.",
)
@click.option(
    "--seed", type=Seed(), default=0, show_default=True, metavar="N", help="Of the samples."
)
@click.option(
    "--exposure",
    type=Exposure(),
    default="auto",
    show_default=True,
    metavar="MEAN",
    help="Mean of the column 0, between 0 and 1; auto leaves it to the network.",
)
@click.option(
    "--save",
    type=PATH,
    metavar="DIR",
    help="Write the single pictures, too: DIR/IN_2_+0.5.jpg for sample 2 at +0.5 stops.",
)
@weights_option
@device_option
@precision_option("auto", "")
@overwrite_option
def command(
    source: Path,
    out: Path,
    samples: int,
    brightness: tuple[float, ...],
    temperature: float | None,
    seed: int,
    exposure: float | str,
    save: Path | None,
    weights: str | None,
    device: str,
    precision: str,
    overwrite: bool,
) -> None:
    """A sheet of what a dark picture may have been.

    The bright picture isn't determined by the dark one: rows are samples of its texture, columns
    are brightnesses. The network's encoder runs once for the whole sheet.
    """
    if temperature is None:
        temperature = 0.0 if samples == 1 else 1.0
    if temperature == 0 and samples > 1:
        raise click.UsageError("At --temperature 0 all samples are the same; --samples 1 is one.")

    from llflow.enhancement import variants
    from llflow.picture import files
    from llflow.picture.sheet import contact_sheet, in_stops

    require_picture(out)
    dark = opened(source)
    singles: list[list[Path]] = []
    if save is not None:
        ending = files.SUFFIXES[dark.format][0]
        singles = [
            [
                save / f"{source.stem}_{row + 1}_{in_stops(stops).split()[0]}{ending}"
                for stops in brightness
            ]
            for row in range(samples)
        ]
    prepare([out, *(path for row in singles for path in row)], [source], overwrite)
    made = variants(
        loaded(weights, device),
        dark.image,
        brightness,
        samples=samples,
        temperature=temperature,
        seed=seed,
        exposure=exposure,
        precision=precision,
    )
    for paths, pictures in zip(singles, made, strict=False):
        for path, picture in zip(paths, pictures, strict=True):
            files.write(path, dark.with_image(picture), overwrite=overwrite)
    rows = [f"sample {row + 1}" for row in range(samples)]
    columns = [in_stops(stops) for stops in brightness]
    write_drawn(out, contact_sheet(made, rows=rows, columns=columns), overwrite)
    also = f", {samples * len(brightness)} pictures in {shown(save)}" if save else ""
    of = f"{samples} sample{'s' * (samples != 1)}"
    at = f"{len(brightness)} brightness{'es' * (len(brightness) != 1)}"
    click.echo(f"{of} at {at} -> {shown(out)}{also}")
