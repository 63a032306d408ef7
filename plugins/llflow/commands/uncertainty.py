"""`llflow uncertainty`: where the network guesses."""

from __future__ import annotations

from pathlib import Path

import click

from llflow.commands.drawing import (
    loaded,
    opened,
    overwrite_option,
    prepare,
    require_picture,
    require_raw,
    write_drawn,
    write_raw,
)
from llflow.commands.options import (
    PATH,
    FiniteRange,
    Seed,
    device_option,
    precision_option,
    shown,
    weights_option,
)

PERCENTILE = 99.5

EPILOG = """\b
examples:
  llflow uncertainty dark.jpg spread.png
  llflow uncertainty dark.jpg spread.png --samples 32 --scale 10
  llflow uncertainty dark.jpg spread.png --raw spread.tif
"""


@click.command("uncertainty", epilog=EPILOG)
@click.argument("source", type=PATH, metavar="IN")
@click.argument("out", type=PATH, metavar="OUT")
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
    metavar="N",
    help="How many to draw.",
)
@click.option(
    "--temperature",
    type=FiniteRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="T",
    help="Spread of the samples: 1 draws from the model.",
)
@click.option(
    "--seed", type=Seed(), default=0, show_default=True, metavar="N", help="Of the samples."
)
@click.option(
    "--scale",
    type=FiniteRange(min=0, min_open=True),
    show_default=f"the picture's {PERCENTILE}th percentile",
    metavar="LEVELS",
    help="What the bar ends with, of 255; one for several pictures makes them comparable.",
)
@click.option(
    "--raw",
    type=PATH,
    metavar="FILE",
    help="Write the deviations, too, of values up to 1: .npy or .tif, float32.",
)
@weights_option
@device_option
@precision_option("auto", "")
@overwrite_option
def command(
    source: Path,
    out: Path,
    samples: int,
    temperature: float,
    seed: int,
    scale: float | None,
    raw: Path | None,
    weights: str | None,
    device: str,
    precision: str,
    overwrite: bool,
) -> None:
    """Where the network guesses: how far samples of the bright picture differ at each pixel.

    The standard deviation over samples of one exposure, with a bar that tells the colors. How sure
    the network is of the exposure itself is a single number, which is printed.
    """
    import numpy as np

    from llflow.distribution.spread import exposure_stops, uncertainty
    from llflow.picture.heat import colored, with_bar

    require_picture(out)
    prepare([out, *require_raw(raw)], [source], overwrite)
    dark = opened(source).image
    model = loaded(weights, device)
    spread = uncertainty(
        model, dark, samples=samples, temperature=temperature, seed=seed, precision=precision
    )
    if raw is not None:
        write_raw(raw, spread, overwrite)
    most = scale or max(255 * float(np.percentile(spread.numpy(), PERCENTILE)), 0.1)
    heat = colored(spread * (255 / most))
    title = f"standard deviation over {samples} samples, of 255"
    write_drawn(out, with_bar(heat, title, "0", f"{most:.1f}"), overwrite)
    stops = exposure_stops(model, dark)
    sure = "" if stops is None else f", the exposure within ±{stops:.2f} stops"
    mean = 255 * spread.mean().item()
    click.echo(f"differs by {mean:.1f} of 255 on average{sure} -> {shown(out)}")
