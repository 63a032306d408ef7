"""`llflow enhance`: brighten pictures."""

from __future__ import annotations

from pathlib import Path

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

EPILOG = """\b
examples:
  llflow enhance dark.jpg
  llflow enhance dark.jpg -o bright.png
  llflow enhance *.jpg
  llflow enhance *.jpg -o bright/
  llflow enhance photos/ -o bright/ --recursive --skip-existing
  llflow enhance dark.jpg --brightness 0.5
  llflow enhance dark.jpg --exposure 0.45 --strength 0.8
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
) -> int:
    """Brighten a picture, several, or a folder of them.

    PNG, JPEG, WebP, BMP, TIFF and AVIF are recognised by content. Without OUT, results lie beside
    the inputs with "_bright" in their names. The last of several paths is OUT if it is a folder or
    doesn't exist; a file that exists is always an input. --overwrite replaces files in OUT only if
    --out names it.
    """
    if skip_existing and overwrite:
        raise click.UsageError("--skip-existing and --overwrite exclude each other.")
    temperature = temperature_of(temperature, samples)

    from tqdm import tqdm

    from llflow import jobs
    from llflow.enhancement import enhance
    from llflow.network import checkpoint
    from llflow.picture import codec

    inputs = [*paths]
    if out is None:
        inputs, out = jobs.inputs_and_out(paths)
        if overwrite and out is not None and out.exists():
            raise click.UsageError(
                f"--overwrite replaces what is in {out} only if --out says so: --out {out}"
            )
    planned = jobs.plan(inputs, out, recursive=recursive)
    model = checkpoint.load(weights or checkpoint.DEFAULT).to(device_of(device)).fold()

    def brighten(picture: codec.Picture) -> codec.Picture:
        bright = enhance(
            model,
            picture.image,
            temperature=temperature,
            samples=samples,
            seed=seed,
            brightness=brightness,
            exposure=exposure,
            strength=strength,
            precision=precision,
        )
        return picture.with_image(bright)

    outcomes = jobs.run(
        planned,
        brighten,
        overwrite=overwrite,
        skip_existing=skip_existing,
        max_pixels=max_pixels or codec.MAX_PIXELS,
    )
    outcomes = list(tqdm(outcomes, total=len(planned), desc="enhancing", unit="picture"))
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    skipped = sum(outcome.skipped for outcome in outcomes)
    done = [outcome for outcome in outcomes if not (outcome.skipped or outcome.problem)]
    where = f" -> {shown(done[0].job.target)}" if len(done) == 1 else ""
    left = f", {skipped} skipped" if skipped else ""
    click.echo(f"{len(done)} enhanced{left}, {len(failed)} failed{where}")
    for outcome in outcomes:
        for what in outcome.lost:
            report(f"{outcome.job.source}: warning: {what}")
    for outcome in failed:
        report(f"{outcome.job.source}: {outcome.problem}")
    return 1 if failed else 0
