"""`llflow explain`: where a bright picture is what the flow minds."""

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
from llflow.commands.options import PATH, device_option, shown, weights_option

EPILOG = """\b
examples:
  llflow explain dark.jpg map.png
  llflow explain dark.jpg map.png --result theirs.jpg
  llflow explain dark.jpg map.png --raw norms.npy
"""


@click.command("explain", epilog=EPILOG)
@click.argument("source", type=PATH, metavar="IN")
@click.argument("out", type=PATH, metavar="OUT")
@click.option(
    "--result",
    type=PATH,
    show_default="what llflow enhance makes",
    metavar="FILE",
    help="The bright picture to explain, made of IN by anything.",
)
@click.option("--plain", is_flag=True, help="The map alone, not over the picture.")
@click.option(
    "--raw",
    type=PATH,
    metavar="FILE",
    help="Write the gradient's norm, too, in bits: .npy or .tif, float32.",
)
@weights_option
@device_option
@overwrite_option
def command(
    source: Path,
    out: Path,
    result: Path | None,
    plain: bool,
    raw: Path | None,
    weights: str | None,
    device: str,
    overwrite: bool,
) -> None:
    """Where a change of a bright picture would change its likelihood most.

    The gradient activation map of LLFlow's paper (AAAI 2022, eq. 10): the norm of the likelihood's
    gradient at each pixel, equalised, from black to yellow. It is high where the flow is sure, and
    highest where what is there isn't what it is sure of. docs/flow.md shows what it finds and what
    it doesn't.
    """
    from llflow.distribution.activation import equalized_map, gradient_norm, without_grid
    from llflow.enhancement import enhance
    from llflow.picture.heat import colored, overlaid, with_bar

    require_picture(out)
    sources = [source] if result is None else [source, result]
    prepare([out, *require_raw(raw)], sources, overwrite)
    dark = opened(source).image
    bright = None if result is None else opened(result).image
    if bright is not None and bright.shape != dark.shape:
        sizes = [f"{picture.shape[2]}×{picture.shape[1]}" for picture in (dark, bright)]
        raise ValueError(f"{result}: expected the size of {source}, {sizes[0]}, got {sizes[1]}")
    model = loaded(weights, device)
    if bright is None:
        bright = enhance(model, dark)
    norm = gradient_norm(model, dark, bright)
    values = equalized_map(without_grid(norm))
    heat = colored(values) if plain else overlaid(bright, values)
    if raw is not None:
        write_raw(raw, norm, overwrite)
    title = "the likelihood's gradient, by rank"
    write_drawn(out, with_bar(heat, title, "least", "most"), overwrite)
    click.echo(f"explained -> {shown(out)}")
