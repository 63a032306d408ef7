"""`llflow compare`: score pictures that anything made against references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llflow.commands.options import PATH, shown
from llflow.commands.scoring import Figures, figures

EPILOG = """\b
examples:
  llflow compare results/ LOL/eval15/high
  llflow compare results/ LOL/eval15/high --lpips vgg --csv each.csv
"""


@click.command("compare", epilog=EPILOG)
@click.argument("outputs", type=PATH, metavar="OUTPUTS")
@click.argument("reference", type=PATH, metavar="REFERENCE")
@figures
def command(outputs: Path, reference: Path, **options: Any) -> None:
    """Score pictures that anything made against references.

    OUTPUTS and REFERENCE are folders; files belong together by equal names (suffixes may differ).
    The figures are those of `llflow evaluate`: every convention that published tables use,
    which docs/evaluation.md and the file of --json define.
    """
    asked = Figures(**options)

    from llflow.evaluation.evaluate import made, pair_outputs

    files = pair_outputs(outputs, reference, asked.names())
    settings = {"outputs": str(outputs), "reference": str(reference)}
    asked.score(str(outputs), files, lambda: (made(files, shown(outputs)), settings))
