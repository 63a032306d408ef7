"""`llflow score`: which bright picture fits a dark one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llflow.commands.drawing import loaded, opened
from llflow.commands.options import PATH, FiniteRange, Seed, device_option, shown, weights_option

if TYPE_CHECKING:
    from torch import Tensor

BY = ("mismatch", "bits")

EPILOG = """\b
examples:
  llflow score dark.jpg mine.jpg theirs.jpg
  llflow score dark.jpg results/*.png --by bits
  llflow score dark.jpg results/*.png --json
"""


@click.command("score", epilog=EPILOG)
@click.argument("dark", type=PATH, metavar="DARK")
@click.argument("results", type=PATH, nargs=-1, required=True, metavar="RESULT...")
@click.option(
    "--by",
    type=click.Choice(BY),
    default=BY[0],
    show_default=True,
    help="What the order is by; lower is first.",
)
@click.option(
    "--noise",
    type=FiniteRange(min=0),
    default=2.0,
    show_default=True,
    metavar="LEVELS",
    help="Deviation of the noise that is added before, in levels of 8 bits: that of training.",
)
@click.option(
    "--seed", type=Seed(), default=0, show_default=True, metavar="N", help="Of the noise."
)
@weights_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each result.")
def command(
    dark: Path,
    results: tuple[Path, ...],
    by: str,
    noise: float,
    seed: int,
    weights: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Which of several bright pictures, made by anything, fits a dark one best.

    No reference is needed. The mismatch says how far a picture's latents are from what the flow
    expects: noise, blur and false colors raise it. Bits per dimension are -log2 p(RESULT | DARK):
    noise and false colors raise them, but blur lowers them, so that the smoothest picture wins.
    Brightness counts for neither, and is told in stops. docs/flow.md has how often each of them is
    right, and where not.
    """
    from llflow.distribution.likelihood import score
    from llflow.network import checkpoint

    shown_dark = opened(dark).image
    pictures = [opened(result).image for result in results]
    for path, picture in zip(results, pictures, strict=True):
        if picture.shape != shown_dark.shape:
            raise ValueError(
                f"{path}: expected the size of {dark}, {_size(shown_dark)}, got {_size(picture)}"
            )
    found = score(loaded(weights, device), shown_dark, pictures, noise=noise, seed=seed)
    order = sorted(range(len(found)), key=lambda index: getattr(found[index], by))
    if as_json:
        weights = weights or checkpoint.DEFAULT
        same = {"dark": str(dark), "weights": checkpoint.digest(checkpoint.file_of(weights))}
        settings = {"by": by, "noise": noise, "seed": seed}
        for rank, index in enumerate(order):
            of = found[index]
            measured = asdict(of)
            line = {"rank": rank + 1, "result": str(results[index]), **measured, **same}
            click.echo(json.dumps(line | {"settings": settings}))
        return
    click.echo("mismatch   bits/dim   stops  result")
    for index in order:
        of = found[index]
        stops = "      " if of.stops is None else f"{of.stops:+6.2f}"
        click.echo(f"{of.mismatch:8.4f}  {of.bits:9.4f}  {stops}  {shown(results[index])}")


def _size(picture: Tensor) -> str:
    return f"{picture.shape[2]}×{picture.shape[1]}"
