"""`llflow enhance`: brighten pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llflow.commands.options import (
    FROM_ONE,
    PATH,
    Weights,
    device_of,
    device_option,
    light,
    precision_option,
    report,
    sampling,
    shown,
    temperature_of,
)

if TYPE_CHECKING:
    from llflow.jobs import Outcome

# Those of llflow.picture.files, which takes a second to import.
FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"]

EPILOG = """\b
examples:
  llflow enhance dark.jpg
  llflow enhance dark.jpg -o bright.png
  llflow enhance *.jpg
  llflow enhance *.jpg -o bright/
  llflow enhance photos/ -o bright/ --recursive --skip-existing
  llflow enhance dark.jpg --brightness 0.5
  llflow enhance dark.jpg --exposure 0.45 --strength 0.8
  llflow enhance *.tif -o bright/ --depth 16 --suffix _2
  llflow enhance dark.jpg -o mean.png --samples 8 --temperature 0.7
"""


@click.command("enhance", epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="IN... [OUT]")
@click.option(
    "-o",
    "--out",
    type=PATH,
    show_default="beside the inputs",
    metavar="OUT",
    help="The picture to write, or a folder for the results.",
)
@click.option("--recursive", is_flag=True, help="Take folders within folders too.")
@click.option("--skip-existing", is_flag=True, help="Leave finished results alone.")
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@light
@sampling
@click.option(
    "--weights",
    type=Weights(),
    show_default="tiny",
    metavar="W",
    help="Shipped weights by name, or a .safetensors file.",
)
@device_option
@precision_option("auto", "")
@click.option(
    "--max-pixels",
    type=FROM_ONE,
    show_default="50 million",
    metavar="N",
    help="Refuse larger pictures.",
)
@click.option(
    "--suffix",
    show_default="_bright beside the inputs",
    metavar="TEXT",
    help="Add this to the results' names.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS, case_sensitive=False),
    show_default="the input's",
    help="Of the results.",
)
@click.option(
    "--depth",
    type=click.Choice(["8", "16", "32f"]),
    show_default="the input's",
    help="Bits a channel of the results.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    show_default="95, AVIF 90",
    metavar="N",
    help="Of JPEG, WebP and AVIF, 1 to 100.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture.")
@click.option("--dry-run", is_flag=True, help="Say what would be written where, and stop.")
@click.option("--quiet", is_flag=True, help="Print nothing but what failed.")
def command(
    paths: tuple[Path, ...],
    out: Path | None,
    recursive: bool,
    skip_existing: bool,
    overwrite: bool,
    brightness: float,
    exposure: float | str,
    strength: float,
    samples: int,
    temperature: float | None,
    seed: int,
    weights: str | None,
    device: str,
    precision: str,
    max_pixels: int | None,
    suffix: str | None,
    file_format: str | None,
    depth: str | None,
    quality: int | None,
    as_json: bool,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Brighten a picture, several, or a folder of them.

    PNG, JPEG, WebP, BMP, TIFF and AVIF are recognised by content. Without OUT, results lie beside
    the inputs with "_bright" in their names. The last of several paths is OUT if it is a folder or
    doesn't exist; a file that exists is always an input. --overwrite replaces files in OUT only if
    --out names it, and with --suffix none beside the inputs. Depth, color profile and metadata stay
    the input's.
    """
    if skip_existing and overwrite:
        raise click.UsageError("--skip-existing and --overwrite exclude each other.")
    temperature = temperature_of(temperature, samples)

    from tqdm import tqdm

    from llflow import jobs
    from llflow.enhancement import enhance
    from llflow.network import checkpoint
    from llflow.picture import files

    inputs = [*paths]
    if out is None:
        inputs, out = jobs.inputs_and_out(paths)
        if overwrite and out is not None and out.exists():
            raise click.UsageError(
                f"--overwrite replaces what is in {out} only if --out says so: --out {out}"
            )
    if overwrite and out is None and suffix not in (None, jobs.SUFFIX):
        raise click.UsageError(
            f"--overwrite with --suffix {suffix} replaces nothing beside the inputs, where other "
            "pictures may have such names; --out has to say where it may."
        )
    if file_format and out is not None and files.format_of(out) not in (None, file_format):
        raise click.UsageError(f"--format {file_format} and the name {out} exclude each other.")
    planned = jobs.plan(inputs, out, recursive=recursive, suffix=suffix, file_format=file_format)
    if dry_run:
        for job in planned:
            known = None if overwrite or not os.path.lexists(job.target) else "exists"
            said = {"source": str(job.source), "target": str(job.target)}
            said |= {"status": "planned", "reason": job.problem or known}
            why = f" ({said['reason']})" if said["reason"] else ""
            text = shown(f"{job.source} -> {job.target}{why}")
            click.echo(json.dumps(said) if as_json else text)
        return 0
    settings: dict[str, Any] = {
        "temperature": temperature,
        "samples": samples,
        "seed": seed,
        "brightness": brightness,
        "exposure": exposure,
        "strength": strength,
        "precision": precision,
    }
    weights = weights or checkpoint.DEFAULT
    model = checkpoint.load(weights).to(device_of(device)).fold()
    sha256 = checkpoint.digest(checkpoint.file_of(weights)) if as_json else ""

    def brighten(picture: files.Picture) -> files.Picture:
        return picture.with_image(enhance(model, picture.image, **settings))

    coming = jobs.run(
        planned,
        brighten,
        overwrite=overwrite,
        skip_existing=skip_existing,
        max_pixels=max_pixels or files.MAX_PIXELS,
        bits={"8": 8, "16": 16, "32f": files.FLOAT, None: None}[depth],
        quality=quality,
    )
    hidden = quiet or as_json
    bar = tqdm(coming, total=len(planned), desc="enhancing", unit="picture", disable=hidden)
    written = {"depth": depth, "quality": quality}
    outcomes = []
    for outcome in bar:
        outcomes.append(outcome)
        if as_json:
            click.echo(json.dumps(_record(outcome, settings | written, sha256)))
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    skipped = sum(outcome.skipped for outcome in outcomes)
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    where = f" -> {shown(done[0].job.target)}" if len(done) == 1 else ""
    left = f", {skipped} skipped" if skipped else ""
    others = sum(outcome.other for outcome in outcomes)
    left += f", {others} of other kinds left out" if others else ""
    if not hidden:
        click.echo(f"{len(done)} enhanced{left}, {len(failed)} failed{where}")
        for outcome in outcomes:
            for what in outcome.lost:
                report(f"{outcome.job.source}: warning: {what}")
    for outcome in failed:
        report(f"{outcome.job.source}: {outcome.problem}")
    return 1 if failed else 0


def _record(outcome: Outcome, settings: dict[str, Any], sha256: str) -> dict[str, Any]:
    """What became of one picture, as JSON can hold it."""
    return {
        "source": str(outcome.job.source),
        "target": str(outcome.job.target),
        "status": outcome.status,
        "reason": outcome.problem,
        "lost": list(outcome.lost),
        "seconds": round(outcome.seconds, 3),
        "settings": settings,
        "weights": sha256,
    }
