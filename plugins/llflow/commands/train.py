"""`llflow train`: train on pairs."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llflow.commands.options import (
    FROM_ONE,
    PATH,
    data_option,
    device_of,
    device_option,
    read_split,
    shown,
)

if TYPE_CHECKING:
    from llflow.data import PairFiles
    from llflow.training.recipe import Recipe

DEFAULT = "fine-tune"
NO_SPLIT = "none"
RECIPES = sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.toml"))
EPILOG = """\b
examples:
  llflow train --data MYPAIRS
  llflow train --data LOL/our485 --recipe small --out runs/small --device cuda
  llflow train --data LOL/our485 --recipe mine.toml --learning-rate 2e-4
  llflow train --data LOL/our485 --recipe tiny --split none
  torchrun --nproc-per-node 4 -m llflow train --data LOL/our485 --recipe large
"""


class WithSettings(click.Command):
    """A command whose options are its own and every setting of a recipe."""

    @cached_property
    def settings(self) -> list[click.Parameter]:
        from llflow.training.recipe import CHOICES, Recipe

        shipped = asdict(Recipe.read(DEFAULT))
        return [
            _option(field, shipped[field.name], CHOICES.get(field.name)) for field in fields(Recipe)
        ]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self.settings]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        parts = {
            "Options": super().get_params(ctx),
            f"Settings in place of the recipe's [in brackets: {DEFAULT}'s]": self.settings,
        }
        for title, options in parts.items():
            with formatter.section(title):
                formatter.write_dl([r for o in options if (r := o.get_help_record(ctx))])


def _option(field: Any, shipped: Any, choices: Any) -> click.Option:
    name, kind = field.name.replace("_", "-"), type(field.default)
    switch = kind is bool
    is_number = kind in (int, float)
    return click.Option(
        [f"--{name}/--no-{name}" if switch else f"--{name}"],
        default=None,
        type=click.Choice(list(choices)) if choices else kind if switch or is_number else str,
        metavar=None if choices or switch else kind.__name__.upper() if is_number else "TEXT",
        help=f"{field.metadata['help']} [{shipped}]",
    )


@click.command("train", cls=WithSettings, epilog=EPILOG)
@data_option
@click.option(
    "--recipe",
    default=DEFAULT,
    show_default=True,
    metavar="R",
    help=f"A shipped one ({', '.join(RECIPES)}) or a TOML file with the settings below, a line "
    "each.",
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    show_default="runs/NAME-OF-DIR",
    metavar="RUN",
    help="The run's folder.",
)
@click.option(
    "--scenes",
    type=PATH,
    show_default="pictures that look alike",
    metavar="JSON",
    help='Pictures of one scene, which are never split: {"clusters": [["1", "2"], ...]}.',
)
@click.option(
    "--split",
    metavar="SPLIT",
    help="Hold out what another run did: its split.json, or the name of shipped weights; or none: "
    "train on all pairs, validate nothing, and keep the last averaged weights.",
)
@click.option(
    "--allow-leaks",
    is_flag=True,
    help="Go on though validation shows scenes of training, as far as looks tell.",
)
@click.option(
    "--photographs",
    type=PATH,
    metavar="DIR",
    help="Bright ones without dark partners, for --synthetic-share.",
)
@device_option
@click.option(
    "--validate-every",
    type=FROM_ONE,
    show_default="500, or a tenth of a shorter run",
    metavar="STEPS",
    help="Between validations.",
)
@click.option(
    "--save-every",
    type=FROM_ONE,
    default=100,
    show_default=True,
    metavar="STEPS",
    help="Between saves of last.pt.",
)
@click.option("--tensorboard", is_flag=True, help="Write RUN/tensorboard for TensorBoard too.")
def command(
    folder: Path,
    recipe: str,
    out: Path | None,
    scenes: Path | None,
    split: str | None,
    allow_leaks: bool,
    photographs: Path | None,
    device: str,
    validate_every: int | None,
    save_every: int,
    tensorboard: bool,
    **settings: Any,
) -> None:
    """Train on pairs of dark and bright pictures.

    They lie in folders such as low/ and high/ below DIR. By itself it teaches the default weights
    your pairs, in minutes; --recipe small trains a network from scratch. Started again with the
    same settings, a run goes on where it stopped.
    """
    if scenes and split:
        raise click.UsageError("--scenes and --split exclude each other.")

    import logging

    from llflow.training.recipe import Recipe
    from llflow.training.train import train

    logging.basicConfig(format="llflow: %(message)s")
    logging.getLogger("llflow").setLevel(logging.INFO)
    given = {name: value for name, value in settings.items() if value is not None}
    chosen = Recipe(**asdict(Recipe.read(recipe)) | given)
    run = out or Path("runs") / folder.resolve().name
    training, validation = _parts(chosen, folder, run, scenes, split, allow_leaks)
    best = train(
        chosen,
        training,
        validation,
        run,
        photographs=photographs,
        device=device_of(device),
        validate_every=validate_every or min(500, math.ceil(chosen.steps / 10)),
        save_every=save_every,
        tensorboard=tensorboard,
    )
    if best is None:
        weights = shown(run / "last.safetensors")
        click.echo(f"{weights}: trained on all {len(training)} pairs, none held out")
    elif not math.isfinite(best):
        raise ArithmeticError("no validation gave a finite PSNR, so no weights were kept")
    else:
        weights = shown(run / "best.safetensors")
        click.echo(f"{weights}: validation PSNR {best:.2f} dB")
    click.echo(f"use them: llflow enhance dark.jpg --weights {weights}")


def _parts(
    recipe: Recipe,
    folder: Path,
    run: Path,
    scenes: Path | None,
    split: str | None,
    allow_leaks: bool,
) -> tuple[list[PairFiles], list[PairFiles] | None]:
    """Pairs for training and validation: as the run has them, as asked for, by scene; None if none
    are to be held out."""
    from llflow import data

    pairs, goes_on = data.find_pairs(folder), (run / "last.pt").exists()
    if split == NO_SPLIT:
        return pairs, None
    if split or goes_on:
        parts = read_split(split or str(run / "split.json"))
        training, validation = (data.named(pairs, parts[p]) for p in ("training", "validation"))
        if not split and len(training) + len(validation) < len(pairs):
            raise data.DataError(f"{folder}: has pairs that the run in {run} doesn't know")
        if not parts["validation"]:
            return training, None
    else:
        clusters = data.read_clusters(scenes) if scenes else None
        training, validation = data.hold_out(pairs, clusters, recipe.held_out, recipe.seed)
    if (split or scenes) and not (allow_leaks or goes_on):
        data.refuse_leaks(training, validation)
    return training, validation
