"""`llflow evaluate`: score weights on pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llflow.commands.options import (
    PATH,
    Weights,
    data_option,
    device_of,
    precision_option,
    require_unseen,
    sampling,
    shown,
    temperature_of,
)
from llflow.commands.scoring import Figures, figures

if TYPE_CHECKING:
    from llflow.evaluation.evaluate import Scene

EPILOG = """\b
examples:
  llflow evaluate --data LOL/our485 --split tiny440 --weights tiny440
  llflow evaluate --data LOL/eval15 --weights mine.safetensors --json all.json
  llflow evaluate --data PAIRS --weights tiny --weights mine.safetensors
"""


@click.command("evaluate", epilog=EPILOG)
@data_option
@click.option(
    "--weights",
    multiple=True,
    type=Weights(),
    show_default="tiny",
    metavar="W",
    help="Shipped weights by name, or a .safetensors file; once for each.",
)
@sampling
@precision_option("float32", ", as for llflow enhance; figures then differ by machine")
@click.option(
    "--save", type=PATH, metavar="DIR", help="Write the weights' pictures to DIR/WEIGHTS/."
)
@figures
def command(
    folder: Path,
    weights: tuple[str, ...],
    samples: int,
    temperature: float | None,
    seed: int,
    precision: str,
    save: Path | None,
    **options: Any,
) -> None:
    """Score weights on pairs of pictures.

    In every convention that published tables use: PSNR, SSIM and LPIPS, raw and rescaled to the
    reference's brightness (GT-mean), beside the dark input itself and its histogram equalisation.
    docs/evaluation.md and the file of --json define every figure. `llflow compare` scores pictures
    that anything made.
    """
    asked = Figures(**options)
    temperature = temperature_of(temperature, samples)
    for name in weights:
        if weights.count(name) > 1:
            raise click.UsageError(f"--weights names {name} twice.")

    from llflow import data
    from llflow.evaluation import evaluate
    from llflow.network import checkpoint
    from llflow.network.precision import precision_on

    weights = weights or (checkpoint.DEFAULT,)
    require_unseen(weights, asked.split)
    names = asked.names()
    pairs = data.find_pairs(folder)
    files = pairs if names is None else data.named(pairs, names)
    folders = {shown(name): save / _folder(name) for name in weights} if save else {}

    def make() -> tuple[Iterable[Scene], dict[str, Any]]:
        where = device_of(asked.device)
        models = {shown(name): checkpoint.load(name).to(where) for name in weights}
        computed = precision_on(where, precision)
        made = evaluate.enhanced(
            models,
            files,
            temperature=temperature,
            samples=samples,
            seed=seed,
            precision=computed,
        )
        return _saved(made, folders), {
            "data": str(folder),
            "weights": {shown(name): _identified(name) for name in weights},
            "temperature": temperature,
            "samples": samples,
            "seed": seed,
            "precision": computed,
        }

    saved = [place / f"{pair.name}.png" for place in folders.values() for pair in files]
    asked.score(str(folder), files, make, saved)


def _folder(weights: str) -> str:
    """A folder's name for weights, `runs_mine_best` for runs/mine/best.safetensors."""
    file = Path(weights)
    if file.suffix == ".safetensors":
        file = file.with_suffix("")
    return "_".join(part for part in file.parts if part not in (file.anchor, ".."))


def _saved(scenes: Iterable[Scene], folders: dict[str, Path]) -> Iterator[Scene]:
    """The scenes, once their pictures are in the folders of their methods."""
    from llflow.picture.files import Picture, write

    for scene in scenes:
        for method, folder in folders.items():
            picture = Picture(scene.pictures[method])
            write(folder / f"{scene.name}.png", picture)
        yield scene


def _identified(name: str) -> dict[str, Any]:
    from llflow.network import checkpoint

    file = checkpoint.file_of(name)
    identified = {"file": file.name, "sha256": checkpoint.digest(file)}
    trained = checkpoint.trained(file)
    return identified if trained is None else identified | {"trained": trained}
